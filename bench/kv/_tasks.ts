/** Documents and questions about them, cut into the part that is compressed and the part that asks. */
import { taskRng } from "../../models/recipe/rng.ts";
import { sample, type Task } from "../../models/recipe/task.ts";
import { addSteps } from "../../models/recipe/tasks/add_steps.ts";
import { copy } from "../../models/recipe/tasks/copy.ts";
import { json } from "../../models/recipe/tasks/json.ts";
import { recall12, recall16, recallLong, recallTask } from "../../models/recipe/tasks/recall.ts";
import { sql } from "../../models/recipe/tasks/sql.ts";
import { storyQa } from "../../models/recipe/tasks/story_qa.ts";
import { storySentence } from "../../models/recipe/words.ts";
import type { Vocab } from "../../runtime/mod.ts";

/** One question about a document. */
export interface Question {
  readonly tokens: readonly number[];
  readonly answer: string;
}

/** A document with questions. */
export interface Document {
  /** Name of its generator. */
  readonly cell: string;
  readonly tokens: readonly number[];
  readonly questions: readonly Question[];
}

/** A measured task. */
export interface KvTask {
  readonly name: string;
  /** Taken in turn; more than one: a grid, whose cells are reported too. */
  readonly generators: readonly Task[];
  /** Questions per document, drawn with replacement, each asked of a fork of its own. */
  readonly questions: number;
  /** hidden = the document is compressed before the question is known; visible = after. */
  readonly question: "hidden" | "visible";
  /** Documents per document asked for on the command line. @default 1 */
  readonly share?: number;
  /** Longest answer in tokens. @default 16 */
  readonly most?: number;
}

const single = recallTask({ name: "passkey", pairs: [1, 1], filler: [0, 0], maxChars: 930 });

/** One fact at a depth (0 = first, 1 = last) of about `tokens` tokens of filler. */
function passkey(tokens: number, depth: number): Task {
  const charsPerToken = 3.4;
  return {
    ...single,
    name: `${tokens} tokens, depth ${depth}`,
    generate(rng, split) {
      const { messages, answer } = single.generate(rng, split);
      const [head, fact, ask] = messages[0].content.match(/^(Facts:) (.*)\n(.*)$/)!.slice(1);
      const filler: string[] = [];
      while (filler.join(" ").length < charsPerToken * tokens - 80) filler.push(storySentence(rng));
      filler.splice(Math.round(depth * filler.length), 0, fact!);
      return sample("passkey", `${head} ${filler.join(" ")}\n${ask}`, answer);
    },
  };
}

const GRID = [128, 256, 512].flatMap((tokens) =>
  [0, 0.25, 0.5, 0.75, 1].map((depth) => passkey(tokens, depth))
);

/** Half of the samples of recall have a separator after each value; these are one of the halves. */
function halfOf(task: Task, separated: boolean): Task {
  return {
    ...task,
    name: `${separated ? "a" : "no"} separator after values`,
    generate(rng, split) {
      for (;;) {
        const made = task.generate(rng, split);
        const fact = made.messages[0].content.match(/(?: = \w+|code for \w+ is \w+)(\.?)/);
        if ((fact?.[1] === ".") === separated) return made;
      }
    },
  };
}

const one = { questions: 1, question: "hidden" } as const;

export const TASKS: readonly KvTask[] = [
  { name: "recall", generators: [recall12], ...one },
  { name: "multi-fact", generators: [recall16], questions: 4, question: "hidden", share: 0.5 },
  { name: "passkey", generators: GRID, ...one },
  { name: "recall, question visible", generators: [recall12], ...one, question: "visible" },
];

const seen = { questions: 1, question: "visible", most: 96 } as const;

/** Beside {@link TASKS}, for parts that were trained on some of them. */
export const OTHER_TASKS: readonly KvTask[] = [
  {
    name: "recall by separators",
    generators: [true, false].map((own) => halfOf(recall12, own)),
    ...one,
  },
  { name: "recall, long", generators: [recallLong], ...one },
  { name: "story questions", generators: [storyQa], ...one },
  { name: "JSON", generators: [json], ...seen },
  { name: "SQL", generators: [sql], ...seen },
  { name: "copying", generators: [copy], ...seen },
  { name: "worked addition", generators: [addSteps], ...seen },
];

/** Tokens that open an answer. They follow the compressed part, so that no answer comes from a full cache. */
const ANSWER_HEAD = 3;

/** About `count` documents of a seed; the same call gives the same ones. Held out: the generators' test split. */
export function documents(task: KvTask, count: number, seed: number, vocab: Vocab): Document[] {
  const rng = taskRng(`kv ${task.name} ${seed}`);
  const { generators } = task;
  const rounds = Math.ceil(count * (task.share ?? 1) / generators.length);
  return Array.from({ length: rounds * generators.length }, (_, i) => {
    const generator = generators[i % generators.length]!;
    const first = generator.generate(rng, "test");
    const asked = [{ ask: first.messages[0].content, answer: first.answer }];
    const body = asked[0]!.ask.slice(0, asked[0]!.ask.lastIndexOf("\n"));
    for (let q = 1; q < task.questions; q++) {
      const { ask, answer } = generator.again!(rng, asked[0]!.ask);
      asked.push({ ask: `${body}\n${ask}`, answer });
    }
    const all = asked.map(({ ask }) => vocab.chat!.encode([{ role: "user", content: ask }]));
    const cut = task.question === "visible"
      ? all[0]!.length - ANSWER_HEAD
      : cutOf(all[0]!, body, vocab);
    return {
      cell: generator.name,
      tokens: all[0]!.slice(0, cut),
      questions: all.map((tokens, q) => ({ tokens: tokens.slice(cut), answer: asked[q]!.answer })),
    };
  });
}

/** How many leading tokens do not depend on what is asked. */
function cutOf(tokens: readonly number[], body: string, vocab: Vocab): number {
  const other = vocab.chat!.encode([{ role: "user", content: `${body}\nIs it so?` }]);
  let cut = 0;
  while (cut < tokens.length && tokens[cut] === other[cut]) cut++;
  return cut;
}

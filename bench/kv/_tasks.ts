/** Documents and questions about them, cut into the part that is compressed and the part that asks. */
import { taskRng } from "../../models/recipe/rng.ts";
import type { Task } from "../../models/recipe/task.ts";
import { recall12, recall16, recallTask } from "../../models/recipe/tasks/recall.ts";
import type { Vocab } from "../../runtime/mod.ts";

/** One question about a document. */
export interface Question {
  readonly tokens: readonly number[];
  readonly answer: string;
}

/** A document with questions. */
export interface Document {
  readonly tokens: readonly number[];
  readonly questions: readonly Question[];
}

/** A measured task. */
export interface KvTask {
  readonly name: string;
  readonly generator: Task;
  /** Questions per document, drawn with replacement, each asked of a fork of its own. */
  readonly questions: number;
  /** hidden = the document is compressed before the question is known; visible = after. */
  readonly question: "hidden" | "visible";
}

const passkey = recallTask({ name: "passkey", pairs: [1, 1], filler: [40, 40], maxChars: 930 });

export const TASKS: readonly KvTask[] = [
  { name: "recall", generator: recall12, questions: 1, question: "hidden" },
  { name: "passkey", generator: passkey, questions: 1, question: "hidden" },
  { name: "multi-fact", generator: recall16, questions: 4, question: "hidden" },
  { name: "recall, question visible", generator: recall12, questions: 1, question: "visible" },
];

/** Tokens that open an answer. They follow the compressed part, so that no answer comes from a full cache. */
const ANSWER_HEAD = 3;

/** The documents of a seed; the same call gives the same ones. Held out: the generators' test split. */
export function documents(task: KvTask, count: number, seed: number, vocab: Vocab): Document[] {
  const rng = taskRng(`kv ${task.name} ${seed}`);
  return Array.from({ length: count }, () => {
    const first = task.generator.generate(rng, "test");
    const asked = [{ ask: first.messages[0].content, answer: first.answer }];
    const body = asked[0]!.ask.slice(0, asked[0]!.ask.lastIndexOf("\n"));
    for (let q = 1; q < task.questions; q++) {
      const { ask, answer } = task.generator.again!(rng, asked[0]!.ask);
      asked.push({ ask: `${body}\n${ask}`, answer });
    }
    const all = asked.map(({ ask }) => vocab.chat!.encode([{ role: "user", content: ask }]));
    const cut = task.question === "visible"
      ? all[0]!.length - ANSWER_HEAD
      : cutOf(all[0]!, body, vocab);
    return {
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

import { sample, type Split, type Task } from "../task.ts";
import type { TaskRng } from "../rng.ts";
import { COLOURS, FIRST, NOUNS, PLACES, proper } from "../words.ts";

const VERBS = ["taken", "found", "lost", "hidden", "seen"] as const;
const EXTRA = [
  "It was a sunny day.",
  "Everyone was happy.",
  "Then it began to rain.",
  "They all went home.",
  "A small wind came up.",
];

/** Lines of the story, shuffled: who did something to a thing, where they were, what they had. */
function story(rng: TaskRng, split: Split): string[] {
  const count = rng.between(2, 4);
  const names = new Set<string>();
  while (names.size < count) names.add(proper(rng, split, FIRST));
  const nouns = rng.sample(NOUNS, 2 * count);
  const places = rng.sample(PLACES, count);
  const lines = [...names].flatMap((who, i) => [
    `The ${rng.pick(COLOURS)} ${nouns[i]} was ${rng.pick(VERBS)} by ${who}.`,
    `${who} was in the ${places[i]}.`,
    `${who} had a ${rng.pick(COLOURS)} ${nouns[count + i]}.`,
  ]);
  const kept = rng.sample(lines, rng.between(count + 1, lines.length));
  for (let i = rng.int(3); i > 0; i--) kept.splice(rng.int(kept.length + 1), 0, rng.pick(EXTRA));
  return kept;
}

/** How a line can be asked for; the answer is the line without its full stop. */
const KINDS: readonly (readonly [line: RegExp, ask: string])[] = [
  [/^The (\w+ \w+) was (\w+) by \w+\.$/, "Who was the $1 $2 by?"],
  [/^([A-Z]\w+) was in the \w+\.$/, "Where was $1?"],
  [/^([A-Z]\w+) had a \w+ \w+\.$/, "What did $1 have?"],
];

function questionOf(line: string): string | undefined {
  const kind = KINDS.find(([pattern]) => pattern.test(line));
  return kind && line.replace(kind[0], kind[1]);
}

function ask(rng: TaskRng, lines: readonly string[]): string {
  return rng.pick(lines.flatMap((line) => questionOf(line) ?? []));
}

const linesOf = (question: string) => (question.split("\n")[0] ?? "").split(/(?<=\.) /);

function answer(question: string): string {
  const asked = question.slice(question.lastIndexOf("\n") + 1);
  const line = linesOf(question).find((line) => questionOf(line) === asked);
  if (line === undefined) throw new Error("no such event in the story");
  return line.slice(0, -1);
}

/** Who, where or what in a story about two to four people; answered by a sentence of the story. */
export const storyQa: Task = {
  name: "qa",
  generate(rng, split) {
    const lines = story(rng, split);
    const question = `${lines.join(" ")}\n${ask(rng, lines)}`;
    return sample("qa", question, answer(question));
  },
  solve: answer,
  again(rng, question) {
    const next = ask(rng, linesOf(question));
    return { ask: next, answer: answer(`${question.split("\n")[0]}\n${next}`) };
  },
  values(question) {
    const people = linesOf(question).flatMap((line) => [
      ...line.matchAll(/by ([A-Z]\w+)\.|^([A-Z]\w+) (?:had|was in)/g),
    ]);
    return people.map((found) => found[1] ?? found[2] ?? "");
  },
};

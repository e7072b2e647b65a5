import { drawIn, sample, type Task } from "../task.ts";
import { NOUNS } from "../words.ts";

const ordered = (items: readonly string[]): string[] =>
  [...items].sort((a, b) => /^\d/.test(a) ? Number(a) - Number(b) : a < b ? -1 : 1);

const key = (items: readonly string[]) => ordered(items).join(" ");

/** Sorts three to seven different numbers below 100, or three to six words. */
export const sort: Task = {
  name: "sort",
  generate(rng, split) {
    const numbers = rng.chance(0.5);
    const all = numbers ? Array.from({ length: 100 }, (_, i) => String(i)) : NOUNS;
    const items = drawIn(split, () => rng.sample(all, rng.between(3, numbers ? 7 : 6)), key);
    const kind = numbers ? "numbers" : "words";
    return sample("sort", `Sort these ${kind}: ${items.join(" ")}`, key(items));
  },
  solve: (question) => key(question.slice(question.indexOf(": ") + 2).split(" ")),
  values: (question) => [key(question.slice(question.indexOf(": ") + 2).split(" "))],
};

import { drawIn, sample, type Task } from "../task.ts";
import type { TaskRng } from "../rng.ts";

/** Whole number with `digits` digits. */
const digitsOf = (rng: TaskRng, digits: number) =>
  rng.between(digits === 1 ? 0 : 10 ** (digits - 1), 10 ** digits - 1);

/** Both orders of two operands fall into the same split. */
export const pairKey = (a: number, b: number) => `${Math.min(a, b)}+${Math.max(a, b)}`;

export function operands(question: string): [number, number] {
  const found = question.match(/(\d+) \+ (\d+)/);
  if (!found) throw new Error("no sum in the question");
  return [Number(found[1]), Number(found[2])];
}

/** Addition answered at once: two digits mostly, one and three digits now and then. */
export const add: Task = {
  name: "add",
  generate(rng, split) {
    const [a, b] = drawIn(split, () => {
      const size = () => (rng.chance(0.75) ? 2 : rng.pick([1, 3]));
      const n = size();
      return [digitsOf(rng, n), digitsOf(rng, rng.chance(0.8) ? n : size())] as const;
    }, ([a, b]) => pairKey(a, b));
    return sample("add", `What is ${a} + ${b}?`, String(a + b));
  },
  solve(question) {
    const [a, b] = operands(question);
    return String(a + b);
  },
  values: (question) => [pairKey(...operands(question))],
};

/** Two operands of exactly two digits: the held-out measure of the model card. */
export const addTwoDigits: Task = {
  ...add,
  name: "add_2digit",
  generate(rng, split) {
    const [a, b] = drawIn(
      split,
      () => [rng.between(10, 99), rng.between(10, 99)] as const,
      ([a, b]) => pairKey(a, b),
    );
    return sample("add_2digit", `What is ${a} + ${b}?`, String(a + b));
  },
};

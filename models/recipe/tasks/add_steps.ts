import { drawIn, sample, type Task } from "../task.ts";
import { operands, pairKey } from "./add.ts";

/**
 * Column addition from the right. A line is `digit+digit+carry=sum`; the last line reads the digits
 * off from left to right.
 */
function worked(a: number, b: number): string {
  const width = Math.max(String(a).length, String(b).length);
  const digit = (n: number, i: number) => Math.floor(n / 10 ** i) % 10;
  let carry = 0;
  let steps = "";
  for (let i = 0; i < width; i++) {
    const sum = digit(a, i) + digit(b, i) + carry;
    steps += `${digit(a, i)}+${digit(b, i)}+${carry}=${sum}\n`;
    carry = sum > 9 ? 1 : 0;
  }
  return `${steps}Answer: ${a + b}`;
}

/** Addition of two to five digits with the steps written out. */
export const addSteps: Task = {
  name: "add_steps",
  generate(rng, split) {
    const [a, b] = drawIn(split, () => {
      const high = 10 ** rng.between(2, 5) - 1;
      return [rng.between(Math.floor(high / 10) + 1, high), rng.between(10, high)] as const;
    }, ([a, b]) => pairKey(a, b));
    return sample("add_steps", `Add step by step: ${a} + ${b}`, worked(a, b));
  },
  solve: (question) => worked(...operands(question)),
  values: (question) => [pairKey(...operands(question))],
};

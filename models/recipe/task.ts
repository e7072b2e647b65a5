import { hash32, type TaskRng } from "./rng.ts";

export type Split = "train" | "test";

/** One chat example with an exact answer. */
export interface Sample {
  readonly task: string;
  readonly messages: readonly [
    { readonly role: "user"; readonly content: string },
    { readonly role: "assistant"; readonly content: string },
  ];
  readonly answer: string;
}

/** A generator of examples and the trivial program that answers them. */
export interface Task {
  readonly name: string;
  generate(rng: TaskRng, split: Split): Sample;
  /** Answer worked out from the question alone; proves that every example is answerable. */
  solve(question: string): string;
  /** Surface values of a question (operands, names, pairs, ...) that no two splits share. */
  values(question: string): readonly string[];
}

export function sample(task: string, question: string, answer: string): Sample {
  return {
    task,
    messages: [{ role: "user", content: question }, { role: "assistant", content: answer }],
    answer,
  };
}

/** A tenth of all surface values is held out, by hash. */
export function splitOf(value: string): Split {
  return hash32(value) % 10 === 0 ? "test" : "train";
}

/** Draws until the value belongs to the split. */
export function drawIn<T>(split: Split, draw: () => T, key: (value: T) => string): T {
  for (let i = 0; i < 10_000; i++) {
    const value = draw();
    if (splitOf(key(value)) === split) return value;
  }
  throw new Error(`no value of the ${split} split in 10,000 draws`);
}

import { hash32, type TaskRng } from "./rng.ts";

export type Split = "train" | "test";

interface Turn<Role extends string> {
  readonly role: Role;
  readonly content: string;
}
type Exchange = readonly [Turn<"user">, Turn<"assistant">];

/** One chat example with an exact answer to the first question. */
export interface Sample {
  readonly task: string;
  readonly messages: readonly [...Exchange, ...Turn<"user" | "assistant">[]];
  readonly answer: string;
}

/** A generator of examples and the trivial program that answers them. */
export interface Task {
  readonly name: string;
  generate(rng: TaskRng, split: Split): Sample;
  /** Answer worked out from the question alone; proves that every example is answerable. */
  solve(question: string): string;
  /**
   * Another question about the same facts, drawn with replacement, so that a training sample can go
   * on for several turns. Absent where a question stands alone.
   */
  again?(rng: TaskRng, question: string): { readonly ask: string; readonly answer: string };
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

/** The sample with further questions about the same facts, for tasks that have them. */
export function extend(task: Task, first: Sample, rng: TaskRng, turns: number): Sample {
  const more = Array.from({ length: task.again ? turns : 0 }, () => {
    const next = task.again?.(rng, first.messages[0].content);
    return [
      { role: "user" as const, content: next?.ask ?? "" },
      { role: "assistant" as const, content: next?.answer ?? "" },
    ];
  });
  return { ...first, messages: [...first.messages, ...more.flat()] };
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

/** Held-out accuracy: free-running greedy answers, exact match. Pure but for the `complete` it is given. */
import type { Sample, Task } from "./recipe/task.ts";
import { taskRng } from "./recipe/rng.ts";

/** Answers a chat with plain text. */
export type Complete = (messages: readonly [Sample["messages"][0]]) => Promise<string>;

/** Accuracy of one model on one task. */
export interface TaskScore {
  readonly task: string;
  readonly right: number;
  readonly count: number;
  /** right / count. */
  readonly accuracy: number;
  /** Wilson score interval, 95 %. */
  readonly low: number;
  readonly high: number;
}

export interface EvaluateOptions {
  readonly tasks: readonly Task[];
  /** Samples per task. */
  readonly count: number;
  /** Names the test samples; training and validation use other seeds. */
  readonly seed: string;
  /** Answers asked for at the same time. */
  readonly parallel: number;
  readonly onProgress?: (done: number, all: number) => void;
}

/**
 * Wilson score interval of `right` successes in `count` trials at 95 %.
 *
 * Source: E. B. Wilson, "Probable inference, the law of succession, and statistical inference", 1927.
 * @throws {RangeError} unless 0 <= right <= count and count > 0
 */
export function wilson(right: number, count: number): { low: number; high: number } {
  if (!(count > 0 && right >= 0 && right <= count)) throw new RangeError("0 <= right <= count > 0");
  const z = 1.959964;
  const p = right / count;
  const scale = 1 + z * z / count;
  const middle = (p + z * z / (2 * count)) / scale;
  const half = z * Math.sqrt(p * (1 - p) / count + z * z / (4 * count * count)) / scale;
  return { low: Math.max(0, middle - half), high: Math.min(1, middle + half) };
}

/** The test samples of a task under a seed name; the same call gives the same samples. */
export function testSamples(task: Task, count: number, seed: string): Sample[] {
  const rng = taskRng(`${seed} ${task.name}`);
  return Array.from({ length: count }, () => task.generate(rng, "test"));
}

/** Scores every task. Rejects with the first error of `complete`. */
export async function evaluate(complete: Complete, options: EvaluateOptions): Promise<TaskScore[]> {
  const { tasks, count, seed, parallel, onProgress } = options;
  const jobs = tasks.flatMap((task) =>
    testSamples(task, count, seed).map((sample) => ({ task: task.name, sample }))
  );
  const right = new Map(tasks.map((task) => [task.name, 0]));
  let next = 0;
  let done = 0;
  const worker = async () => {
    for (let job = jobs[next++]; job !== undefined; job = jobs[next++]) {
      const text = await complete([job.sample.messages[0]]);
      if (text === job.sample.answer) right.set(job.task, (right.get(job.task) ?? 0) + 1);
      onProgress?.(++done, jobs.length);
    }
  };
  await Promise.all(Array.from({ length: parallel }, worker));
  return [...right].map(([task, right]) => ({
    task,
    right,
    count,
    accuracy: right / count,
    ...wilson(right, count),
  }));
}

/** What the parts of the quality benchmark share: their interface, intervals, tables. */
import { testSamples, wilson } from "../../models/evaluate.ts";
import { taskRng } from "../../models/recipe/rng.ts";
import type { Sample, Task } from "../../models/recipe/task.ts";
import type { LoadedModel } from "../../runtime/load.ts";

/** Names the instances: training, validation and the model's own evaluation use other seeds. */
export const INSTANCES = "strategies";
/** The longest exact answer (five digits, worked) has about 50 tokens. */
export const MAX_TOKENS = 96;

/** What a part measures with. */
export interface Bench {
  readonly large: LoadedModel;
  /** Its small sibling. */
  readonly small: LoadedModel;
  /** Instances per task. */
  readonly count: number;
  /** Seeds per instance, for strategies that draw. */
  readonly seeds: number;
  readonly tasks: readonly Task[];
  /** Does a unit of work, or finds its kept result; results are plain JSON. */
  once<T>(unit: string, work: () => Promise<T>): Promise<T>;
  /** Shows how far `all` jobs are. @returns to be called after each job */
  progress(label: string, all: number): () => void;
}

/** What a part found. */
export interface Findings {
  /** Goes into the JSON file. */
  readonly result: Readonly<Record<string, unknown>>;
  readonly svg: string;
  /** For people, in Markdown. */
  readonly table: string;
}

/** One question of the benchmark. */
export interface Part {
  /** Results go to `quality-<name>`. */
  readonly name: string;
  readonly about: string;
  /** Unless the command line says otherwise. */
  readonly count: number;
  readonly seeds: number;
  /** Tasks of the model's evaluation. @default all */
  readonly tasks?: readonly string[];
  measure(bench: Bench): Promise<Findings>;
}

/** Held-out instances of a task. */
export function instances(task: Task, { count }: Pick<Bench, "count">): readonly Sample[] {
  return testSamples(task, count, INSTANCES);
}

/** A mean with its 95 % interval. */
export interface Estimate {
  readonly mean: number;
  readonly low: number;
  readonly high: number;
}

/**
 * Percentile bootstrap over instances, 2,000 resamples, seeded.
 *
 * @throws {RangeError} for no values
 */
export function bootstrap(values: readonly number[], seed: string): Estimate {
  return ratio(values, values.map(() => 1), seed);
}

/**
 * Sum of `parts` over the sum of `wholes`, with an interval bootstrapped over instances.
 *
 * @throws {RangeError} for no values
 */
export function ratio(
  parts: readonly number[],
  wholes: readonly number[],
  seed: string,
): Estimate {
  const { length } = parts;
  if (length === 0) throw new RangeError("Cannot estimate from no values");
  const rng = taskRng(`bootstrap ${seed}`);
  const share = (pick: (i: number) => number) => {
    let part = 0, whole = 0;
    for (let i = 0; i < length; i++) {
      const at = pick(i);
      part += parts[at]!;
      whole += wholes[at]!;
    }
    return whole === 0 ? 0 : part / whole;
  };
  const resampled = Array.from({ length: 2000 }, () => share(() => rng.int(length)))
    .sort((a, b) => a - b);
  return { mean: share((i) => i), low: resampled[50]!, high: resampled[1949]! };
}

/** Mean of shares of right answers per instance, with Wilson's interval over instances. */
export function shareOf(shares: readonly number[]): Estimate {
  const sum = shares.reduce((a, b) => a + b, 0);
  return { mean: sum / shares.length, ...wilson(sum, shares.length) };
}

/** @throws {RangeError} for no values */
export function mean(values: readonly number[]): number {
  if (values.length === 0) throw new RangeError("There is no mean of no values");
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

/** "3.51 (3.40 to 3.62)" */
export function withInterval({ mean, low, high }: Estimate, digits = 2): string {
  return `${mean.toFixed(digits)} (${low.toFixed(digits)} to ${high.toFixed(digits)})`;
}

/** The same in percent, with one digit. */
export function percent({ mean, low, high }: Estimate): string {
  return withInterval({ mean: 100 * mean, low: 100 * low, high: 100 * high }, 1);
}

/** Rows as a Markdown table. */
export function markdown(rows: readonly (readonly string[])[]): string {
  const [head, ...body] = rows;
  const line = (cells: readonly string[]) => `| ${cells.join(" | ")} |`;
  return [line(head!), line(head!.map((_, i) => i === 0 ? "---" : "--:")), ...body.map(line)]
    .join("\n") + "\n";
}

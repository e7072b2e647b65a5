/** What the quality benchmarks share: the embedded model, held-out instances, intervals, files. */
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { testSamples } from "../../models/evaluate.ts";
import { taskRng } from "../../models/recipe/rng.ts";
import type { Sample, Task } from "../../models/recipe/task.ts";
import { EVALUATION } from "../../models/recipe/tasks/mod.ts";
import {
  greedySampling,
  type LanguageModel,
  type SamplingParams,
  seedFrom,
} from "../../runtime/mod.ts";
import { type LoadedModel, loadModel } from "../../runtime/load.ts";
import { getStrategy, runStrategy } from "../../strategies/mod.ts";

/** What a quality benchmark is asked to do. */
export interface QualityOptions {
  readonly model: string;
  /** Instances per task. */
  readonly count: number;
  /** Seeds per instance, for strategies that draw. */
  readonly seeds: number;
  readonly tasks: readonly Task[];
  /** Where results go, without an ending. */
  readonly out: string;
}

/** Names the instances: training, validation and the model's own evaluation use other seeds. */
export const INSTANCES = "strategies";
/** The longest exact answer (five digits, worked) has about 50 tokens. */
const maxTokens = 96;
const parallel = 16;

/** Options from the command line. @throws {RangeError} for counts that are not whole numbers >= 1 */
export function qualityOptions(args: readonly string[], name: string): QualityOptions {
  const { values } = parseArgs({
    args: [...args],
    options: {
      model: { type: "string", default: "decant-tiny" },
      count: { type: "string", default: "100" },
      seeds: { type: "string", default: "3" },
      task: { type: "string", multiple: true },
      out: { type: "string", default: `bench/results/${name}` },
    },
  });
  const names = EVALUATION.map((task) => task.name);
  const unknown = values.task?.find((name) => !names.includes(name));
  if (unknown !== undefined) throw new RangeError(`No task ${unknown}: there are ${names}`);
  return {
    model: values.model,
    count: wholeNumber("--count", values.count),
    seeds: wholeNumber("--seeds", values.seeds),
    tasks: EVALUATION.filter((task) => values.task?.includes(task.name) ?? true),
    out: values.out,
  };
}

function wholeNumber(name: string, text: string): number {
  const value = Number(text);
  if (Number.isInteger(value) && value >= 1) return value;
  throw new RangeError(`${name} is a whole number >= 1, got ${text}`);
}

/** The embedded model of that name, in this thread. */
export function openEmbedded(id: string): Promise<LoadedModel> {
  const folder = fileURLToPath(new URL(`../../models/${id}`, import.meta.url));
  return loadModel(folder, {
    id,
    backend: "auto",
    thread: "own",
    kvBytes: 256 << 20,
    created: 0,
    ownedBy: "decant",
  });
}

/** A way to decode. */
export interface Method {
  /** What the table calls it. */
  readonly label: string;
  readonly strategy: string;
  readonly params?: Readonly<Record<string, unknown>>;
  readonly sampling: Partial<SamplingParams>;
  readonly choices?: number;
  /** Whether another seed may give another answer. */
  readonly draws: boolean;
}

/** Answers to one instance. */
export interface Answers {
  /** Choices in the order returned, and their tokens. */
  readonly texts: readonly string[];
  readonly tokens: readonly (readonly number[])[];
  readonly drawn: number;
}

/** Decodes one instance. */
export async function answer(
  model: LanguageModel,
  method: Method,
  sample: Sample,
  seed: number,
): Promise<Answers> {
  const choices = method.choices ?? 1;
  const texts = Array.from({ length: choices }, () => "");
  const tokens = Array.from({ length: choices }, (): number[] => []);
  const run = runStrategy({
    id: "quality",
    strategy: getStrategy(method.strategy),
    params: method.params ?? {},
    models: { model },
    prompt: [sample.messages[0]],
    chat: {},
    sampling: { ...greedySampling, ...method.sampling, seed: seedFrom(seed) },
    maxTokens,
    choices,
    logprobs: undefined,
    stop: [],
    stopTokens: [],
    ignoreStop: false,
    constraint: undefined,
    kv: undefined,
    cacheSalt: "",
    trace: "none",
    signal: new AbortController().signal,
  });
  let found = 0;
  for (;;) {
    const next = await run.next();
    if (next.done) {
      return {
        texts: texts.slice(0, found),
        tokens: tokens.slice(0, found),
        drawn: next.value.usage.drawnTokens,
      };
    }
    const event = next.value;
    if (event.type === "finish") found++;
    else {
      texts[event.choice] += event.text;
      tokens[event.choice]!.push(...event.tokens);
    }
  }
}

/** Answers of a method to all instances of a task: one list per instance, one entry per seed. */
export async function answerAll(
  model: LanguageModel,
  method: Method,
  { task, options, onDone }: {
    readonly task: Task;
    readonly options: Pick<QualityOptions, "count" | "seeds">;
    readonly onDone: () => void;
  },
): Promise<readonly (readonly Answers[])[]> {
  const samples = testSamples(task, options.count, INSTANCES);
  const seeds = method.draws ? options.seeds : 1;
  const results = samples.map((): Answers[] => []);
  const jobs = samples.flatMap((sample, i) =>
    Array.from({ length: seeds }, (_, seed) => ({ sample, i, seed }))
  );
  let next = 0;
  const worker = async () => {
    for (let job = jobs[next++]; job !== undefined; job = jobs[next++]) {
      // Seeds of instances differ, so that noise is not shared between them.
      const seed = 1 + job.seed * options.count + job.i;
      results[job.i]![job.seed] = await answer(model, method, job.sample, seed);
      onDone();
    }
  };
  await Promise.all(Array.from({ length: parallel }, worker));
  return results;
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
  if (values.length === 0) throw new RangeError("Cannot estimate from no values");
  const rng = taskRng(`bootstrap ${seed}`);
  const means = Array.from({ length: 2000 }, () => {
    let sum = 0;
    for (let i = 0; i < values.length; i++) sum += values[rng.int(values.length)]!;
    return sum / values.length;
  }).sort((a, b) => a - b);
  return { mean: mean(values), low: means[50]!, high: means[1949]! };
}

/** @throws {RangeError} for no values */
export function mean(values: readonly number[]): number {
  if (values.length === 0) throw new RangeError("There is no mean of no values");
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

/** Counts jobs on standard error, with the time left; silent where nobody watches. */
export function progressBar(label: string, all: number): () => void {
  const started = performance.now();
  const isWatched = Deno.stderr.isTerminal();
  let done = 0;
  return () => {
    if (!isWatched) return;
    const share = ++done / all;
    const left = (performance.now() - started) / 1000 * (1 / share - 1);
    const bar = "#".repeat(Math.round(share * 30)).padEnd(30, ".");
    const end = done === all ? "\n" : "";
    const text = `\r${label} [${bar}] ${done}/${all}  ${left.toFixed(0)} s left   ${end}`;
    Deno.stderr.writeSync(new TextEncoder().encode(text));
  };
}

/** Rows as a Markdown table. */
export function markdown(rows: readonly (readonly string[])[]): string {
  const [head, ...body] = rows;
  const line = (cells: readonly string[]) => `| ${cells.join(" | ")} |`;
  return [line(head!), line(head!.map((_, i) => i === 0 ? "---" : "--:")), ...body.map(line)]
    .join("\n") + "\n";
}

/** Writes `<out>.json`, `<out>.svg` and prints the table. */
export async function publish(
  { out }: QualityOptions,
  { result, svg, table }: {
    readonly result: unknown;
    readonly svg: string;
    readonly table: string;
  },
): Promise<void> {
  await Deno.mkdir(out.slice(0, Math.max(0, out.lastIndexOf("/"))) || ".", { recursive: true });
  await Deno.writeTextFile(`${out}.json`, JSON.stringify(result, undefined, 2) + "\n");
  await Deno.writeTextFile(`${out}.svg`, svg);
  Deno.stdout.writeSync(new TextEncoder().encode(table));
}

/** What every result file says about how it came about. */
export function setup(options: QualityOptions, model: LoadedModel): Record<string, unknown> {
  return {
    date: new Date().toISOString().slice(0, 10),
    deno: Deno.version.deno,
    model: options.model,
    fingerprint: model.info.fingerprint,
    served_by: model.info.servedBy,
    instances: INSTANCES,
    instances_per_task: options.count,
    seeds: options.seeds,
    max_tokens: maxTokens,
  };
}

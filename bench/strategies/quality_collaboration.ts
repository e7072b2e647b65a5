/**
 * What does a rule for two models buy: accuracy against passes of the large model?
 *
 * `deno run -A bench/strategies/quality_collaboration.ts [--count N] [--task NAME]... [--out FILE]`
 *
 * `speculative-cascade` with the embedded model as the large one and its small sibling, at temperature 0,
 * on held-out instances. For each rule and `alpha`: accuracy, passes of the large model per token, tokens
 * it computed per token, time against the large model alone, decoded in turn on each instance. Accuracy is
 * exact match with Wilson's interval; other intervals are bootstraps over instances.
 */
import { chart, type ModelScores } from "../../models/chart.ts";
import { testSamples, wilson } from "../../models/evaluate.ts";
import type { Task } from "../../models/recipe/task.ts";
import { greedySampling, type LanguageModel, type Prompt, seedFrom } from "../../runtime/mod.ts";
import { getStrategy, runStrategy } from "../../strategies/mod.ts";
import { round } from "../_report.ts";
import {
  bootstrap,
  type Estimate,
  INSTANCES,
  markdown,
  mean,
  openEmbedded,
  progressBar,
  type QualityOptions,
  qualityOptions,
  setup,
} from "./_quality.ts";

const maxTokens = 64;
/** The small model is clearly weaker on the first two, stronger on the third. */
const defaultTasks = ["recall_16", "sql", "sort"];

interface Method {
  readonly label: string;
  readonly strategy: string;
  readonly params?: Readonly<Record<string, unknown>>;
}

const large: Method = { label: "large alone", strategy: "greedy" };

function ruled(rule: string, alpha: number, more: Readonly<Record<string, unknown>> = {}): Method {
  const params = { rule, alpha, ...more };
  return { label: `${rule} ${alpha}`, strategy: "speculative-cascade", params };
}

const methods: readonly Method[] = [
  large,
  { label: "small alone", strategy: "speculative-cascade", params: { rule: "never" } },
  { label: "speculative", strategy: "speculative" },
  ruled("token-v3", 0.3),
  ruled("token-v3", 0.6),
  ruled("token-v3", 0.9),
  ruled("opt", 0.2),
  ruled("opt", 0.6),
  ruled("chow", 0.1),
  ruled("chow", 0.3),
  ruled("chow", 0.6),
  { label: "mix 0.5", strategy: "speculative-cascade", params: { rule: "mix" } },
];

interface Models {
  readonly model: LanguageModel;
  readonly draft: LanguageModel;
}

interface Run {
  readonly text: string;
  readonly tokens: number;
  /** Passes of the large model after which it gave a row, and tokens it computed beside the prompt. */
  readonly passes: number;
  readonly computed: number;
  readonly ms: number;
}

let salt = 0;

async function decode(models: Models, { strategy, params }: Method, prompt: Prompt): Promise<Run> {
  const started = performance.now();
  const found = getStrategy(strategy);
  const run = runStrategy({
    id: "quality",
    strategy: found,
    params: params ?? {},
    models: strategy === "greedy" ? { model: models.model } : { ...models },
    prompt,
    chat: {},
    sampling: { ...greedySampling, seed: seedFrom(1) },
    maxTokens,
    choices: 1,
    logprobs: undefined,
    stop: [],
    stopTokens: [],
    ignoreStop: false,
    constraint: undefined,
    kv: undefined,
    cacheSalt: `${salt++}`, // every run computes its prompt
    trace: "none",
    signal: new AbortController().signal,
  });
  let text = "";
  for (;;) {
    const next = await run.next();
    if (next.done) {
      const { usage, meters, metrics } = next.value;
      const { computedTokens, promptTokens } = meters["model"]!;
      const { completionTokens: tokens } = usage;
      // The pass that computes the prompt gives the first token's row.
      const passes = metrics["calls_model"] ?? metrics["target_passes"] ?? tokens;
      const computed = Math.max(0, computedTokens - promptTokens);
      return { text, tokens, passes, computed, ms: performance.now() - started };
    }
    if (next.value.type === "text") text += next.value.text;
  }
}

/** Per method: its answers to all instances of a task. */
async function measure(models: Models, task: Task, count: number) {
  const samples = testSamples(task, count, INSTANCES);
  const tick = progressBar(task.name, samples.length * methods.length);
  const runs = methods.map((): Run[] => []);
  await decode(models, methods[3]!, [samples[0]!.messages[0]]); // warm-up
  for (const { messages: [question] } of samples) {
    for (const [m, method] of methods.entries()) {
      runs[m]!.push(await decode(models, method, [question]));
      tick();
    }
  }
  const expected = samples.map(({ answer }) => answer);
  return methods.map((method, m) => rowOf(task.name, method, runs[m]!, runs[0]!, expected));
}

function rowOf(
  task: string,
  method: Method,
  runs: readonly Run[],
  alone: readonly Run[],
  expected: readonly string[],
) {
  const { label } = method;
  const right = runs.map(({ text }, i) => +(text === expected[i]));
  const rights = right.reduce((sum, value) => sum + value, 0);
  const per = (read: (run: Run) => number, name: string) =>
    bootstrap(runs.map((run) => read(run) / run.tokens), `${task} ${label} ${name}`);
  return {
    task,
    method: label,
    params: method.params ?? {},
    accuracy: mean(right),
    ...wilson(rights, runs.length),
    passes_per_token: per(({ passes }) => passes, "passes"),
    computed_per_token: per(({ computed }) => computed, "computed"),
    time_against_large: bootstrap(
      runs.map(({ ms, tokens }, i) => ms / tokens / (alone[i]!.ms / alone[i]!.tokens)),
      `${task} ${label} time`,
    ),
  };
}

type Row = Awaited<ReturnType<typeof measure>>[number];

/** Runs the benchmark and writes its files. */
async function qualityCollaboration(options: QualityOptions): Promise<void> {
  await using model = await openEmbedded(options.model);
  await using small = await openEmbedded(`${options.model}-draft`);
  const models = { model: model.engine, draft: small.engine };
  const rows: Row[] = [];
  for (const task of options.tasks) rows.push(...await measure(models, task, options.count));
  const result = {
    ...setup({ ...options, seeds: 1 }, model),
    draft: small.info.fingerprint,
    "max_tokens": maxTokens,
    temperature: 0,
    rows,
  };
  const rounded = (_: string, value: unknown) => typeof value === "number" ? round(value) : value;
  await Deno.mkdir(options.out.slice(0, Math.max(0, options.out.lastIndexOf("/"))) || ".", {
    recursive: true,
  });
  await Deno.writeTextFile(`${options.out}.json`, JSON.stringify(result, rounded, 2) + "\n");
  await Deno.writeTextFile(
    `${options.out}.svg`,
    chart(scores(rows, options.count), `Accuracy by rule, ${options.count} instances per task`),
  );
  Deno.stdout.writeSync(new TextEncoder().encode(table(rows)));
}

function scores(rows: readonly Row[], count: number): ModelScores[] {
  return methods.map(({ label }) => ({
    model: label,
    scores: rows.filter(({ method }) => method === label).map((row) => ({
      task: row.task,
      right: row.accuracy * count,
      count,
      accuracy: row.accuracy,
      low: row.low,
      high: row.high,
    })),
  }));
}

function table(rows: readonly Row[]): string {
  const interval = ({ mean, low, high }: Estimate) =>
    `${mean.toFixed(2)} (${low.toFixed(2)} to ${high.toFixed(2)})`;
  const percent = ({ accuracy, low, high }: Row) =>
    `${(100 * accuracy).toFixed(1)} (${(100 * low).toFixed(1)} to ${(100 * high).toFixed(1)})`;
  return markdown([
    [
      "task",
      "method",
      "accuracy %",
      "large passes per token",
      "large tokens per token",
      "time / large alone",
    ],
    ...rows.map((row) => [
      row.task,
      row.method,
      percent(row),
      interval(row.passes_per_token),
      interval(row.computed_per_token),
      interval(row.time_against_large),
    ]),
  ]);
}

if (import.meta.main) {
  const named = Deno.args.includes("--task")
    ? []
    : defaultTasks.flatMap((name) => ["--task", name]);
  await qualityCollaboration(qualityOptions([...Deno.args, ...named], "quality-collaboration"));
}

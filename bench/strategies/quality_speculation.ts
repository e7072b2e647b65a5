/**
 * What do speculation and ensembles save, and do they pay here?
 *
 * `deno run -A bench/strategies/quality_speculation.ts [--count N] [--seeds N] [--task NAME]... [--out FILE]`
 *
 * The embedded model is the target, its small sibling the draft. Every prompt is decoded plainly and by
 * each method, one after the other, so that both see the same machine; ratios of time are paired. Tokens
 * per pass and acceptance do not depend on the machine. Methods that promise the same tokens are held to
 * it: a difference ends the run with an error. Intervals: bootstrap over prompts.
 */
import { testSamples } from "../../models/evaluate.ts";
import type { Sample } from "../../models/recipe/task.ts";
import { greedySampling, type LanguageModel, type Prompt, seedFrom } from "../../runtime/mod.ts";
import { getStrategy, runStrategy } from "../../strategies/mod.ts";
import { barChart } from "../_chart.ts";
import { round } from "../_report.ts";
import {
  bootstrap,
  type Estimate,
  INSTANCES,
  markdown,
  openEmbedded,
  progressBar,
  publish,
  qualityOptions,
  setup,
} from "./_quality.ts";

const maxTokens = 48;

interface Way {
  readonly strategy: string;
  readonly params?: Readonly<Record<string, unknown>>;
}

/** A method and what it is measured against. */
interface Method extends Way {
  readonly label: string;
  readonly plain: Way;
  /** Whether its tokens have to be the plain ones. */
  readonly same: "always" | "greedy" | "never";
}

const sampled: Way = { strategy: "sample" };

function drafted(label: string, params: Way["params"], same: Method["same"] = "always"): Method {
  return { label, strategy: "speculative", params: params ?? {}, plain: sampled, same };
}

function combined(label: string, params: Readonly<Record<string, unknown>>): readonly Method[] {
  const strategy = "speculative-ensemble";
  const plain = { strategy, params: { ...params, framework: "plain" } };
  return ["naive", "alternate"].map((framework) => ({
    label: `${label}, ${framework}`,
    strategy,
    params: { ...params, framework },
    plain,
    same: "greedy" as const,
  }));
}

const methods: readonly Method[] = [
  drafted("draft model, coupled", {}),
  drafted("draft model, ratio", { verify: "ratio" }, "greedy"),
  drafted("draft model, block", { verify: "block" }, "greedy"),
  drafted("draft model, coupled, ema", { "gamma_schedule": "ema" }),
  drafted("draft model, trees of 16", { "tree_nodes": 16 }),
  drafted("prompt-lookup", { draft: "prompt-lookup", gamma: 10 }),
  drafted("suffix", { draft: "suffix", gamma: 10 }),
  drafted("token-recycling", { draft: "token-recycling" }),
  drafted("token-recycling, trees of 16", { draft: "token-recycling", "tree_nodes": 16 }),
  ...combined("weighted 0.5", {}),
  ...combined("contrastive 0.1", { combine: "contrastive" }),
];

interface Run {
  readonly tokens: readonly number[];
  /** Tokens decoded, the one that stopped the text included. */
  readonly count: number;
  readonly ms: number;
  readonly metrics: Readonly<Record<string, number>>;
}

interface Models {
  readonly model: LanguageModel;
  readonly draft: LanguageModel;
  readonly expert2: LanguageModel;
}

let runs = 0;

async function decode(
  models: Models,
  way: Way,
  { prompt, temperature, seed }: { prompt: Prompt; temperature: number; seed: number },
): Promise<Run> {
  const tokens: number[] = [];
  const started = performance.now();
  const run = runStrategy({
    id: "quality",
    strategy: getStrategy(way.strategy),
    params: way.params ?? {},
    models: { ...models },
    prompt,
    chat: {},
    sampling: { ...greedySampling, temperature, seed: seedFrom(seed) },
    maxTokens,
    choices: 1,
    logprobs: undefined,
    stop: [],
    stopTokens: [],
    ignoreStop: false,
    constraint: undefined,
    kv: undefined,
    cacheSalt: `${runs++}`, // every run computes its prompt
    trace: "none",
    signal: new AbortController().signal,
    clock: () => performance.now(),
  });
  for (;;) {
    const next = await run.next();
    if (next.done) {
      const { usage, metrics } = next.value;
      return { tokens, count: usage.completionTokens, ms: performance.now() - started, metrics };
    }
    if (next.value.type === "text") tokens.push(...next.value.tokens);
  }
}

/** One prompt, both ways. */
interface Pair {
  readonly plain: Run;
  readonly fast: Run;
}

async function compare(
  models: Models,
  method: Method,
  samples: readonly Sample[],
  temperature: number,
  seeds: number,
): Promise<readonly Pair[]> {
  const pairs: Pair[] = [];
  for (const [i, { messages: [question] }] of samples.entries()) {
    for (let k = 0; k < (temperature === 0 ? 1 : seeds); k++) {
      const asked = { prompt: [question], temperature, seed: 1 + i + k * samples.length };
      const plain = await decode(models, method.plain, asked);
      const fast = await decode(models, method, asked);
      requireSame(method, temperature, plain.tokens, fast.tokens);
      pairs.push({ plain, fast });
    }
  }
  return pairs;
}

/** @throws {Error} if tokens differ that must not */
function requireSame(
  { label, same }: Method,
  temperature: number,
  plain: readonly number[],
  fast: readonly number[],
): void {
  const bound = same === "always" || (same === "greedy" && temperature === 0);
  if (!bound || plain.join() === fast.join()) return;
  throw new Error(`${label} gave ${fast} where plain decoding gives ${plain}`);
}

function report(method: Method, temperature: number, pairs: readonly Pair[]) {
  const label = `${method.label} ${temperature}`;
  const sum = (read: (run: Run) => number) =>
    pairs.reduce((total, { fast }) => total + read(fast), 0);
  const count = (name: string) => sum(({ metrics }) => metrics[name] ?? 0);
  const isEnsemble = method.strategy === "speculative-ensemble";
  const proposed = isEnsemble
    ? count("proposed_model") + count("proposed_expert2")
    : count("proposed");
  const accepted = isEnsemble
    ? count("accepted_model") + count("accepted_expert2")
    : count("accepted");
  const passes = ({ metrics }: Run) => metrics["target_passes"] ?? metrics["calls_model"] ?? 0;
  return {
    method: method.label,
    temperature,
    prompts: pairs.length,
    tokens: sum(({ count }) => count),
    proposed,
    accepted,
    acceptance: round(accepted / Math.max(1, proposed)),
    tokens_per_pass: estimate(pairs.map(({ fast }) => fast.count / passes(fast)), label),
    calls_against_plain: isEnsemble ? round(count("calls") / count("calls_plain")) : undefined,
    plain_tokens_per_second: perSecond(pairs.map(({ plain }) => plain)),
    tokens_per_second: perSecond(pairs.map(({ fast }) => fast)),
    speedup: estimate(pairs.map(({ plain, fast }) => rate(fast) / rate(plain)), `${label} time`),
  };
}

function rate({ count, ms }: Run): number {
  return count / ms;
}

function perSecond(runs: readonly Run[]): number {
  const tokens = runs.reduce((sum, run) => sum + run.count, 0);
  return round(1000 * tokens / runs.reduce((sum, { ms }) => sum + ms, 0));
}

function estimate(values: readonly number[], seed: string): Estimate {
  const { mean, low, high } = bootstrap(values, seed);
  return { mean: round(mean), low: round(low), high: round(high) };
}

type Row = ReturnType<typeof report>;

function table(rows: readonly Row[]): string {
  const interval = ({ mean, low, high }: Estimate) =>
    `${mean.toFixed(2)} (${low.toFixed(2)} to ${high.toFixed(2)})`;
  const head = [
    "method",
    "temperature",
    "acceptance",
    "tokens per pass",
    "calls / plain",
    "tokens/s",
    "plain tokens/s",
    "speed-up",
  ];
  return markdown([
    head,
    ...rows.map((row) => [
      row.method,
      `${row.temperature}`,
      row.acceptance.toFixed(2),
      interval(row.tokens_per_pass),
      row.calls_against_plain?.toFixed(2) ?? "",
      `${row.tokens_per_second}`,
      `${row.plain_tokens_per_second}`,
      interval(row.speedup),
    ]),
  ]);
}

/** Tokens per pass do not depend on the machine, times do; both against plain decoding at 1. */
function plot(rows: readonly Row[]): string {
  const at = (temperature: number) => rows.filter((row) => row.temperature === temperature);
  const bars = (name: string, read: (row: Row) => Estimate) =>
    [0, 1].map((temperature) => ({
      name: `${name}, temperature ${temperature}`,
      bars: at(temperature).map(read),
    }));
  return barChart({
    title: "Speculation: tokens per pass of the target, and speed against plain decoding",
    value: { name: "times plain decoding", min: 0 },
    labels: at(0).map(({ method }) => method),
    series: [
      ...bars("tokens per pass", (row) => row.tokens_per_pass),
      ...bars("speed", (row) => row.speedup),
    ],
    reference: 1,
  });
}

if (import.meta.main) {
  const options = qualityOptions(Deno.args, "quality-speculation");
  await using target = await openEmbedded(options.model);
  await using small = await openEmbedded(`${options.model}-draft`);
  const models = { model: target.engine, draft: small.engine, expert2: small.engine };
  const samples = options.tasks.flatMap((task) => testSamples(task, options.count, INSTANCES));
  await compare(models, methods[0]!, samples.slice(0, 2), 0, 1); // warm-up
  const tick = progressBar("speculation", 2 * methods.length);
  const rows: Row[] = [];
  for (const temperature of [0, 1]) {
    for (const method of methods) {
      const pairs = await compare(models, method, samples, temperature, options.seeds);
      rows.push(report(method, temperature, pairs));
      tick();
    }
  }
  const result = { ...setup(options, target), draft: small.info.fingerprint, rows };
  await publish(options, { result, svg: plot(rows), table: table(rows) });
}

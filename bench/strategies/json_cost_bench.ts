/**
 * What a JSON Schema costs in tokens/s on the embedded model, against sampling without a constraint.
 *
 *     deno run -A bench/strategies/json_cost_bench.ts [THREADS...]   # alone; also in `deno task bench strategies`
 *
 * Every round decodes the same held-out prompts once in each way: a few prompts in all ways, in random
 * order, then the next few. Costs are ratios for the same prompts in a round, medians with the interval of
 * the signs, of time and of processor time; the latter means something with one thread only, since threads
 * that wait for each other spin. The model computes in a Worker, as the gateway has it.
 */
import process from "node:process";
import { fileURLToPath } from "node:url";
import { testSamples } from "../../models/evaluate.ts";
import { EVALUATION } from "../../models/recipe/tasks/mod.ts";
import type { Sample } from "../../models/recipe/task.ts";
import { type LoadedModel, loadModel } from "../../runtime/load.ts";
import {
  type Constraint,
  createRng,
  greedySampling,
  jsonSchemaConstraint,
  type Rng,
  seedFrom,
} from "../../runtime/mod.ts";
import { getStrategy, runStrategy } from "../../strategies/mod.ts";
import { readEnvironment, writeResult } from "../_environment.ts";
import { createReport, type Report, round, summary } from "../_report.ts";

const prompts = 16;
const maxTokens = 64;
const warmUp = 3;
const runs = 11;

const text = { type: "string" };
const schema = {
  type: "object",
  properties: { name: text, age: { type: "integer" }, city: text, job: text },
  required: ["name", "age", "city", "job"],
  additionalProperties: false,
};

interface Way {
  readonly label: string;
  /** Undefined: the model alone, without a strategy. */
  readonly strategy?: "sample" | "awrs";
  readonly params?: Readonly<Record<string, unknown>>;
  readonly constraint?: "mask" | "judge";
}

/** The second one is what the others are compared with. */
const ways: readonly Way[] = [
  { label: "model alone" },
  { label: "sample", strategy: "sample" },
  { label: "sample, mask", strategy: "sample", constraint: "mask" },
  { label: "awrs", strategy: "awrs", constraint: "mask" },
  {
    label: "awrs, no weights",
    strategy: "awrs",
    constraint: "mask",
    params: { proper_weights: false },
  },
  { label: "awrs, no mask", strategy: "awrs", constraint: "judge" },
  {
    label: "awrs, no mask, no weights",
    strategy: "awrs",
    constraint: "judge",
    params: { proper_weights: false },
  },
];
const reference = ways.findIndex(({ label }) => label === "sample");

/** What a few prompts came to in one way. */
interface Outcome {
  readonly tokens: number;
  readonly checks: number;
  readonly ms: number;
  readonly cpuMs: number;
}

/** One stream, and four at once, on so many threads. */
export async function benchJsonCost(report: Report, threadCounts = [1, 2]): Promise<void> {
  for (const threads of threadCounts) await benchThreads(report, threads);
}

async function benchThreads(report: Report, threads: number): Promise<void> {
  await using loaded = await loadModel(
    fileURLToPath(new URL("../../models/decant-tiny", import.meta.url)),
    {
      id: "decant-tiny",
      backend: "wasm",
      thread: "worker",
      threads,
      kvBytes: 256 << 20,
      created: 0,
      ownedBy: "decant",
    },
  );
  const task = EVALUATION.find(({ name }) => name === "json")!;
  const samples = testSamples(task, prompts, "json cost");
  const mask: Constraint = jsonSchemaConstraint(schema, loaded.engine.vocab);
  const { name, start, advance, accepting } = mask;
  const constraints = { mask, judge: { name, start, advance, accepting } };
  for (const streams of [1, 4]) {
    const outcomes = await measure(samples, streams, (way, group) => {
      const constraint = way.constraint && constraints[way.constraint];
      return decodeAll(loaded, group, { way, constraint, streams });
    });
    for (const [i, way] of ways.entries()) {
      report({ ...lineOf(way, outcomes, i), streams, threads });
    }
  }
}

/** Per way, what every group of prompts came to in every round. */
async function measure(
  samples: readonly Sample[],
  streams: number,
  decode: (way: Way, group: readonly Sample[]) => Promise<Outcome>,
): Promise<Outcome[][]> {
  const outcomes = ways.map((): Outcome[] => []);
  const size = Math.max(2, streams);
  const rng = createRng(seedFrom(streams));
  for (let run = 0; run < warmUp + runs; run++) {
    for (let from = 0; from < samples.length; from += size) {
      for (const i of shuffled(ways.length, rng)) {
        const outcome = await decode(ways[i]!, samples.slice(from, from + size));
        if (run >= warmUp) outcomes[i]!.push(outcome);
      }
    }
  }
  return outcomes;
}

function shuffled(length: number, rng: Rng): readonly number[] {
  const keyed = Array.from({ length }, (_, i) => [rng.next(), i] as const);
  return keyed.sort(([a], [b]) => a - b).map(([, i]) => i);
}

interface Decoding {
  readonly way: Way;
  readonly constraint: Constraint | undefined;
  readonly streams: number;
}

/** Some prompts, so many at once. */
async function decodeAll(
  model: LoadedModel,
  samples: readonly Sample[],
  decoding: Decoding,
): Promise<Outcome> {
  let tokens = 0, checks = 0;
  const begin = performance.now(), cpu = process.cpuUsage();
  const waiting = [...samples.entries()];
  await Promise.all(Array.from({ length: decoding.streams }, async () => {
    for (let next = waiting.shift(); next !== undefined; next = waiting.shift()) {
      const [i, { messages: [prompt] }] = next;
      const found = await decodeOne(model, prompt!, { ...decoding, seed: i + 1 });
      tokens += found.tokens;
      checks += found.checks;
    }
  }));
  const ms = performance.now() - begin;
  const { user, system } = process.cpuUsage(cpu);
  return { tokens, checks, ms, cpuMs: (user + system) / 1000 };
}

async function decodeOne(
  { engine }: LoadedModel,
  prompt: Sample["messages"][number],
  { way, constraint, seed }: Decoding & { readonly seed: number },
): Promise<Pick<Outcome, "tokens" | "checks">> {
  const sampling = { ...greedySampling, temperature: 1, seed: seedFrom(seed) };
  if (way.strategy === undefined) {
    using session = engine.session([prompt]);
    let tokens = 0;
    for await (const _ of session.generate({ sampling, maxTokens })) tokens++;
    return { tokens, checks: 0 };
  }
  const running = runStrategy({
    id: "bench",
    strategy: getStrategy(way.strategy),
    params: way.params ?? {},
    models: { model: engine },
    prompt: [prompt],
    chat: {},
    sampling,
    maxTokens,
    choices: 1,
    logprobs: undefined,
    stop: [],
    stopTokens: [],
    ignoreStop: false,
    constraint,
    kv: undefined,
    cacheSalt: "",
    trace: "none",
    signal: new AbortController().signal,
  });
  for (;;) {
    const next = await running.next();
    if (!next.done) continue;
    const { usage, metrics } = next.value;
    return { tokens: usage.completionTokens, checks: metrics["checks"] ?? 0 };
  }
}

function lineOf(
  way: Way,
  outcomes: readonly (readonly Outcome[])[],
  index: number,
): Record<string, unknown> {
  const own = outcomes[index]!, plain = outcomes[reference]!;
  const sum = (count: (outcome: Outcome) => number) =>
    own.reduce((total, outcome) => total + count(outcome), 0);
  const speedOf = ({ tokens, ms }: Outcome) => tokens / ms;
  const cpuOf = ({ tokens, cpuMs }: Outcome) => cpuMs / tokens;
  const percent = (ratio: (own: Outcome, plain: Outcome) => number) =>
    index === reference
      ? null
      : medianInterval(own.map((outcome, i) => 100 * (ratio(outcome, plain[i]!) - 1)));
  return {
    name: "strategies/awrs-json-cost",
    way: way.label,
    model: "decant-tiny",
    backend: "wasm",
    prompts,
    output_tokens: sum(({ tokens }) => tokens) / runs,
    warm_up: warmUp,
    tokens_per_s: summary(own.map((outcome) => 1000 * speedOf(outcome))),
    us_per_token: summary(own.map((outcome) => 1000 / speedOf(outcome))),
    cpu_us_per_token: summary(own.map((outcome) => 1000 * cpuOf(outcome))),
    // Of tokens/s, what is lost; of processor time, what is added.
    cost_percent: percent((a, b) => 2 - speedOf(a) / speedOf(b)),
    cpu_cost_percent: percent((a, b) => cpuOf(a) / cpuOf(b)),
    checks_per_token: round(sum(({ checks }) => checks) / sum(({ tokens }) => tokens)),
  };
}

/**
 * Median, and the values between which the median of the distribution lies with 95 % (by the signs:
 * the fewest ranks from either end that leave out at most 2.5 %).
 */
function medianInterval(values: readonly number[]) {
  const sorted = [...values].sort((a, b) => a - b);
  const { length } = sorted;
  let rank = 0, left = 2 ** -length, term = left;
  while (left <= 0.025) {
    rank++;
    term *= (length - rank + 1) / rank;
    left += term;
  }
  return {
    median: round(summary(values).median),
    low: round(sorted[Math.max(0, rank - 1)]!),
    high: round(sorted[Math.min(length - 1, length - rank)]!),
    runs: length,
  };
}

if (import.meta.main) {
  const environment = await readEnvironment();
  const { report, lines } = createReport(environment);
  await benchJsonCost(report, Deno.args.length > 0 ? Deno.args.map(Number) : undefined);
  await writeResult(environment, "json-cost", "jsonl", lines.join("\n") + "\n");
  Deno.exit(0);
}

/**
 * What a JSON Schema costs in tokens/s on the embedded model, against sampling without a constraint.
 *
 *     deno run -A bench/strategies/json_cost_bench.ts     # this alone; `deno task bench strategies` has it
 *
 * Every round decodes the same held-out prompts once in each way: a few prompts in all ways, whose order
 * turns, then the next few. Costs are ratios within a round. The model computes in a Worker, as the
 * gateway has it.
 */
import { fileURLToPath } from "node:url";
import { testSamples } from "../../models/evaluate.ts";
import { EVALUATION } from "../../models/recipe/tasks/mod.ts";
import type { Sample } from "../../models/recipe/task.ts";
import { type LoadedModel, loadModel } from "../../runtime/load.ts";
import {
  type Constraint,
  greedySampling,
  jsonSchemaConstraint,
  seedFrom,
} from "../../runtime/mod.ts";
import { getStrategy, runStrategy } from "../../strategies/mod.ts";
import { readEnvironment, writeResult } from "../_environment.ts";
import { createReport, type Report, round, summary } from "../_report.ts";

const prompts = 16;
const maxTokens = 64;
const warmUp = 3;
const runs = 17;
const threads = Math.min(2, navigator.hardwareConcurrency);

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

/** What one round of a way came to. */
interface Outcome {
  readonly tokens: number;
  readonly checks: number;
  readonly ms: number;
}

/** One stream, and four at once. */
export async function benchJsonCost(report: Report): Promise<void> {
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
    for (const [i, way] of ways.entries()) report(lineOf(way, streams, outcomes, i));
  }
}

/** Per way, its rounds. */
async function measure(
  samples: readonly Sample[],
  streams: number,
  decode: (way: Way, group: readonly Sample[]) => Promise<Outcome>,
): Promise<Outcome[][]> {
  const outcomes = ways.map((): Outcome[] => []);
  const size = 2 * streams;
  let turn = 0;
  for (let run = 0; run < warmUp + runs; run++) {
    const round = ways.map(() => ({ tokens: 0, checks: 0, ms: 0 }));
    for (let from = 0; from < samples.length; from += size, turn++) {
      for (let k = 0; k < ways.length; k++) {
        const i = (turn + k) % ways.length;
        const { tokens, checks, ms } = await decode(ways[i]!, samples.slice(from, from + size));
        const sum = round[i]!;
        sum.tokens += tokens;
        sum.checks += checks;
        sum.ms += ms;
      }
    }
    if (run >= warmUp) round.forEach((sum, i) => outcomes[i]!.push(sum));
  }
  return outcomes;
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
  const begin = performance.now();
  const waiting = [...samples.entries()];
  await Promise.all(Array.from({ length: decoding.streams }, async () => {
    for (let next = waiting.shift(); next !== undefined; next = waiting.shift()) {
      const [i, { messages: [prompt] }] = next;
      const found = await decodeOne(model, prompt!, { ...decoding, seed: i + 1 });
      tokens += found.tokens;
      checks += found.checks;
    }
  }));
  return { tokens, checks, ms: performance.now() - begin };
}

async function decodeOne(
  { engine }: LoadedModel,
  prompt: Sample["messages"][number],
  { way, constraint, seed }: Decoding & { readonly seed: number },
): Promise<Omit<Outcome, "ms">> {
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
  streams: number,
  outcomes: readonly (readonly Outcome[])[],
  index: number,
): Record<string, unknown> {
  const own = outcomes[index]!, plain = outcomes[reference]!;
  const [{ tokens, checks }] = own as [Outcome];
  const speedOf = (outcome: Outcome) => outcome.tokens / outcome.ms;
  const costs = own.map((outcome, i) => 100 * (1 - speedOf(outcome) / speedOf(plain[i]!)));
  return {
    name: "strategies/awrs-json-cost",
    way: way.label,
    streams,
    model: "decant-tiny",
    backend: "wasm",
    threads,
    prompts,
    output_tokens: tokens,
    warm_up: warmUp,
    tokens_per_s: summary(own.map((outcome) => 1000 * speedOf(outcome))),
    us_per_token: summary(own.map((outcome) => 1000 / speedOf(outcome))),
    cost_percent: index === reference ? null : medianInterval(costs),
    checks_per_token: round(checks / tokens),
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
  await benchJsonCost(report);
  await writeResult(environment, "json-cost", "jsonl", lines.join("\n") + "\n");
  Deno.exit(0);
}

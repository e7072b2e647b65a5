/**
 * What do speculation and ensembles save: acceptance, and tokens per pass of the target?
 *
 * The embedded model is the target, its small sibling the draft and the other expert. Every prompt is
 * decoded plainly and by each way at temperatures 0 and 1. Ways that promise the same tokens are held to
 * it: a difference ends the run with an error. Intervals are bootstraps over prompts. What it takes in
 * time is in `quality_time.ts`; the schedule `ema` goes by declared costs here, by measured ones there.
 */
import { barChart } from "../_chart.ts";
import {
  type Bench,
  type Estimate,
  instances,
  markdown,
  type Part,
  ratio,
  withInterval,
} from "./_quality.ts";
import { overSeeds, run } from "./_run.ts";
import { type FastWay, requireSame, speculations } from "./_speculation_ways.ts";

const maxTokens = 48;
const temperatures = [0, 1];

/** The part. */
export const qualitySpeculation: Part = {
  name: "speculation",
  about: "what speculation and ensembles save of passes",
  count: 10,
  seeds: 2,
  async measure(bench) {
    const rows: Row[] = [];
    for (const temperature of temperatures) {
      for (const way of speculations) rows.push(await measureWay(bench, way, temperature));
    }
    const result = { "max_tokens": maxTokens, temperatures, rows };
    return { result, svg: plot(rows, bench), table: tableOf(rows) };
  },
};

/** A way at a temperature. */
interface Row {
  readonly method: string;
  readonly temperature: number;
  readonly prompts: number;
  readonly acceptance: Estimate;
  readonly "tokens_per_pass": Estimate;
  /** Of ensembles: calls of all models, as a share of the plain ensemble's. */
  readonly "calls_against_plain"?: Estimate;
}

async function measureWay(bench: Bench, way: FastWay, temperature: number): Promise<Row> {
  const name = `${way.label} ${temperature}`;
  const counts = await bench.once(name, () => countsOf(bench, way, temperature));
  const sums = (key: keyof Counts) =>
    counts.map((seeds) => seeds.reduce((sum, one) => sum + one[key], 0));
  const per = (part: keyof Counts, whole: keyof Counts) =>
    ratio(sums(part), sums(whole), `${name} ${part}`);
  return {
    method: way.label,
    temperature,
    prompts: counts.length,
    acceptance: per("accepted", "proposed"),
    tokens_per_pass: per("tokens", "passes"),
    ...way.strategy === "speculative-ensemble"
      ? { calls_against_plain: per("calls", "plainCalls") }
      : {},
  };
}

/** Of one run. */
interface Counts {
  /** Decoded, the one that stopped the text included. */
  readonly tokens: number;
  readonly passes: number;
  readonly proposed: number;
  readonly accepted: number;
  readonly calls: number;
  readonly plainCalls: number;
}

function countsOf(
  bench: Bench,
  way: FastWay,
  temperature: number,
): Promise<readonly (readonly Counts[])[]> {
  const { large, small, tasks } = bench;
  const seeds = temperature === 0 ? 1 : bench.seeds;
  const samples = tasks.flatMap((task) => instances(task, bench));
  const tick = bench.progress(`${way.label} ${temperature}`, samples.length * seeds);
  const models = { model: large.engine, draft: small.engine, expert2: small.engine };
  return overSeeds(samples, seeds, async (sample, seed) => {
    const ask = {
      models,
      prompt: [sample.messages[0]],
      sampling: { temperature },
      maxTokens,
      seed,
    } as const;
    const [plain, fast] = await Promise.all([run(way.plain, ask), run(way, ask)]);
    requireSame(way, temperature, plain.tokens[0]!, fast.tokens[0]!);
    tick();
    const { metrics, usage } = fast.result;
    const sum = (prefix: string) =>
      (metrics[prefix] ?? 0) + (metrics[`${prefix}_model`] ?? 0) +
      (metrics[`${prefix}_expert2`] ?? 0);
    return {
      tokens: usage.completionTokens,
      passes: metrics["target_passes"] ?? metrics["calls_model"] ?? 0,
      proposed: sum("proposed"),
      accepted: sum("accepted"),
      calls: metrics["calls"] ?? 0,
      plainCalls: metrics["calls_plain"] ?? 0,
    };
  });
}

/** Plain decoding is at 1. */
function plot(rows: readonly Row[], { count }: Bench): string {
  const at = (temperature: number) => rows.filter((row) => row.temperature === temperature);
  return barChart({
    title: `Speculation: tokens per pass of the target, ${count} prompts of each task, 95 %`,
    value: { name: "tokens per pass", min: 0 },
    labels: at(0).map(({ method }) => method),
    series: temperatures.map((temperature) => ({
      name: `temperature ${temperature}`,
      bars: at(temperature).map(({ tokens_per_pass: { mean, low, high } }) => ({
        mean: Number(mean.toFixed(2)),
        low,
        high,
      })),
    })),
    reference: 1,
  });
}

function tableOf(rows: readonly Row[]): string {
  return markdown([
    ["method", "temperature", "acceptance", "tokens per pass", "calls / plain ensemble"],
    ...rows.map((row) => [
      row.method,
      `${row.temperature}`,
      withInterval(row.acceptance),
      withInterval(row.tokens_per_pass),
      row.calls_against_plain ? withInterval(row.calls_against_plain) : "",
    ]),
  ]);
}

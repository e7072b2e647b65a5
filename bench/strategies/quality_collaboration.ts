/**
 * What does a rule for two models buy: accuracy against passes of the large model?
 *
 * `speculative-cascade` with the embedded model as the large one and its small sibling, at temperatures 0
 * and 1, on held-out instances. For each rule and `alpha`: accuracy, its difference to the large model
 * alone (paired by instance), passes of the large model per token, tokens it computed per token. Accuracy
 * is exact match averaged over seeds, with Wilson's interval; other intervals are bootstraps over
 * instances. `quality_time.ts` has the time.
 */
import { barChart } from "../_chart.ts";
import type { Task } from "../../models/recipe/task.ts";
import { type NamedWay, together } from "./_collaboration_ways.ts";
import {
  type Bench,
  bootstrap,
  type Estimate,
  instances,
  markdown,
  type Part,
  percent,
  ratio,
  shareOf,
  withInterval,
} from "./_quality.ts";
import { overSeeds, run } from "./_run.ts";

const maxTokens = 64;
/** What is drawn needs more than one seed. */
const temperaturesFor = ({ seeds }: Bench) => seeds === 1 ? [0] : [0, 1];

/** The part. */
export const qualityCollaboration: Part = {
  name: "collaboration",
  about: "rules of speculative-cascade: accuracy against passes of the large model",
  count: 150,
  seeds: 2,
  // The small model is clearly weaker on the first two, as good on the third, stronger on the last.
  tasks: ["recall_16", "sql", "json", "sort"],
  async measure(bench) {
    const rows: Row[] = [];
    const temperatures = temperaturesFor(bench);
    for (const task of bench.tasks) {
      for (const temperature of temperatures) {
        rows.push(...await measureSetting(bench, task, temperature));
      }
    }
    const result = { "max_tokens": maxTokens, temperatures, rows };
    return { result, svg: plot(rows, bench), table: tableOf(rows) };
  },
};

async function measureSetting(
  bench: Bench,
  task: Task,
  temperature: number,
): Promise<readonly Row[]> {
  const seeds = temperature === 0 ? 1 : bench.seeds;
  const name = `${task.name} ${temperature}`;
  const tick = bench.progress(name, together.length * bench.count * seeds);
  const outcomes = new Map<string, Outcome>();
  for (const way of together) {
    const work = () => outcomeOf(way, { bench, task, temperature, seeds, tick });
    outcomes.set(way.label, await bench.once(`${name} ${way.label}`, work));
  }
  const base = outcomes.get(together[0]!.label)!;
  return [...outcomes].map(([method, { right, tokens, passes, computed }]) => ({
    task: task.name,
    temperature,
    method,
    accuracy: shareOf(right),
    minus_large: bootstrap(right.map((share, i) => share - base.right[i]!), `${name} ${method}`),
    passes_per_token: ratio(passes, tokens, `${name} ${method} passes`),
    computed_per_token: ratio(computed, tokens, `${name} ${method} computed`),
  }));
}

/** A number per instance: the share of seeds, then sums over them. */
interface Outcome {
  readonly right: readonly number[];
  readonly tokens: readonly number[];
  /** Passes of the large model after which it gave a row, and tokens it computed beside the prompt. */
  readonly passes: readonly number[];
  readonly computed: readonly number[];
}

async function outcomeOf(
  way: NamedWay,
  { bench, task, temperature, seeds, tick }: {
    readonly bench: Bench;
    readonly task: Task;
    readonly temperature: number;
    readonly seeds: number;
    readonly tick: () => void;
  },
): Promise<Outcome> {
  const { large, small } = bench;
  const drafted = way.strategy === "sample" ? {} : { draft: small.engine };
  const runs = await overSeeds(instances(task, bench), seeds, async (sample, seed) => {
    const { texts, result } = await run(way, {
      models: { model: large.engine, ...drafted },
      prompt: [sample.messages[0]],
      sampling: { temperature },
      cacheSalt: `${way.label} ${temperature} ${seed}`, // every run computes its prompt
      seed,
      maxTokens,
    });
    tick();
    const { usage: { completionTokens: tokens }, meters, metrics } = result;
    const { computedTokens, promptTokens } = meters["model"]!;
    return {
      right: +(texts[0] === sample.answer) / seeds,
      tokens,
      // The pass that computes the prompt gives the first token's row.
      passes: metrics["calls_model"] ?? metrics["target_passes"] ?? tokens,
      computed: Math.max(0, computedTokens - promptTokens),
    };
  });
  const sums = (name: keyof Outcome) =>
    runs.map((seeds) => seeds.reduce((sum, one) => sum + one[name], 0));
  return {
    right: sums("right"),
    tokens: sums("tokens"),
    passes: sums("passes"),
    computed: sums("computed"),
  };
}

/** One way on one task. */
interface Row {
  readonly task: string;
  readonly temperature: number;
  readonly method: string;
  readonly accuracy: Estimate;
  readonly "minus_large": Estimate;
  readonly "passes_per_token": Estimate;
  readonly "computed_per_token": Estimate;
}

const settingOf = ({ task, temperature }: Row) => `${task}, temperature ${temperature}`;

function plot(rows: readonly Row[], { count, seeds }: Bench): string {
  const labels = together.map(({ label }) => label);
  const settings = [...new Set(rows.map(settingOf))];
  return barChart({
    title: `Right answers by rule, ${count} instances per task, ${seeds} seeds, 95 %`,
    value: { name: "share of answers that are right", min: 0, max: 1 },
    labels: settings,
    series: labels.map((name) => ({
      name,
      bars: settings.map((setting) => {
        const row = rows.find((row) => settingOf(row) === setting && row.method === name)!;
        const { mean, low, high } = row.accuracy;
        return { mean: Number(mean.toFixed(3)), low, high };
      }),
    })),
  });
}

function tableOf(rows: readonly Row[]): string {
  return markdown([
    [
      "task",
      "temperature",
      "method",
      "accuracy %",
      "minus large alone, points",
      "large passes per token",
      "large tokens per token",
    ],
    ...rows.map((row) => [
      row.task,
      `${row.temperature}`,
      row.method,
      percent(row.accuracy),
      percent(row.minus_large),
      withInterval(row.passes_per_token),
      withInterval(row.computed_per_token),
    ]),
  ]);
}

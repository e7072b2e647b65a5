/**
 * What do strategies cost or save in time, one request at a time?
 *
 * For a quiet machine. Every prompt is decoded by each way and, right before, by what it is measured
 * against, so that both see the same machine: `awrs` against sampling without a constraint,
 * `speculative-cascade` against the large model alone, speculation and ensembles against the plain method.
 * Ratios are per emitted token and paired; intervals are bootstraps over prompts.
 */
import { barChart } from "../_chart.ts";
import type { Sample } from "../../models/recipe/task.ts";
import { constraintsFor } from "./_awrs_tasks.ts";
import { constraintFor, ways } from "./_awrs_ways.ts";
import { together } from "./_collaboration_ways.ts";
import {
  type Bench,
  bootstrap,
  type Estimate,
  instances,
  markdown,
  type Part,
  ratio,
  withInterval,
} from "./_quality.ts";
import { type Ask, run, type Way } from "./_run.ts";
import { speculations } from "./_speculation_ways.ts";

const maxTokens = 48;

/** The part. */
export const qualityTime: Part = {
  name: "time",
  about: "time of awrs, speculative-cascade and speculation, one request at a time",
  count: 3,
  seeds: 1,
  async measure(bench) {
    const all = [...constrained(bench), ...collaborating(bench), ...speculating(bench)];
    const tick = bench.progress("", all.length);
    const rows: Row[] = [];
    for (const comparison of all) {
      const { group, label } = comparison;
      rows.push(await bench.once(`${group} ${label}`, () => compare(comparison)));
      tick();
    }
    return { result: { max_tokens: maxTokens, rows }, svg: plot(rows), table: tableOf(rows) };
  },
};

/** A way, what it is measured against, and the prompts. */
interface Comparison {
  readonly group: string;
  readonly label: string;
  readonly plain: (sample: Sample) => Decode;
  readonly fast: (sample: Sample) => Decode;
  readonly samples: readonly Sample[];
}

type Decode = readonly [Way, Omit<Ask, "prompt" | "seed" | "maxTokens">];

/** At temperature 1, four times as many instances of JSON. */
function constrained({ large, tasks, count }: Bench): readonly Comparison[] {
  const constraintOf = constraintsFor(large.engine.vocab);
  const models = { model: large.engine };
  return tasks.filter(({ name }) => name === "json").flatMap((task) =>
    ways.map((way) => ({
      group: "JSON Schema, temperature 1",
      label: way.label,
      plain: () => [ways[0]!, { models, sampling: { temperature: 1 } }],
      fast: (sample) => {
        const constraint = constraintFor(way, constraintOf(task, sample));
        return [way, { models, constraint, sampling: { temperature: 1 } }];
      },
      samples: instances(task, { count: 4 * count }),
    }))
  );
}

/** At temperature 0, four times as many instances of tasks on which the models differ. */
function collaborating({ large, small, tasks, count }: Bench): readonly Comparison[] {
  const alone = { models: { model: large.engine } };
  const both = { models: { model: large.engine, draft: small.engine } };
  return tasks.filter(({ name }) => name === "sql" || name === "recall_16").flatMap((task) =>
    together.slice(1).map((way) => ({
      group: `two models, ${task.name}`,
      label: way.label,
      plain: () => [together[0]!, alone],
      fast: () => [way, both],
      samples: instances(task, { count: 4 * count }),
    }))
  );
}

/** At temperature 0, all tasks. */
function speculating({ large, small, tasks, count }: Bench): readonly Comparison[] {
  const models = { model: large.engine, draft: small.engine, expert2: small.engine };
  return speculations.map((way) => ({
    group: "speculation",
    label: way.label,
    plain: () => [way.plain, { models }],
    fast: () => [way, { models }],
    samples: tasks.flatMap((task) => instances(task, { count })),
  }));
}

/** One way beside its plain one. */
interface Row {
  readonly group: string;
  readonly method: string;
  readonly prompts: number;
  readonly "tokens_per_second": Estimate;
  readonly "plain_tokens_per_second": Estimate;
  /** Speed in emitted tokens per second, plain = 1. */
  readonly speed: Estimate;
}

async function compare({ group, label, plain, fast, samples }: Comparison): Promise<Row> {
  const pairs: { readonly plain: Timed; readonly fast: Timed }[] = [];
  await decode(fast(samples[0]!), samples[0]!, -1); // warm-up
  for (const [i, sample] of samples.entries()) {
    pairs.push({
      plain: await decode(plain(sample), sample, i),
      fast: await decode(fast(sample), sample, i),
    });
  }
  const rate = (which: "plain" | "fast") => {
    const seconds = pairs.map((pair) => pair[which].ms / 1000);
    return ratio(pairs.map((pair) => pair[which].tokens), seconds, `${group} ${label} ${which}`);
  };
  const speeds = pairs.map(({ plain, fast }) => fast.tokens / fast.ms / (plain.tokens / plain.ms));
  return {
    group,
    method: label,
    prompts: pairs.length,
    tokens_per_second: rate("fast"),
    plain_tokens_per_second: rate("plain"),
    speed: bootstrap(speeds, `${group} ${label} speed`),
  };
}

interface Timed {
  readonly tokens: number;
  readonly ms: number;
}

let runs = 0;

async function decode([way, ask]: Decode, sample: Sample, index: number): Promise<Timed> {
  const { result, ms } = await run(way, {
    ...ask,
    prompt: [sample.messages[0]],
    maxTokens,
    seed: 2 + index,
    cacheSalt: `time ${runs++}`, // every run computes its prompt
    clock: () => performance.now(),
  });
  return { tokens: result.usage.completionTokens, ms };
}

function plot(rows: readonly Row[]): string {
  return barChart({
    title: "Speed of emitted tokens against the plain method, one request at a time, 95 %",
    value: { name: "times plain decoding", min: 0 },
    labels: rows.map(({ group, method }) => `${group.replace(/,.*/, "")}: ${method}`),
    series: [{
      name: "speed",
      bars: rows.map(({ speed: { mean, low, high } }) => ({
        mean: Number(mean.toFixed(2)),
        low,
        high,
      })),
    }],
    reference: 1,
  });
}

function tableOf(rows: readonly Row[]): string {
  return markdown([
    ["what", "method", "prompts", "tokens/s", "plain tokens/s", "speed against plain"],
    ...rows.map((row) => [
      row.group,
      row.method,
      `${row.prompts}`,
      withInterval(row.tokens_per_second, 0),
      withInterval(row.plain_tokens_per_second, 0),
      withInterval(row.speed),
    ]),
  ]);
}

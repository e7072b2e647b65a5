/**
 * Do cascades of the embedded family tell good answers of the draft model from bad ones?
 *
 * Both models answer held-out instances greedily; the small model's through `cascade` itself, so that
 * scores are those of requests. Rules are calibrated on other instances (as many per task) and judged
 * on these: area under the deferral curve, beside random deferral and the oracle, with bootstrap
 * intervals over instances. Then the calibrated cascade is run, so that the table also has what
 * requests would get: quality, share deferred, tokens drawn at each model.
 */
import { calibrate } from "../../calibrate/calibrate.ts";
import { chord, type CurveSummary, type Judged, oracle, summarise } from "../../calibrate/curve.ts";
import type { Answered } from "../../calibrate/train.ts";
import { testSamples } from "../../models/evaluate.ts";
import type { Sample } from "../../models/recipe/task.ts";
import type { LanguageModel } from "../../runtime/mod.ts";
import {
  type CalibratedRule,
  type Calibration,
  featuresOf,
  forward,
  routerScore,
  scoreOf,
} from "../../strategies/mod.ts";
import { lineChart } from "../_chart.ts";
import {
  type Bench,
  bootstrap,
  type Estimate,
  INSTANCES,
  instances,
  markdown,
  MAX_TOKENS,
  type Part,
  percent,
  withInterval,
} from "./_quality.ts";
import { run, sideBySide, type Way } from "./_run.ts";

interface Models {
  readonly large: LanguageModel;
  readonly small: LanguageModel;
}

/** The part. */
export const qualityCascade: Part = {
  name: "cascade",
  about: "whether cascades tell good answers of the draft model from bad ones",
  count: 150,
  seeds: 1,
  // Tasks on which the two models differ, most to least.
  tasks: ["recall_16", "sql", "add", "sort", "json"],
  async measure(bench) {
    const { large, small, tasks } = bench;
    const fitted = await answersOf(bench, "cascade calibration");
    const { calibration } = calibrate(fitted.flat(), {
      models: [small.info.id, large.info.id],
      created: new Date().toISOString().slice(0, 10),
      price: 0.05,
      deferRate: undefined,
      seed: "bench",
    });
    const records = await answersOf(bench, INSTANCES);
    const all = summaries(calibration, records.flat(), "all");
    const columns: readonly Column[] = [
      ["all tasks", all],
      ...tasks.map(({ name }, i) => [name, summaries(calibration, records[i]!, name)] as const),
    ];
    const served = await serveAll(bench, calibration);
    return {
      result: {
        tasks: tasks.map(({ name }) => name),
        calibrated_on: "cascade calibration",
        price: 0.05,
        columns: Object.fromEntries(columns),
        served,
      },
      svg: plot(bench, columns[0]!),
      table: `${areaTable(columns)}\n${servedTable(served)}`,
    };
  },
};

/** Both models' answers to instances of every task. */
async function answersOf(bench: Bench, name: string): Promise<readonly (readonly Answered[])[]> {
  const { large, small, tasks, count } = bench;
  const tick = bench.progress(name, tasks.length * count);
  const models = { large: large.model, small: small.model };
  const all = [];
  for (const task of tasks) {
    const work = () =>
      sideBySide(testSamples(task, count, name), async (sample) => {
        const record = await answer(models, sample);
        tick();
        return record;
      });
    all.push(await bench.once(`${name} ${task.name}`, work));
  }
  return all;
}

/** Both answers to one instance, and the small one's log-probabilities. */
async function answer({ large, small }: Models, sample: Sample): Promise<Answered> {
  const ask = { prompt: [sample.messages[0]], maxTokens: MAX_TOKENS, seed: 1 } as const;
  const keep: Way = {
    strategy: "cascade",
    params: { rule: "sum", threshold: -1e6, early_stop: false },
  };
  const [cheap, dear] = await Promise.all([
    run(keep, { ...ask, models: { large, small }, trace: "steps" }),
    run({ strategy: "greedy" }, { ...ask, models: { model: large } }),
  ]);
  const [step] = cheap.result.steps;
  const isKept = step!["deferred"] === false;
  return {
    prompt: sample.messages[0].content,
    logprobs: step!["logprobs"] as readonly number[],
    small: isKept ? Number(cheap.texts[0] === sample.answer) : 0,
    large: Number(dear.texts[0] === sample.answer),
  };
}

/** A calibrated rule's scores of fresh instances. */
function judge(entry: CalibratedRule, records: readonly Answered[]): Judged[] {
  return records.map(({ prompt, logprobs, small, large }) => ({
    small,
    large,
    score: entry.rule === "router"
      ? -routerScore(entry.router!, prompt)
      : entry.rule === "learned"
      ? -forward(entry.network!, featuresOf(logprobs))
      : scoreOf({ rule: entry.rule, alpha: entry["alpha_q"] ?? 0, calibrated: entry }, logprobs)!,
  }));
}

function labelOf({ rule, ["alpha_q"]: alpha }: CalibratedRule): string {
  return alpha === undefined ? rule : `${rule} ${alpha}`;
}

/** All rules on the same instances, then chance and the best possible. */
function summaries(calibration: Calibration, records: readonly Answered[], seed: string) {
  const all = calibration.rules.map((entry) => ({
    label: labelOf(entry),
    summary: summarise(judge(entry, records), { seed }),
  }));
  const judged = judge(calibration.rules[0]!, records);
  return [
    ...all,
    { label: "random", summary: summarise(chord(judged), { seed }) },
    { label: "oracle", summary: summarise(oracle(judged), { seed }) },
  ];
}

/** What requests get with the calibration's own threshold. */
interface Served {
  readonly rule: string;
  readonly quality: Estimate;
  readonly deferred: Estimate;
  readonly smallTokens: Estimate;
  readonly largeTokens: Estimate;
}

/** Every rule but quantiles other than the least. */
async function serveAll(bench: Bench, calibration: Calibration): Promise<readonly Served[]> {
  const shown = calibration.rules.filter(({ rule, ["alpha_q"]: alpha }) =>
    !alpha || rule !== "quantile"
  );
  const served: Served[] = [];
  for (const entry of shown) {
    const work = () => serve(bench, calibration, entry);
    served.push(await bench.once(`served ${labelOf(entry)}`, work));
  }
  return served;
}

async function serve(
  { large, small, ...bench }: Bench,
  calibration: Calibration,
  entry: CalibratedRule,
): Promise<Served> {
  const { rule, ["alpha_q"]: alpha } = entry;
  const params = {
    rule,
    calibration: "embedded",
    ...alpha === undefined ? {} : { ["alpha_q"]: alpha },
  };
  const samples = bench.tasks.flatMap((task) => instances(task, bench));
  const name = labelOf(entry);
  const tick = bench.progress(`served ${name}`, samples.length);
  const ran = await sideBySide(samples, async (sample) => {
    const answers = await run({ strategy: "cascade", params }, {
      models: { large: large.model, small: small.model },
      prompt: [sample.messages[0]],
      maxTokens: MAX_TOKENS,
      seed: 1,
      calibrations: new Map([["embedded", calibration]]),
    });
    tick();
    return answers;
  });
  const drawn = (role: string) =>
    bootstrap(ran.map(({ result }) => result.meters[role]!.drawnTokens), `${name} ${role}`);
  return {
    rule: name,
    quality: bootstrap(ran.map(({ texts }, i) => Number(texts[0] === samples[i]!.answer)), name),
    deferred: bootstrap(ran.map(({ result }) => result.metrics["deferred"]!), name),
    smallTokens: drawn("small"),
    largeTokens: drawn("large"),
  };
}

/** A task, or all of them, and its rules. */
type Column = readonly [string, readonly { label: string; summary: CurveSummary }[]];

function plot({ large, small, count }: Bench, [, all]: Column): string {
  const worst = Math.min(...all.flatMap(({ summary: { points } }) => points[0]!.quality.low));
  return lineChart({
    title: `Deferral from ${small.info.id} to ${large.info.id}, ${count} instances of each task`,
    x: { name: "share of prompts deferred", min: 0, max: 1 },
    y: { name: "right answers", min: Math.floor(20 * worst) / 20, max: 1 },
    curves: all.map(({ label, summary }, i) => ({
      name: label,
      dashed: label === "random" || label === "oracle",
      points: summary.points.map(({ rate, quality }, p) => [
        rate,
        i === 0 && p % 4 === 0 ? quality : quality.mean,
      ]),
    })),
  });
}

function areaTable(columns: readonly Column[]): string {
  const labels = columns[0]![1].map(({ label }) => label);
  const line = (name: string, of: (column: Column) => Estimate) => [
    name,
    ...columns.map((column) => percent(of(column))),
  ];
  return markdown([
    ["area under the deferral curve, %", ...columns.map(([name]) => name)],
    ...labels.map((label, i) => line(label, ([, all]) => all[i]!.summary.area)),
    line("small alone", ([, all]) => all[0]!.summary.points[0]!.quality),
    line("large alone", ([, all]) => all[0]!.summary.points.at(-1)!.quality),
  ]);
}

function servedTable(served: readonly Served[]): string {
  return markdown([
    ["as served", "right, %", "deferred, %", "small tokens", "large tokens"],
    ...served.map(({ rule, quality, deferred, smallTokens, largeTokens }) => [
      rule,
      percent(quality),
      percent(deferred),
      withInterval(smallTokens, 1),
      withInterval(largeTokens, 1),
    ]),
  ]);
}

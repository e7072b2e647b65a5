/**
 * Do cascades of the embedded family tell good answers of the draft model from bad ones?
 *
 * `deno run -A bench/strategies/quality_cascade.ts [--count N] [--task NAME]... [--out FILE]`
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
import type { Sample, Task } from "../../models/recipe/task.ts";
import { greedySampling, type LanguageModel, seedFrom } from "../../runtime/mod.ts";
import {
  type CalibratedRule,
  type Calibration,
  featuresOf,
  forward,
  getStrategy,
  routerScore,
  type RunResult,
  runStrategy,
  scoreOf,
} from "../../strategies/mod.ts";
import { lineChart } from "../_chart.ts";
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

const maxTokens = 96;
const parallel = 8;
/** Tasks on which the two models differ, most to least. */
const defaults = ["recall_16", "sql", "add", "sort", "json"];

interface Models {
  readonly large: LanguageModel;
  readonly small: LanguageModel;
}

interface Ran {
  readonly text: string;
  readonly result: RunResult;
}

async function run(
  models: Readonly<Record<string, LanguageModel>>,
  strategy: string,
  params: Readonly<Record<string, unknown>>,
  sample: Sample,
  calibrations: ReadonlyMap<string, Calibration> = new Map(),
): Promise<Ran> {
  const events = runStrategy({
    id: "quality",
    strategy: getStrategy(strategy),
    params,
    models,
    prompt: [sample.messages[0]],
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
    cacheSalt: "",
    trace: "steps",
    signal: new AbortController().signal,
    calibrations,
  });
  let text = "";
  for (;;) {
    const next = await events.next();
    if (next.done) return { text, result: next.value };
    if (next.value.type === "text") text += next.value.text;
  }
}

/** Both answers to one instance, and the small one's log-probabilities. */
async function answer({ large, small }: Models, sample: Sample): Promise<Answered> {
  const keep = { rule: "sum", threshold: -1e6, ["early_stop"]: false };
  const [cheap, dear] = await Promise.all([
    run({ large, small }, "cascade", keep, sample),
    run({ model: large }, "greedy", {}, sample),
  ]);
  const [step] = cheap.result.steps;
  const isKept = step!["deferred"] === false;
  return {
    prompt: sample.messages[0].content,
    logprobs: step!["logprobs"] as readonly number[],
    small: isKept ? Number(cheap.text === sample.answer) : 0,
    large: Number(dear.text === sample.answer),
  };
}

async function inParallel<T, R>(
  items: readonly T[],
  work: (item: T) => Promise<R>,
): Promise<R[]> {
  const results: R[] = [];
  let next = 0;
  await Promise.all(Array.from({ length: parallel }, async () => {
    for (let i = next++; i < items.length; i = next++) results[i] = await work(items[i]!);
  }));
  return results;
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
  readonly smallTokens: number;
  readonly largeTokens: number;
}

async function serve(
  models: Models,
  calibration: Calibration,
  entry: CalibratedRule,
  samples: readonly Sample[],
): Promise<Served> {
  const calibrations = new Map([["embedded", calibration]]);
  const params = {
    rule: entry.rule,
    calibration: "embedded",
    ...entry["alpha_q"] === undefined ? {} : { ["alpha_q"]: entry["alpha_q"] },
  };
  const ran = await inParallel(
    samples,
    (sample) => run({ ...models }, "cascade", params, sample, calibrations),
  );
  const rule = labelOf(entry);
  const mean = (of: (one: Ran) => number) =>
    ran.reduce((sum, one) => sum + of(one), 0) / ran.length;
  return {
    rule,
    quality: bootstrap(ran.map(({ text }, i) => Number(text === samples[i]!.answer)), rule),
    deferred: bootstrap(ran.map(({ result }) => result.metrics["deferred"]!), rule),
    smallTokens: mean(({ result }) => result.meters["small"]!.drawnTokens),
    largeTokens: mean(({ result }) => result.meters["large"]!.drawnTokens),
  };
}

const percent = ({ mean, low, high }: Estimate) =>
  `${(100 * mean).toFixed(1)} (${(100 * low).toFixed(1)} to ${(100 * high).toFixed(1)})`;

function areaTable(
  columns: readonly (readonly [string, readonly { label: string; summary: CurveSummary }[]])[],
): string {
  const labels = columns[0]![1].map(({ label }) => label);
  const rows = [
    ["area under the deferral curve, %", ...columns.map(([name]) => name)],
    ...labels.map((
      label,
      i,
    ) => [label, ...columns.map(([, all]) => percent(all[i]!.summary.area))]),
    ["small alone", ...columns.map(([, all]) => percent(all[0]!.summary.points[0]!.quality))],
    ["large alone", ...columns.map(([, all]) => percent(all[0]!.summary.points.at(-1)!.quality))],
  ];
  return markdown(rows);
}

function servedTable(served: readonly Served[]): string {
  return markdown([
    ["as served", "right, %", "deferred, %", "small tokens", "large tokens"],
    ...served.map(({ rule, quality, deferred, smallTokens, largeTokens }) => [
      rule,
      percent(quality),
      percent(deferred),
      smallTokens.toFixed(1),
      largeTokens.toFixed(1),
    ]),
  ]);
}

async function main(args: readonly string[]): Promise<void> {
  const options = qualityOptions(args, "quality-cascade");
  const isChosen = args.some((arg) => arg.startsWith("--task"));
  const tasks = options.tasks.filter(({ name }) => isChosen || defaults.includes(name));
  await using large = await openEmbedded(options.model);
  await using small = await openEmbedded(`${options.model}-draft`);
  const models = { large: large.model, small: small.model };
  const drawn = (name: string) => (task: Task) => testSamples(task, options.count, name);
  const fitted = tasks.flatMap(drawn("cascade calibration"));
  const held = tasks.map(drawn(INSTANCES));
  const progress = progressBar("both models", fitted.length + held.flat().length);
  const ask = async (sample: Sample) => {
    const record = await answer(models, sample);
    progress();
    return record;
  };
  const { calibration } = calibrate(await inParallel(fitted, ask), {
    models: [small.info.id, large.info.id],
    created: new Date().toISOString().slice(0, 10),
    price: 0.05,
    deferRate: undefined,
    seed: "bench",
  });
  const records: Answered[][] = [];
  for (const samples of held) records.push(await inParallel(samples, ask));
  const all = summaries(calibration, records.flat(), "all");
  const columns = [
    ["all tasks", all] as const,
    ...tasks.map(({ name }, i) => [name, summaries(calibration, records[i]!, name)] as const),
  ];
  const shown = calibration.rules.filter(({ rule, ["alpha_q"]: alpha }) =>
    !alpha || rule !== "quantile"
  );
  const served: Served[] = [];
  for (const entry of shown) served.push(await serve(models, calibration, entry, held.flat()));
  const svg = lineChart({
    title: `Deferral from ${small.info.id} to ${large.info.id}, held-out instances of all tasks`,
    x: { name: "share of prompts deferred", min: 0, max: 1 },
    y: { name: "right answers" },
    curves: all.map(({ label, summary }, i) => ({
      name: label,
      dashed: label === "random" || label === "oracle",
      points: summary.points.map(({ rate, quality }, p) => [
        rate,
        i === 0 && p % 4 === 0 ? quality : quality.mean,
      ]),
    })),
  });
  const result = {
    ...setup(options, large),
    small: small.info.id,
    tasks: tasks.map(({ name }) => name),
    ["calibrated_on"]: "cascade calibration",
    price: 0.05,
    columns: Object.fromEntries(columns),
    served,
  };
  await publish(options, { result, svg, table: `${areaTable(columns)}\n${servedTable(served)}` });
}

if (import.meta.main) await main(Deno.args);

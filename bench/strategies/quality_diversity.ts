/**
 * How different are lists of answers, and is the right one among them?
 *
 * `deno run -A bench/strategies/quality_diversity.ts [--count N] [--seeds N] [--task NAME]... [--out FILE]`
 *
 * Every method returns a list of five. Measured per instance, averaged over seeds: distinct-1 and
 * distinct-2 of the list, mean pairwise BLEU (both over the model's tokens), whether any answer is
 * right (oracle) and whether the first is. Intervals are bootstrapped over instances, all tasks
 * together; accuracies per task have Wilson's.
 */
import { chart, type ModelScores } from "../../models/chart.ts";
import { testSamples, wilson } from "../../models/evaluate.ts";
import type { Task } from "../../models/recipe/task.ts";
import type { LanguageModel } from "../../runtime/mod.ts";
import { distinctN, pairwiseBleu } from "./_list_metrics.ts";
import {
  answerAll,
  type Answers,
  bootstrap,
  INSTANCES,
  markdown,
  mean,
  type Method,
  openEmbedded,
  progressBar,
  publish,
  type QualityOptions,
  qualityOptions,
  setup,
} from "./_quality.ts";

const size = 5;
const beams = (
  label: string,
  strategy: string,
  params: Readonly<Record<string, unknown>> = {},
) => ({
  label,
  strategy,
  params: { num_beams: size, ...params },
  sampling: {},
  choices: size,
  draws: false,
});

const methods: readonly Method[] = [
  beams("beam", "beam"),
  beams("diverse-beam", "diverse-beam"),
  beams("diverse-beam, ngram", "diverse-beam", { diversity_fn: "ngram" }),
  beams("diverse-beam, cumulative", "diverse-beam", { diversity_fn: "cumulative" }),
  beams("diverse-beam, embedding", "diverse-beam", { diversity_fn: "embedding" }),
  { ...beams("stochastic-beam", "stochastic-beam"), sampling: { temperature: 1 }, draws: true },
  { ...beams("sample", "sample"), params: {}, sampling: { temperature: 1 }, draws: true },
];

const metrics = ["distinct1", "distinct2", "bleu", "oracle", "top1", "listed", "drawn"] as const;
type Metrics = Record<typeof metrics[number], number>;

function metricsOf({ texts, tokens, drawn }: Answers, expected: string): Metrics {
  return {
    distinct1: distinctN(tokens, 1),
    distinct2: distinctN(tokens, 2),
    bleu: pairwiseBleu(tokens),
    oracle: +texts.includes(expected),
    top1: +(texts[0] === expected),
    /** Different answers in the list. */
    listed: new Set(texts).size,
    drawn,
  };
}

/** Means over the seeds of one instance. */
function overSeeds(seeds: readonly Answers[], expected: string): Metrics {
  const all = seeds.map((answers) => metricsOf(answers, expected));
  const entries = metrics.map((name) => [name, mean(all.map((one) => one[name]))] as const);
  return Object.fromEntries(entries) as Metrics;
}

async function measureTask(
  model: LanguageModel,
  task: Task,
  options: QualityOptions,
): Promise<readonly (readonly Metrics[])[]> {
  const expected = testSamples(task, options.count, INSTANCES).map(({ answer }) => answer);
  const jobs = methods.reduce((n, { draws }) => n + (draws ? options.seeds : 1), 0);
  const onDone = progressBar(task.name.padEnd(14), jobs * options.count);
  const results = [];
  for (const method of methods) {
    const answers = await answerAll(model, method, { task, options, onDone });
    results.push(answers.map((seeds, i) => overSeeds(seeds, expected[i]!)));
  }
  return results;
}

/** Runs the benchmark and writes its files. */
export async function qualityDiversity(options: QualityOptions): Promise<void> {
  await using model = await openEmbedded(options.model);
  const byTask = new Map<string, readonly (readonly Metrics[])[]>();
  for (const task of options.tasks) {
    byTask.set(task.name, await measureTask(model.engine, task, options));
  }
  const overall = methods.map(({ label, strategy, params }, m) => {
    const all = [...byTask.values()].flatMap((task) => task[m]!);
    const estimates = metrics.map((name) =>
      [name, bootstrap(all.map((one) => one[name]), label + name)] as const
    );
    return { label, strategy, params, ...Object.fromEntries(estimates) };
  });
  const oracle = scoresOf(byTask, options.count, "oracle");
  const result = {
    ...setup(options, model),
    list: size,
    overall,
    oracle: oracle.map(({ model, scores }) => ({ label: model, scores })),
    top1: scoresOf(byTask, options.count, "top1").map(({ model, scores }) => ({
      label: model,
      scores,
    })),
  };
  const title = `Right answer in a list of ${size}, ${options.count} instances per task, 95 %`;
  await publish(options, { result, svg: chart(oracle, title), table: tableOf(overall) });
}

function scoresOf(
  byTask: ReadonlyMap<string, readonly (readonly Metrics[])[]>,
  count: number,
  name: "oracle" | "top1",
): ModelScores[] {
  return methods.map(({ label }, m) => ({
    model: label,
    scores: [...byTask].map(([task, all]) => {
      const right = all[m]!.reduce((sum, one) => sum + one[name], 0);
      return { task, right, count, accuracy: right / count, ...wilson(right, count) };
    }),
  }));
}

function tableOf(overall: readonly Readonly<Record<string, unknown>>[]): string {
  const head = ["list of 5", "distinct-1", "distinct-2", "pairwise BLEU", "oracle", "top-1"];
  const shown = ["distinct1", "distinct2", "bleu", "oracle", "top1", "listed", "drawn"];
  const rows = overall.map((row) => [
    String(row.label),
    ...shown.map((name) => {
      const { mean, low, high } = row[name] as { mean: number; low: number; high: number };
      const digits = name === "drawn" ? 0 : name === "listed" ? 2 : 3;
      return `${mean.toFixed(digits)} (${low.toFixed(digits)} to ${high.toFixed(digits)})`;
    }),
  ]);
  return "All tasks together, mean over instances (95 % interval)\n\n" +
    markdown([[...head, "different answers", "tokens drawn"], ...rows]);
}

if (import.meta.main) await qualityDiversity(qualityOptions(Deno.args, "quality-diversity"));

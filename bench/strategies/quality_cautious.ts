/**
 * Does `cautious-ntp` answer better than other strategies that draw as many tokens?
 *
 * `deno run -A bench/strategies/quality_cautious.ts [--count N] [--seeds N] [--task NAME]... [--out FILE]`
 *
 * For every task `cautious-ntp` runs first; `best-of-n` then gets as many samples per answer as come
 * closest to the tokens it drew, measured against what plain sampling draws. All that sample use the
 * same temperature and nucleus. Accuracy is exact match, averaged over seeds; its interval is
 * Wilson's over instances, which ignores that seeds average noise out and so is rather too wide.
 * Differences are paired by instance over all tasks, with bootstrap intervals.
 */
import { chart, type ModelScores } from "../../models/chart.ts";
import { testSamples, wilson } from "../../models/evaluate.ts";
import type { Task } from "../../models/recipe/task.ts";
import type { LanguageModel } from "../../runtime/mod.ts";
import {
  answerAll,
  type Answers,
  bootstrap,
  type Estimate,
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

/** The setting of the paper's scripts for GSM8K with Llama. */
const sampling = { temperature: 1.2, topP: 0.9 };

const cautious: Method = {
  label: "cautious-ntp",
  strategy: "cautious-ntp",
  sampling,
  draws: true,
};
const sampled: Method = { label: "sample", strategy: "sample", sampling, draws: true };
const others: readonly Method[] = [
  { label: "greedy", strategy: "greedy", sampling: {}, draws: false },
  { label: "beam 5", strategy: "beam", params: { num_beams: 5 }, sampling: {}, draws: false },
  {
    label: "cautious-ntp, paper schedule",
    strategy: "cautious-ntp",
    params: { schedule: "paper" },
    sampling,
    draws: true,
  },
];
const matched = "best-of-n, equal tokens";

function bestOf(samples: number): Method {
  return {
    label: matched,
    strategy: "best-of-n",
    params: { num_samples: samples },
    sampling,
    draws: true,
  };
}

/** One method on one task. */
interface Outcome {
  readonly label: string;
  readonly params: Readonly<Record<string, unknown>>;
  /** Share of seeds that answered right, per instance. */
  readonly right: readonly number[];
  /** Tokens drawn per answer, rejected ones included. */
  readonly drawn: number;
}

function outcomeOf(
  method: Method,
  answers: readonly (readonly Answers[])[],
  expected: readonly string[],
): Outcome {
  return {
    label: method.label,
    params: method.params ?? {},
    right: answers.map((seeds, i) => mean(seeds.map(({ texts }) => +(texts[0] === expected[i])))),
    drawn: mean(answers.flat().map(({ drawn }) => drawn)),
  };
}

async function measureTask(
  model: LanguageModel,
  task: Task,
  options: QualityOptions,
): Promise<readonly Outcome[]> {
  const expected = testSamples(task, options.count, INSTANCES).map(({ answer }) => answer);
  const drawing = options.count * options.seeds;
  const onDone = progressBar(task.name.padEnd(14), 4 * drawing + 2 * options.count);
  const measure = async (method: Method) =>
    outcomeOf(method, await answerAll(model, method, { task, options, onDone }), expected);
  const first = await measure(cautious);
  const plain = await measure(sampled);
  const samples = Math.min(64, Math.max(1, Math.round(first.drawn / plain.drawn)));
  const best = await measure(bestOf(samples));
  const rest = [];
  for (const method of others) rest.push(await measure(method));
  return [first, plain, best, ...rest];
}

/** Mean over instances of what `cautious-ntp` has above another method, all tasks together. */
function differences(outcomes: ReadonlyMap<string, readonly Outcome[]>): Record<string, Estimate> {
  const tasks = [...outcomes.values()];
  const rights = (label: string) =>
    tasks.flatMap((all) => all.find((outcome) => outcome.label === label)!.right);
  const own = rights(cautious.label);
  return Object.fromEntries(
    tasks[0]!.map(({ label }) => label).filter((label) => label !== cautious.label).map((label) => {
      const other = rights(label);
      return [label, bootstrap(own.map((right, i) => right - other[i]!), label)];
    }),
  );
}

/** Runs the benchmark and writes its files. */
export async function qualityCautious(options: QualityOptions): Promise<void> {
  await using model = await openEmbedded(options.model);
  const outcomes = new Map<string, readonly Outcome[]>();
  for (const task of options.tasks) {
    outcomes.set(task.name, await measureTask(model.engine, task, options));
  }
  const labels = [...outcomes.values()][0]!.map(({ label }) => label);
  const scores: ModelScores[] = labels.map((model, m) => ({
    model,
    scores: [...outcomes].map(([task, all]) => {
      const right = all[m]!.right.reduce((a, b) => a + b, 0);
      const count = options.count;
      return { task, right, count, accuracy: right / count, ...wilson(right, count) };
    }),
  }));
  const against = differences(outcomes);
  const result = {
    ...setup(options, model),
    sampling,
    tasks: Object.fromEntries(
      [...outcomes].map(([task, all], t) => [
        task,
        all.map(({ label, params, drawn }, m) => {
          const { accuracy, low, high } = scores[m]!.scores[t]!;
          return { label, params, accuracy, low, high, drawn_per_answer: drawn };
        }),
      ]),
    ),
    differences: against,
  };
  const title = `Accuracy by strategy, ${options.count} instances per task, 95 % intervals`;
  await publish(options, {
    result,
    svg: chart(scores, title),
    table: tableOf(outcomes, scores, against),
  });
}

function tableOf(
  outcomes: ReadonlyMap<string, readonly Outcome[]>,
  scores: readonly ModelScores[],
  against: Readonly<Record<string, Estimate>>,
): string {
  const percent = (share: number) => (100 * share).toFixed(1);
  const labels = scores.map(({ model }) => model);
  const rows = [...outcomes].map(([task, all], t) => [
    task,
    ...all.map(({ drawn }, m) => {
      const { accuracy, low, high } = scores[m]!.scores[t]!;
      return `${percent(accuracy)} % (${percent(low)} to ${percent(high)}), ${drawn.toFixed(0)}`;
    }),
  ]);
  const gaps = labels.map((label) => {
    const gap = against[label];
    return gap ? `${percent(gap.mean)} (${percent(gap.low)} to ${percent(gap.high)})` : "";
  });
  return "Accuracy (95 % interval), tokens drawn per answer\n\n" +
    markdown([["task", ...labels], ...rows, ["cautious-ntp minus this", ...gaps]]);
}

if (import.meta.main) await qualityCautious(qualityOptions(Deno.args, "quality-cautious"));

/**
 * Does `cautious-ntp` answer better than other strategies that draw as many tokens?
 *
 * For every task `cautious-ntp` runs first; `best-of-n` then gets as many samples per answer as come
 * closest to the tokens it drew, measured against what plain sampling draws. All that sample use the
 * same temperature and nucleus. Accuracy is exact match, averaged over seeds; its interval is
 * Wilson's over instances, which ignores that seeds average noise out and so is rather too wide.
 * Differences are paired by instance over all tasks, with bootstrap intervals.
 */
import { barChart } from "../_chart.ts";
import type { Task } from "../../models/recipe/task.ts";
import {
  type Bench,
  bootstrap,
  type Estimate,
  instances,
  markdown,
  MAX_TOKENS,
  mean,
  type Part,
  percent,
  shareOf,
  withInterval,
} from "./_quality.ts";
import { overSeeds, run, type Way } from "./_run.ts";

/** The setting of the paper's scripts for GSM8K with Llama. */
const sampling = { temperature: 1.2, topP: 0.9 };

/** A way to decode. */
interface Method extends Way {
  readonly label: string;
  /** Whether another seed may give another answer; otherwise one seed is enough. */
  readonly draws: boolean;
}

const cautious: Method = { label: "cautious-ntp", strategy: "cautious-ntp", draws: true };
const sampled: Method = { label: "sample", strategy: "sample", draws: true };
const others: readonly Method[] = [
  { label: "greedy", strategy: "greedy", draws: false },
  { label: "beam 5", strategy: "beam", params: { num_beams: 5 }, draws: false },
  {
    label: "cautious-ntp, paper schedule",
    strategy: "cautious-ntp",
    params: { schedule: "paper" },
    draws: true,
  },
];

function bestOf(samples: number): Method {
  return {
    label: "best-of-n, equal tokens",
    strategy: "best-of-n",
    params: { num_samples: samples },
    draws: true,
  };
}

/** The part. */
export const qualityCautious: Part = {
  name: "cautious",
  about: "cautious-ntp against strategies that draw as many tokens",
  count: 100,
  seeds: 3,
  async measure(bench) {
    const outcomes = new Map<string, readonly Outcome[]>();
    for (const task of bench.tasks) outcomes.set(task.name, await measureTask(bench, task));
    const against = differences(outcomes);
    const rows = [...outcomes].flatMap(([task, all]) => all.map((one) => rowOf(task, one)));
    const tasks = Object.fromEntries(
      [...outcomes.keys()].map((task) => [task, rows.filter((row) => row.task === task)]),
    );
    return {
      result: { sampling, tasks, differences: against },
      svg: plot(rows, bench),
      table: tableOf(rows, against),
    };
  },
};

/** One method on one task; a number per instance. */
interface Outcome {
  readonly label: string;
  readonly params: Readonly<Record<string, unknown>>;
  /** Share of seeds that answered right. */
  readonly right: readonly number[];
  /** Tokens drawn per answer, rejected ones included. */
  readonly drawn: readonly number[];
}

async function measureTask(bench: Bench, task: Task): Promise<readonly Outcome[]> {
  const jobs = 4 * bench.count * bench.seeds + 2 * bench.count;
  const tick = bench.progress(task.name, jobs);
  const measure = (method: Method) =>
    bench.once(`${task.name} ${method.label}`, () => outcomeOf(bench, task, method, tick));
  const first = await measure(cautious);
  const plain = await measure(sampled);
  const times = Math.round(mean(first.drawn) / mean(plain.drawn));
  const best = await measure(bestOf(Math.min(64, Math.max(1, times))));
  const rest = [];
  for (const method of others) rest.push(await measure(method));
  return [first, plain, best, ...rest];
}

async function outcomeOf(
  bench: Bench,
  task: Task,
  method: Method,
  tick: () => void,
): Promise<Outcome> {
  const seeds = method.draws ? bench.seeds : 1;
  const runs = await overSeeds(instances(task, bench), seeds, async (sample, seed) => {
    const { texts, result } = await run(method, {
      models: { model: bench.large.engine },
      prompt: [sample.messages[0]],
      sampling: method.draws ? sampling : {},
      maxTokens: MAX_TOKENS,
      seed,
    });
    tick();
    return { right: +(texts[0] === sample.answer), drawn: result.usage.drawnTokens };
  });
  return {
    label: method.label,
    params: method.params ?? {},
    right: runs.map((all) => mean(all.map(({ right }) => right))),
    drawn: runs.map((all) => mean(all.map(({ drawn }) => drawn))),
  };
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

/** One method on one task, for readers. */
type Row = ReturnType<typeof rowOf>;

function rowOf(task: string, { label, params, right, drawn }: Outcome) {
  const { mean: accuracy, low, high } = shareOf(right);
  const cost = bootstrap(drawn, `${task} ${label} drawn`);
  return { task, label, params, accuracy, low, high, drawn_per_answer: cost };
}

function plot(rows: readonly Row[], { count, seeds }: Bench): string {
  const labels = [...new Set(rows.map(({ task }) => task))];
  return barChart({
    title: `Right answers by strategy, ${count} instances per task, ${seeds} seeds, 95 %`,
    value: { name: "share of answers that are right", min: 0, max: 1 },
    labels,
    series: [...new Set(rows.map(({ label }) => label))].map((name) => ({
      name,
      bars: labels.map((task) => {
        const { accuracy, low, high } = rows.find((row) =>
          row.task === task && row.label === name
        )!;
        return { mean: Number(accuracy.toFixed(3)), low, high };
      }),
    })),
  });
}

function tableOf(rows: readonly Row[], against: Readonly<Record<string, Estimate>>): string {
  const labels = [...new Set(rows.map(({ label }) => label))];
  const lines = [...new Set(rows.map(({ task }) => task))].map((task) => [
    task,
    ...rows.filter((row) => row.task === task).map(({ accuracy, low, high, ...row }) =>
      `${percent({ mean: accuracy, low, high })}; ${withInterval(row.drawn_per_answer, 0)}`
    ),
  ]);
  const gaps = labels.map((label) => against[label] ? percent(against[label]) : "");
  return "Accuracy in percent; tokens drawn per answer (95 % intervals)\n\n" +
    markdown([["task", ...labels], ...lines, ["cautious-ntp minus this, points", ...gaps]]);
}

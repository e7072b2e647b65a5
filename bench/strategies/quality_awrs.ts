/**
 * What do `awrs` and its particles change, against masking token by token?
 *
 * Held-out instances of JSON and SQL under a JSON Schema and a regular expression that names the table's
 * columns, at both embedded models and three temperatures: validity, accuracy, checks per drawn token.
 * Accuracy is exact match averaged over seeds, its interval Wilson's over instances; differences to the
 * mask are paired by instance, other intervals bootstraps over instances. `quality_awrs_distance.ts` has
 * the exact laws, `quality_time.ts` the time.
 */
import { barChart } from "../_chart.ts";
import { maxTokens, measureTask, type Outcome, type TaskSetting } from "./_awrs_tasks.ts";
import { masking, ways } from "./_awrs_ways.ts";
import {
  type Bench,
  bootstrap,
  type Estimate,
  markdown,
  type Part,
  percent,
  ratio,
  shareOf,
  withInterval,
} from "./_quality.ts";

const temperatures = [1, 1.5, 2];

/** The part. */
export const qualityAwrs: Part = {
  name: "awrs",
  about: "awrs and its particles against token masks, on JSON and SQL",
  count: 200,
  seeds: 2,
  tasks: ["json", "sql"],
  async measure(bench) {
    const rows: Row[] = [];
    for (const task of bench.tasks) {
      for (const { engine } of [bench.large, bench.small]) {
        for (const temperature of temperatures) {
          rows.push(...await measureSetting(bench, { engine, task, temperature }));
        }
      }
    }
    const result = { "max_tokens": maxTokens, temperatures, rows };
    return { result, svg: plot(rows, bench), table: tableOf(rows) };
  },
};

/** All ways in one setting, each against the mask. */
async function measureSetting(bench: Bench, setting: TaskSetting): Promise<readonly Row[]> {
  const { engine, task, temperature } = setting;
  const name = `${engine.id} ${task.name} ${temperature}`;
  const tick = bench.progress(name, ways.length * bench.count * bench.seeds);
  const outcomes = new Map<string, Outcome>();
  for (const way of ways) {
    const work = () => measureTask(setting, way, bench, tick);
    outcomes.set(way.label, await bench.once(`${name} ${way.label}`, work));
  }
  const base = outcomes.get(masking.label)!;
  return [...outcomes].map(([method, { right, valid, drawn, checks }]) => {
    const seed = `${name} ${method}`;
    const answers = drawn.map(() => bench.seeds);
    return {
      model: engine.id,
      task: task.name,
      temperature,
      method,
      accuracy: shareOf(right),
      validity: shareOf(valid),
      minus_mask: bootstrap(right.map((share, i) => share - base.right[i]!), seed),
      drawn_per_answer: ratio(drawn, answers, `${seed} drawn`),
      checks_per_token: ratio(checks, drawn, `${seed} checks`),
    };
  });
}

/** One way in one setting. */
interface Row {
  readonly model: string;
  readonly task: string;
  readonly temperature: number;
  readonly method: string;
  readonly accuracy: Estimate;
  readonly validity: Estimate;
  readonly "minus_mask": Estimate;
  readonly "drawn_per_answer": Estimate;
  readonly "checks_per_token": Estimate;
}

const settingOf = ({ task, model, temperature }: Row) =>
  `${task}, ${model.endsWith("draft") ? "draft, " : ""}temperature ${temperature}`;

function plot(rows: readonly Row[], { count, seeds }: Bench): string {
  const labels = [...new Set(rows.map(settingOf))];
  return barChart({
    title: `Right answers under a constraint, ${count} instances, ${seeds} seeds, 95 %`,
    value: { name: "share of answers that are right", min: 0, max: 1 },
    labels,
    series: ways.map(({ label }) => ({
      name: label,
      bars: labels.map((setting) =>
        shown(rows.find((row) => row.method === label && settingOf(row) === setting)!.accuracy)
      ),
    })),
  });
}

function shown({ mean, ...interval }: Estimate): Estimate {
  return { ...interval, mean: Number(mean.toPrecision(3)) };
}

function tableOf(rows: readonly Row[]): string {
  return markdown([
    [
      "task",
      "model",
      "temperature",
      "method",
      "accuracy %",
      "minus mask, points",
      "valid %",
      "drawn per answer",
      "checks per token",
    ],
    ...rows.map((row) => [
      row.task,
      row.model,
      `${row.temperature}`,
      row.method,
      percent(row.accuracy),
      percent(row.minus_mask),
      percent(row.validity),
      withInterval(row.drawn_per_answer, 1),
      withInterval(row.checks_per_token),
    ]),
  ]);
}

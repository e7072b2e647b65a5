/**
 * What do `awrs` and its particles change, against masking token by token?
 *
 * `deno run -A bench/strategies/quality_awrs.ts [--count N] [--seeds N] [--task NAME]... [--out FILE]`
 *
 * Held-out instances of JSON and SQL under a JSON Schema and a regular expression that names the table's
 * columns, at both embedded models and at temperatures 1 and 2: validity, accuracy, checks per drawn token,
 * time. Accuracy is exact match averaged over seeds, its interval Wilson's over instances; differences to
 * the mask are paired by instance, with bootstrap intervals. `quality_awrs_distance.ts` has the exact laws.
 */
import { chart, type ModelScores } from "../../models/chart.ts";
import { round } from "../_report.ts";
import { maxTokens, measureTask, methods, type TaskRow } from "./_awrs_tasks.ts";
import {
  type Estimate,
  markdown,
  openEmbedded,
  publish,
  type QualityOptions,
  qualityOptions,
  setup,
} from "./_quality.ts";

const temperatures = [1, 2];

/** Runs the benchmark and writes its files. */
async function qualityAwrs(options: QualityOptions): Promise<void> {
  await using model = await openEmbedded(options.model);
  await using small = await openEmbedded(`${options.model}-draft`);
  const rows: TaskRow[] = [];
  const models = [[options.model, model], [`${options.model}-draft`, small]] as const;
  for (const task of options.tasks.filter(({ name }) => name === "json" || name === "sql")) {
    for (const [id, { engine }] of models) {
      for (const temperature of temperatures) {
        rows.push(...await measureTask({ id, model: engine, task, temperature }, options));
      }
    }
  }
  const result = {
    ...setup(options, model),
    draft: small.info.fingerprint,
    "max_tokens": maxTokens,
    temperatures,
    rows,
  };
  const rounded = (_: string, value: unknown) => typeof value === "number" ? round(value) : value;
  const { count } = options;
  await publish(options, {
    result: JSON.parse(JSON.stringify(result, rounded)),
    svg: chart(accuracies(rows, count), `Accuracy under a constraint, ${count} instances`),
    table: taskTable(rows),
  });
}

function accuracies(rows: readonly TaskRow[], count: number): ModelScores[] {
  return methods.map(({ label }) => ({
    model: label,
    scores: rows.filter(({ method }) => method === label).map((row) => ({
      task: `${row.task} ${row.temperature}${row.model.endsWith("draft") ? " draft" : ""}`,
      right: row.accuracy * count,
      count,
      accuracy: row.accuracy,
      low: row.low,
      high: row.high,
    })),
  }));
}

const interval = ({ mean, low, high }: Estimate, digits = 2) =>
  `${mean.toFixed(digits)} (${low.toFixed(digits)} to ${high.toFixed(digits)})`;

function taskTable(rows: readonly TaskRow[]): string {
  const percent = ({ mean, low, high }: Estimate) =>
    interval({ mean: 100 * mean, low: 100 * low, high: 100 * high }, 1);
  return markdown([
    [
      "task",
      "model",
      "temperature",
      "method",
      "accuracy %",
      "minus mask",
      "valid %",
      "drawn per answer",
      "checks per token",
      "ms per answer",
      "time / mask",
    ],
    ...rows.map((row) => [
      row.task,
      row.model,
      `${row.temperature}`,
      row.method,
      percent({ mean: row.accuracy, low: row.low, high: row.high }),
      percent(row.minus_mask),
      percent(row.validity),
      row.drawn_per_answer.toFixed(1),
      row.checks_per_token.toFixed(2),
      row.ms_per_answer.toFixed(1),
      row.time_against_mask.toFixed(2),
    ]),
  ]);
}

if (import.meta.main) await qualityAwrs(qualityOptions(Deno.args, "quality-awrs"));

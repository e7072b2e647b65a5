/**
 * What do `awrs` and its particles change, against masking token by token?
 *
 * `deno run -A bench/strategies/quality_awrs.ts [--count N] [--seeds N] [--task NAME]... [--out FILE]`
 *
 * First, small problems whose exact conditional distribution can be enumerated, at both embedded models:
 * total variation between answers and that distribution. Then held-out instances of JSON and SQL under a
 * JSON Schema and a regular expression that names the table's columns: validity, accuracy, checks per
 * drawn token, time, at temperatures 1 and 2. Accuracy is exact match averaged over seeds, its interval
 * Wilson's over instances; differences to the mask are paired by instance, with bootstrap intervals.
 */
import { chart, type ModelScores } from "../../models/chart.ts";
import { round } from "../_report.ts";
import { type DistanceResult, measureDistances } from "./_awrs_distance.ts";
import { maxTokens, measureTask, methods, type TaskRow } from "./_awrs_tasks.ts";
import {
  type Estimate,
  markdown,
  openEmbedded,
  type QualityOptions,
  qualityOptions,
  setup,
} from "./_quality.ts";

const temperatures = [1, 2];
const drawsPerProblem = 200;

/** Runs the benchmark and writes its files. */
async function qualityAwrs(options: QualityOptions): Promise<void> {
  await using model = await openEmbedded(options.model);
  await using small = await openEmbedded(`${options.model}-draft`);
  const distances = [
    ...await measureDistances(options.model, model.engine, drawsPerProblem),
    ...await measureDistances(`${options.model}-draft`, small.engine, drawsPerProblem),
  ].sort((a, b) => b.mass - a.mass);
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
    "draws_per_problem": drawsPerProblem,
    distances,
    tasks: rows,
  };
  await write(options.out, result, { distances, rows, count: options.count });
}

async function write(
  out: string,
  result: unknown,
  { distances, rows, count }: {
    readonly distances: readonly DistanceResult[];
    readonly rows: readonly TaskRow[];
    readonly count: number;
  },
): Promise<void> {
  await Deno.mkdir(out.slice(0, Math.max(0, out.lastIndexOf("/"))) || ".", { recursive: true });
  const precise = (_: string, value: unknown) => typeof value === "number" ? round(value) : value;
  await Deno.writeTextFile(`${out}.json`, JSON.stringify(result, precise, 2) + "\n");
  await Deno.writeTextFile(
    `${out}.svg`,
    chart(
      accuracies(rows, count),
      `Accuracy under a constraint, ${count} instances, 95 % intervals`,
    ),
  );
  await Deno.writeTextFile(
    `${out}-distance.svg`,
    chart(distanceScores(distances), "Total variation to the exact conditional distribution"),
  );
  const text = `${distanceTable(distances)}\n${taskTable(rows)}`;
  Deno.stdout.writeSync(new TextEncoder().encode(text));
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

function distanceScores(distances: readonly DistanceResult[]): ModelScores[] {
  return distances[0]!.rows.map(({ way }, w) => ({
    model: way,
    scores: distances.map(({ mass, rows }) => {
      const { mean, low, high } = rows[w]!.distance;
      const task = `mass ${mass.toExponential(1)}`;
      return { task, right: 0, count: 0, accuracy: mean, low, high };
    }),
  }));
}

const interval = ({ mean, low, high }: Estimate, digits = 2) =>
  `${mean.toFixed(digits)} (${low.toFixed(digits)} to ${high.toFixed(digits)})`;

function distanceTable(distances: readonly DistanceResult[]): string {
  const labels = distances[0]!.rows.map(({ way }) => way);
  return "Total variation to the exact conditional distribution (95 % interval)\n\n" + markdown([
    ["problem", "model", "mass", "masking, exact", "noise", ...labels],
    ...distances.map(({ problem, model, mass, masking, floor, rows }) => [
      problem,
      model,
      mass.toExponential(1),
      masking.toFixed(2),
      floor.toFixed(2),
      ...rows.map(({ distance }) => interval(distance)),
    ]),
  ]);
}

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

/**
 * From measured points to what is published: `<out>.json`, `<out>.svg`, `<out>-passkey.svg` and the
 * README's table.
 *
 *     deno run --allow-read --allow-write=bench/results bench/kv/report.ts [--points FILE] [--out bench/results/kv]
 */
import { parseArgs } from "node:util";
import { wilson } from "../../models/evaluate.ts";
import { bootstrap } from "../strategies/_quality.ts";
import { figure } from "./_figure.ts";
import { ENTRIES } from "./_grid.ts";
import { passkeyFigure } from "./_passkey_figure.ts";
import { type CellRow, type KvReport, kvTable, type Row } from "./_table.ts";
import type { Point } from "./_measure.ts";

/** Points of all seeds together, with intervals. */
export function summarise(points: readonly Point[]): Row[] {
  const groups = Map.groupBy(points, ({ task, policy, ratio }) => `${task}|${policy}|${ratio}`);
  const fullStory = points.find(({ task, policy }) => task === "story" && policy === "full");
  const rows = [...groups.values()].map((group): Row => {
    const { task, policy, family, ratio } = group[0]!;
    const mean = (pick: (point: Point) => number) =>
      Number((group.reduce((sum, point) => sum + pick(point), 0) / group.length).toFixed(4));
    const asked = group.reduce((sum, point) => sum + point.asked, 0);
    return {
      task,
      policy,
      family,
      ratio,
      kept: mean(({ kept }) => kept),
      bytes: mean(({ bytes }) => bytes),
      seeds: group.length,
      asked,
      ...task === "story" ? perplexity(group[0]!, fullStory) : accuracy(group, asked),
      ...group[0]!.cells === undefined ? {} : { cells: cellsOf(group) },
      beats_streaming: false,
    };
  });
  const place = ({ policy }: Row) => ENTRIES.findIndex(({ label }) => label === policy);
  return rows.map((row) => ({ ...row, beats_streaming: beats(row, rows) }))
    .sort((a, b) => place(a) - place(b) || a.task.localeCompare(b.task) || a.ratio - b.ratio);
}

/** Cells of a grid over all seeds. */
function cellsOf(group: readonly Point[]): Record<string, CellRow> {
  const names = Object.keys(group[0]!.cells ?? {});
  return Object.fromEntries(names.map((name) => {
    const sum = (i: 0 | 1) => group.reduce((sum, { cells }) => sum + (cells?.[name]?.[i] ?? 0), 0);
    return [name, { right: sum(0), asked: sum(1) }];
  }));
}

function accuracy(group: readonly Point[], asked: number) {
  const right = group.reduce((sum, point) => sum + point.right, 0);
  const { low, high } = wilson(right, asked);
  return { value: rounded(right / asked), low: rounded(low), high: rounded(high) };
}

/** exp of the mean difference of losses, bootstrapped over texts. */
function perplexity({ losses = [], policy, ratio }: Point, full: Point | undefined) {
  const differences = losses.map((loss, i) => loss - (full?.losses?.[i] ?? NaN));
  const { mean, low, high } = bootstrap(differences, `${policy} ${ratio}`);
  return {
    value: rounded(Math.exp(mean)),
    low: rounded(Math.exp(low)),
    high: rounded(Math.exp(high)),
  };
}

const rounded = (value: number) => Number(value.toFixed(4));

/** Policies without a budget are compared with `streaming` at the next larger share. */
function beats(row: Row, rows: readonly Row[]): boolean {
  const share = row.family === "kept" && row.ratio === 1 ? row.kept : row.ratio;
  const [rival] = rows.filter(({ task, policy, ratio }) =>
    task === row.task && policy === "streaming" && ratio >= share
  ).sort((a, b) => a.ratio - b.ratio);
  if (rival === undefined || row.family === "full" || row.policy === "streaming") return false;
  return row.task === "story" ? row.high < rival.low : row.low > rival.high;
}

if (import.meta.main) {
  const { values } = parseArgs({
    args: Deno.args,
    options: {
      points: { type: "string", default: "bench/results/kv.points.jsonl" },
      out: { type: "string", default: "bench/results/kv" },
    },
  });
  const text = await Deno.readTextFile(values.points);
  const points = text.trim().split("\n").map((line) => JSON.parse(line) as Point);
  const report: KvReport = {
    date: new Date().toISOString().slice(0, 10),
    model: "decant-tiny",
    rows: summarise(points),
  };
  await Deno.writeTextFile(`${values.out}.json`, JSON.stringify(report, undefined, 1) + "\n");
  await Deno.writeTextFile(`${values.out}.svg`, figure(report.rows));
  await Deno.writeTextFile(`${values.out}-passkey.svg`, passkeyFigure(report.rows));
  // deno-lint-ignore no-console
  console.log(kvTable(report));
}

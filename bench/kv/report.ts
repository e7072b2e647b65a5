// deno-lint-ignore-file camelcase -- names as in the results
/**
 * From measured points to what is published: `<out>.json`, `<out>.svg` and the README's table.
 *
 *     deno run --allow-read --allow-write=bench/results bench/kv/report.ts [--points FILE] [--out bench/results/kv]
 */
import { parseArgs } from "node:util";
import { wilson } from "../../models/evaluate.ts";
import { bootstrap } from "../strategies/_quality.ts";
import { figure } from "./_figure.ts";
import type { Point } from "./_measure.ts";

/** One policy at one share, over all seeds. */
export interface Row {
  readonly task: string;
  readonly policy: string;
  readonly family: string;
  /** Share of tokens asked for; of the read family: read, of the others: kept. */
  readonly ratio: number;
  readonly kept: number;
  readonly bytes: number;
  readonly seeds: number;
  readonly asked: number;
  /** Accuracy, or for `story` the perplexity relative to the full cache. */
  readonly value: number;
  readonly low: number;
  readonly high: number;
  /** Whether its 95 % interval lies above `streaming`'s at the same share (`story`: below). */
  readonly beats_streaming: boolean;
}

/** What `<out>.json` holds. */
export interface KvReport {
  readonly date: string;
  readonly model: string;
  readonly rows: readonly Row[];
}

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
      beats_streaming: false,
    };
  });
  return rows.map((row) => ({ ...row, beats_streaming: beats(row, rows) }));
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

const COLUMNS: readonly (readonly [title: string, task: string, ratio: number])[] = [
  ["recall, 10 %", "recall", 0.1],
  ["25 %", "recall", 0.25],
  ["50 %", "recall", 0.5],
  ["passkey, 25 %", "passkey", 0.25],
  ["multi-fact, 25 %", "multi-fact", 0.25],
  ["recall, question seen, 25 %", "recall, question visible", 0.25],
  ["perplexity, 25 %", "story", 0.25],
];

/** The README's table: a policy a line, bold where it beats `streaming` outside the intervals. */
export function kvTable({ rows }: KvReport): string {
  const names = [...new Set(rows.map(({ policy }) => policy))];
  const families: Record<string, string> = {
    full: "everything",
    kept: "kept",
    read: "read",
    bits: "all, fewer bits",
  };
  const lines = names.map((name) => {
    const own = rows.filter(({ policy }) => policy === name);
    const isFixed = own.every(({ ratio }) => ratio === 1);
    const cells = COLUMNS.map(([_, task, ratio], i) => {
      // What has no budget stands once per task.
      const repeats = isFixed && COLUMNS.findIndex(([, other]) => other === task) !== i;
      const row = own.find((one) => one.task === task && (isFixed || one.ratio === ratio));
      return row === undefined || repeats ? "" : cell(row);
    });
    const share = isFixed && own[0]!.family === "kept"
      ? `${percent(own[0]!.kept)} kept`
      : undefined;
    const label = share ?? families[own[0]!.family] ?? "";
    return `| \`${name}\` | ${label} | ${cells.join(" | ")} |`;
  });
  return [
    `| policy | share of tokens | ${COLUMNS.map(([title]) => title).join(" | ")} |`,
    `| --- | --- | ${COLUMNS.map(() => "---").join(" | ")} |`,
    ...lines,
  ].join("\n");
}

const percent = (share: number) => `${(100 * share).toFixed(0)} %`;

function cell({ task, value, low, high, beats_streaming: beats }: Row): string {
  const text = task === "story"
    ? `x ${value.toFixed(3)}`
    : `${percent(value)} (${(100 * low).toFixed(0)} to ${(100 * high).toFixed(0)})`;
  return beats ? `**${text}**` : text;
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
  // deno-lint-ignore no-console
  console.log(kvTable(report));
}

/**
 * From the points of adapters.ts to `<out>.json` and a table.
 *
 *     deno run --allow-read --allow-write=bench/results bench/kv/adapters_report.ts [--out bench/results/kv-adapters]
 */
import { parseArgs } from "node:util";
import { wilson } from "../../models/evaluate.ts";
import { bootstrap } from "../strategies/_quality.ts";
import { type AdapterPoint, readPoints } from "./_points.ts";

const { values } = parseArgs({
  args: Deno.args,
  options: { out: { type: "string", default: "bench/results/kv-adapters" } },
});
const points = await readPoints<AdapterPoint>(`${values.out}.points.jsonl`);
const full = points.find(({ adapter, task, policy }) =>
  adapter === "none" && task === "story" && policy === "full"
);
const rounded = (value: number) => Number(value.toFixed(4));

const rows = points.map((point) => {
  const { adapter, policy, task, ratio, kept, bytes, right, asked, losses } = point;
  const shared = { adapter, policy, task, ratio, kept, bytes, asked };
  if (losses === undefined) {
    const { low, high } = wilson(right, asked);
    return { ...shared, value: rounded(right / asked), low: rounded(low), high: rounded(high) };
  }
  // Perplexity over the full cache's, paired by text.
  const differences = losses.map((loss, i) => loss - full!.losses![i]!);
  const { mean, low, high } = bootstrap(differences, `${adapter} ${policy}`);
  const [value, from, to] = [mean, low, high].map((x) => rounded(Math.exp(x)));
  return { ...shared, value: value!, low: from!, high: to! };
});
const report = { date: new Date().toISOString().slice(0, 10), model: "decant-tiny", rows };
await Deno.writeTextFile(`${values.out}.json`, JSON.stringify(report, undefined, 1) + "\n");

const tasks = [...new Set(rows.map(({ task }) => task))];
const percent = (share: number) => (100 * share).toFixed(0);
const lines = [...Map.groupBy(rows, ({ adapter, policy }) => `${adapter} | ${policy}`)].map(
  ([name, own]) => {
    const cells = tasks.map((task) => {
      const row = own.find((one) => one.task === task);
      if (row === undefined) return "";
      if (task === "story") return `x ${row.value.toFixed(3)}`;
      const kept = row.kept < 1 ? `, ${percent(row.kept)} kept` : "";
      return `${percent(row.value)} (${percent(row.low)} to ${percent(row.high)}${kept})`;
    });
    return `| ${name} | ${cells.join(" | ")} |`;
  },
);
// deno-lint-ignore no-console
console.log([
  `| adapter | policy | ${tasks.join(" | ")} |`,
  `| --- | --- | ${tasks.map(() => "---").join(" | ")} |`,
  ...lines,
].join("\n"));

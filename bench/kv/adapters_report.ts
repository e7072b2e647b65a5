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
  const { adapter, policy, task, ratio, kept, bytes, right, asked, losses, cells } = point;
  const shared = { adapter, policy, task, ratio, kept, bytes, asked, ...cells ? { cells } : {} };
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

const percent = (share: number) => `${(100 * share).toFixed(0)} %`;

/** A table per method: tasks down, the full cache and then its adapters across. */
for (const method of ["nats", "tokenbutler", "attention-predictor", "sepllm"]) {
  const own = rows.filter(({ policy }) => policy.startsWith(method));
  if (own.length === 0) continue;
  const columns = [...new Set(own.map(({ adapter, policy }) => `${adapter} | ${policy}`))];
  const controls = [
    "none | full",
    ...["nats", "sepllm"].includes(method) ? ["none | streaming"] : [],
  ];
  const all = [...controls, ...columns];
  const tasks = [...new Set(own.map(({ task }) => task))];
  const lines = tasks.map((task) => {
    const cells = all.map((column) => {
      const row = rows.find((one) =>
        one.task === task && `${one.adapter} | ${one.policy}` === column
      );
      return row === undefined ? "" : cell(row);
    });
    return `| ${task} | ${cells.join(" | ")} |`;
  });
  const titles = all.map((column) => column.replace("none | ", "").replace(` | ${method}`, ""));
  // deno-lint-ignore no-console
  console.log([
    `\n${method}\n`,
    `| task | ${titles.map((title) => title.replace(" | ", ", ")).join(" | ")} |`,
    `| --- | ${all.map(() => "--:").join(" | ")} |`,
    ...lines,
  ].join("\n"));
}

function cell({ task, value, low, high, kept }: (typeof rows)[number]): string {
  const share = kept < 1 ? `, ${percent(kept)} kept` : "";
  if (task === "story") return `x ${value.toFixed(3)}${share}`;
  return `${percent(value)} (${(100 * low).toFixed(0)} to ${(100 * high).toFixed(0)}${share})`;
}

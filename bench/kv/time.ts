/**
 * Time of one decode step against the length of the context, with the full cache and a quarter of it;
 * JSON and an SVG beside it. For a quiet machine.
 *
 *     deno run -A bench/kv/time.ts [--backend wasm] [--out bench/results/kv-time.json]
 */
import { parseArgs } from "node:util";
import type { KvChoice } from "../../runtime/mod.ts";
import { lineChart } from "../_chart.ts";
import { openModel, scopeOf } from "./_model.ts";

const { values } = parseArgs({
  args: Deno.args,
  options: {
    backend: { type: "string", default: "wasm" },
    steps: { type: "string", default: "24" },
    rounds: { type: "string", default: "5" },
    out: { type: "string", default: "bench/results/kv-time.json" },
  },
});
const CONTEXTS = [128, 256, 512, 960];

const choices = (context: number): Readonly<Record<string, KvChoice>> => ({
  full: { name: "full", params: {} },
  "streaming, 25 % kept": {
    name: "streaming",
    params: { sinks: 4, window: context / 4 - 4, interval: 16 },
  },
  int8: { name: "int8", params: {} },
  // Evicts once, so that steps have tables per head and nothing else to do.
  "key-norm per head, 25 % kept": {
    name: "key-norm",
    params: { budget: context / 4, sinks: 4, window: 16, interval: 512 },
  },
  nats: { name: "nats", params: {} },
  "quest, 25 % read": { name: "quest", params: { budget: context / 4, sinks: 4, window: 8 } },
  "tokenbutler, 25 % read": {
    name: "tokenbutler",
    params: { budget: context / 4, sinks: 4, window: 8 },
  },
});

await using engine = await openModel(values.backend, 512);
const times = new Map<string, number[]>();
for (let round = 0; round < Number(values.rounds); round++) {
  for (const context of CONTEXTS) {
    for (const [label, choice] of Object.entries(choices(context))) {
      const scope = scopeOf(choice);
      const tokens = Array.from({ length: context }, (_, i) => 20 + (i * 37 + round) % 1900);
      using session = engine.session(tokens, { scope });
      await session.topk(1);
      const list = times.get(`${label} ${context}`) ?? [];
      times.set(`${label} ${context}`, list);
      for (let step = 0; step < Number(values.steps); step++) {
        session.append([20 + (step * 53) % 1900]);
        const started = performance.now();
        await session.topk(1);
        list.push(performance.now() - started);
      }
    }
  }
}

const rows = [...times].map(([key, list]) => {
  const sorted = list.sort((a, b) => a - b);
  const at = (share: number) =>
    Number((1000 * sorted[Math.floor(share * sorted.length)]!).toFixed(0));
  const [, label, context] = key.match(/^(.*) (\d+)$/)!;
  return { policy: label!, context: Number(context), p10_us: at(0.1), median_us: at(0.5) };
});
await Deno.writeTextFile(
  values.out,
  JSON.stringify(
    { date: new Date().toISOString().slice(0, 10), backend: values.backend, rows },
    undefined,
    2,
  ) + "\n",
);
const figure = lineChart({
  title: `A decode step of decant-tiny (${values.backend}), 10th percentile`,
  x: { name: "tokens in the context", min: 0, max: 1000 },
  y: { name: "milliseconds", min: 0 },
  curves: [...Map.groupBy(rows, ({ policy }) => policy)].map(([name, own]) => ({
    name,
    points: own.map(({ context, p10_us }) => [context, p10_us / 1000] as const),
    dashed: name.endsWith("read"),
  })),
});
await Deno.writeTextFile(values.out.replace(/\.json$/, ".svg"), figure);
// deno-lint-ignore no-console
for (const row of rows) console.log(JSON.stringify(row));

/**
 * What KV policies do to answers: accuracy and loss against the share of tokens kept or read.
 *
 *     deno task bench:kv [--count 16] [--seeds 3] [--stories FILE] [--out bench/results/kv]
 *
 * Points that the result file has already are not measured again, so that a run can be continued.
 */
import { parseArgs } from "node:util";
import { ENTRIES } from "./_grid.ts";
import { measureTask, measureText, type Point } from "./_measure.ts";
import { openModel } from "./_model.ts";
import { TASKS } from "./_tasks.ts";

const { values } = parseArgs({
  args: Deno.args,
  options: {
    count: { type: "string", default: "16" },
    seeds: { type: "string", default: "3" },
    seconds: { type: "string", default: "36000" },
    policy: { type: "string", multiple: true },
    stories: { type: "string" },
    backend: { type: "string", default: "wasm" },
    out: { type: "string", default: "bench/results/kv" },
  },
});
const count = Number(values.count), seeds = Number(values.seeds);
const path = `${values.out}.points.jsonl`;
const points: Point[] = await readPoints(path);
const has = (task: string, policy: string, ratio: number, seed: number) =>
  points.some((point) =>
    point.task === task && point.policy === policy && point.ratio === ratio && point.seed === seed
  );
const until = performance.now() + 1000 * Number(values.seconds);
await using engine = await openModel(values.backend, 2048);
const entries = ENTRIES.filter(({ label }) => values.policy?.includes(label) ?? true);

if (values.stories !== undefined) await measureStories(values.stories);
for (let seed = 1; seed <= seeds; seed++) {
  for (const task of TASKS) {
    for (const entry of entries) {
      if (task.question === "visible" && entry.family === "read") continue; // the prompt is dense
      for (const ratio of entry.ratios) {
        // At 100 % every policy equals the full cache to the bit; tests hold that.
        if (ratio === 1 && entry.ratios.length > 1) continue;
        if (performance.now() > until) Deno.exit(0);
        if (has(task.name, entry.label, ratio, seed)) continue;
        await keep(await measureTask(engine, task, entry, ratio, seed, count));
      }
    }
  }
}

async function measureStories(file: string): Promise<void> {
  const scored = 128, length = 384;
  const stories = (await Deno.readTextFile(file)).split(/\n\n+/);
  const tokens = stories.flatMap((story) => [...engine.vocab.encode(story), 0]);
  const texts = Array.from({ length: 24 }, (_, i) => tokens.slice(i * length, (i + 1) * length));
  for (const entry of entries) {
    for (const ratio of entry.ratios) {
      if (ratio === 1 && entry.ratios.length > 1) continue;
      if (performance.now() > until || has("story", entry.label, ratio, 0)) continue;
      await keep(await measureText(engine, texts, scored, entry, ratio));
    }
  }
}

async function keep(point: Point): Promise<void> {
  points.push(point);
  await Deno.writeTextFile(path, JSON.stringify(point) + "\n", { append: true });
}

async function readPoints(file: string): Promise<Point[]> {
  try {
    const text = await Deno.readTextFile(file);
    return text.trim().split("\n").filter(Boolean).map((line) => JSON.parse(line) as Point);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return [];
    throw error;
  }
}

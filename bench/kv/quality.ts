/**
 * What KV policies do to answers: accuracy and loss against the share of tokens kept or read.
 *
 *     deno task bench:kv [--count 67] [--seeds 3] [--stories FILE] [--out bench/results/kv] [--fresh]
 *
 * Points that the result file has already are not measured again, so that a run can be continued;
 * `--fresh` starts over.
 */
import { parseArgs } from "node:util";
import { createProgress } from "../_progress.ts";
import { ENTRIES, type Entry } from "./_grid.ts";
import { measureTask, measureText, type Point } from "./_measure.ts";
import { openModel } from "./_model.ts";
import { keepPoint, readPoints, readTexts } from "./_points.ts";
import { type KvTask, TASKS } from "./_tasks.ts";

/** Most telling first, in case a run is cut short. */
const ORDER = [1, 0.25, 0.1, 0.5, 0.05];

const { values } = parseArgs({
  args: Deno.args,
  options: {
    count: { type: "string", default: "67" },
    seeds: { type: "string", default: "3" },
    seconds: { type: "string", default: "36000" },
    policy: { type: "string", multiple: true },
    task: { type: "string", multiple: true },
    share: { type: "string", multiple: true },
    stories: { type: "string" },
    fresh: { type: "boolean", default: false },
    backend: { type: "string", default: "wasm" },
    out: { type: "string", default: "bench/results/kv" },
  },
});
const count = Number(values.count), seeds = Number(values.seeds);
const path = `${values.out}.points.jsonl`;
if (values.fresh) await Deno.writeTextFile(path, "");
const points = await readPoints<Point>(path);
const has = (task: string, policy: string, ratio: number, seed: number) =>
  points.some((point) =>
    point.task === task && point.policy === policy && point.ratio === ratio && point.seed === seed
  );
const until = performance.now() + 1000 * Number(values.seconds);
await using engine = await openModel(values.backend, 2048);
const entries = ENTRIES.filter(({ label }) => values.policy?.includes(label) ?? true);
const texts = values.stories === undefined ? [] : await readTexts(values.stories, engine.vocab);
const ENOUGH = 64; // a text's last tokens, which are scored

/** One point that is to be measured. */
interface Job {
  readonly what: string;
  measure(): Promise<Point>;
}

const jobs = Array.from({ length: seeds }, (_, i) => i + 1).flatMap((seed) =>
  ORDER.filter((ratio) => values.share?.includes(String(ratio)) ?? true).flatMap((ratio) => [
    ...seed === 1 && texts.length > 0 && wants("story") ? storyJobs(ratio) : [],
    ...TASKS.filter(({ name }) => wants(name)).flatMap((task) => taskJobs(task, ratio, seed)),
  ])
);
const progress = createProgress(jobs.length);
for (const { what, measure } of jobs) {
  if (performance.now() > until) break;
  progress.advance(0, what);
  await keepPoint(path, points, await measure());
  progress.advance(1, what);
}
progress.end();

function wants(task: string): boolean {
  return values.task?.includes(task) ?? true;
}

/** At 100 % every policy equals the full cache to the bit, as tests hold: only those without a budget. */
function entriesAt(ratio: number): readonly Entry[] {
  return entries.filter(({ ratios }) =>
    ratio === 1 ? ratios.length === 1 : ratios.length > 1 && ratios.includes(ratio)
  );
}

function taskJobs(task: KvTask, ratio: number, seed: number): Job[] {
  return entriesAt(ratio).filter(({ label }) => !has(task.name, label, ratio, seed)).map((
    entry,
  ) => ({
    what: `${task.name}, ${entry.label}, ${100 * ratio} %, seed ${seed}`,
    measure: () => measureTask(engine, task, entry, ratio, seed, count),
  }));
}

function storyJobs(ratio: number): Job[] {
  return entriesAt(ratio).filter(({ label }) => !has("story", label, ratio, 0)).map((entry) => ({
    what: `stories, ${entry.label}, ${100 * ratio} %`,
    measure: () => measureText(engine, texts, ENOUGH, entry, ratio),
  }));
}

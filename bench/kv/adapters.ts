/**
 * Learned parts of KV policies on every task: seeds, and transfer to what they were not trained on.
 *
 *     deno run -A bench/kv/adapters.ts --adapter "LABEL=FILE" ... [--stories FILE] [--count 64]
 *         [--model FOLDER --label "another model"]
 *
 * Points that the result file has already are not measured again.
 */
import { parseArgs } from "node:util";
import { createProgress } from "../_progress.ts";
import { openSafetensors } from "../../runtime/formats/safetensors.ts";
import { type Entry, fixed, reading } from "./_grid.ts";
import { measureTask, measureText, type Point } from "./_measure.ts";
import { openModel } from "./_model.ts";
import { type AdapterPoint, keepPoint, readPoints, readTexts } from "./_points.ts";
import { OTHER_TASKS, TASKS } from "./_tasks.ts";

const { values } = parseArgs({
  args: Deno.args,
  options: {
    adapter: { type: "string", multiple: true, default: [] },
    count: { type: "string", default: "64" },
    task: { type: "string", multiple: true },
    policy: { type: "string", multiple: true },
    stories: { type: "string" },
    model: { type: "string" },
    label: { type: "string", default: "none" },
    backend: { type: "string", default: "wasm" },
    out: { type: "string", default: "bench/results/kv-adapters" },
  },
});
const path = `${values.out}.points.jsonl`;
const points = await readPoints<AdapterPoint>(path);
const SEED = 7;
/** Share kept or read; prompts of a few dozen tokens are only halved. */
const ratioOf = (task: string) => task.includes("recall") || task === "multi-fact" ? 0.25 : 0.5;

/** What an adapter serves. */
const ENTRIES: Readonly<Record<string, readonly Entry[]>> = {
  none: [
    fixed("full", "full"),
    {
      label: "streaming",
      family: "kept",
      ratios: [0.25, 0.5],
      choice: (ratio, { tokens }) => ({
        name: "streaming",
        params: { sinks: 4, window: Math.max(4, Math.round(ratio * tokens) - 4), interval: 8 },
      }),
    },
    fixed("sepllm (window 16)", "kept", { sinks: 3, window: 16, interval: 1 }, "sepllm"),
  ],
  nats: [fixed("nats", "kept", { interval: 8 })],
  tokenbutler: [reading("tokenbutler")],
  "attention-predictor": ["network", "mean-rows", "last-row"].map((forecast) =>
    reading("attention-predictor", { forecast }, `attention-predictor (${forecast})`)
  ),
};

const named = values.adapter.map((text) => {
  const at = text.indexOf("=");
  return { label: text.slice(0, at), file: text.slice(at + 1) };
});
const sources = [{ label: values.label, file: undefined }, ...named];
const progress = createProgress(sources.length);
for (const { label, file } of sources) {
  progress.advance(0, `${label} ${file ?? ""}`);
  await measure(label, file);
  progress.advance(1, label);
}
progress.end();

async function measure(adapter: string, file: string | undefined): Promise<void> {
  const method = file === undefined ? "none" : methodOf(file);
  const adapters = file === undefined ? [] : [file];
  const options = { adapters, ...values.model === undefined ? {} : { model: values.model } };
  await using engine = await openModel(values.backend, 2048, options);
  const texts = values.stories === undefined ? [] : await readTexts(values.stories, engine.vocab);
  const all = [...TASKS.filter(({ name }) => name !== "passkey"), ...OTHER_TASKS];
  for (const entry of ENTRIES[method] ?? []) {
    if (!(values.policy?.includes(entry.label) ?? true)) continue;
    const has = (task: string) =>
      points.some((p) => p.adapter === adapter && p.policy === entry.label && p.task === task);
    const keep = (point: Point) => keepPoint(path, points, { adapter, ...point });
    const share = (task: string) => entry.ratios.length === 1 ? 1 : ratioOf(task);
    for (const task of all) {
      if (has(task.name) || !(values.task?.includes(task.name) ?? true)) continue;
      const ratio = share(task.name);
      await keep(await measureTask(engine, task, entry, ratio, SEED, Number(values.count)));
    }
    if (texts.length === 0 || has("story") || !(values.task?.includes("story") ?? true)) continue;
    await keep(await measureText(engine, texts, 64, entry, share("recall")));
  }
}

function methodOf(file: string): string {
  using source = openSafetensors(file);
  return source.metadata.get("method") ?? "none";
}

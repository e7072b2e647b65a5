/**
 * Writes training and validation shards as JSON lines.
 *
 *     deno run --allow-write=DIR models/recipe/generate.ts DIR [scale]
 *
 * `scale` multiplies the number of training samples (default 1). The same call writes the same
 * bytes.
 */
import { taskRng } from "./rng.ts";
import { extend, type Split, type Task } from "./task.ts";
import { TRAINING } from "./tasks/mod.ts";

const VALIDATION = 300;
/** Training samples about a list of facts go on for up to so many questions. */
const MOST_TURNS = 8;

function shard(task: Task, split: Split, count: number, seed: string): string {
  const rng = taskRng(`${seed} ${task.name} ${split}`);
  let text = "";
  for (let i = 0; i < count; i++) {
    const first = task.generate(rng, split);
    const sample = split === "train" ? extend(task, first, rng, rng.int(MOST_TURNS)) : first;
    text += JSON.stringify(sample) + "\n";
  }
  return text;
}

/** Progress line on standard error: share, samples, time left. */
function progress(done: number, all: number, started: number) {
  const share = done / all;
  const left = share > 0 ? (performance.now() - started) / 1000 * (1 / share - 1) : 0;
  const bar = "#".repeat(Math.round(share * 30)).padEnd(30, ".");
  const line = `\r[${bar}] ${(share * 100).toFixed(0)} %  ${done.toLocaleString("en")} samples  ${
    left.toFixed(0)
  } s left `;
  Deno.stderr.writeSync(new TextEncoder().encode(line));
}

function main() {
  const [folder, scaleText = "1"] = Deno.args;
  const scale = Number(scaleText);
  if (folder === undefined || !(scale > 0)) throw new Error("usage: generate.ts DIR [scale]");
  const all = TRAINING.reduce((sum, [, count]) => sum + Math.round(count * scale), 0);
  const started = performance.now();
  let done = 0;
  for (const split of ["train", "test"] as const) {
    const file = Deno.openSync(`${folder}/${split === "train" ? "train" : "val"}.jsonl`, {
      write: true,
      create: true,
      truncate: true,
    });
    for (const [task, count] of TRAINING) {
      const wanted = split === "train" ? Math.round(count * scale) : VALIDATION;
      for (let part = 0; part * 5000 < wanted; part++) {
        const size = Math.min(5000, wanted - part * 5000);
        const bytes = new TextEncoder().encode(shard(task, split, size, `shard ${part}`));
        for (let at = 0; at < bytes.length;) at += file.writeSync(bytes.subarray(at));
        if (split === "train") progress(done += size, all, started);
      }
    }
    file.close();
  }
  Deno.stderr.writeSync(new TextEncoder().encode("\n"));
}

if (import.meta.main) main();

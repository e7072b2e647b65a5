/**
 * `deno task bench:cpu [--quick] [--shapes A,B] [--types Q4_0,Q8_0] [--threads 1,2] [--rounds N]
 * [--peers llama,transformers]`: the WebAssembly backend beside llama.cpp on the same files of random
 * weights, and for the smallest shape beside transformers.js on the same weights as ONNX.
 *
 * Both sides run in processes of their own that stay alive while a file is measured. A round runs
 * every case on one side and at once on the other, in alternating order, so that a slow moment of the
 * machine hits both; ratios are taken within rounds.
 */
import { readEnvironment, writeResult } from "../_environment.ts";
import { createReport, type Report, round, summary } from "../_report.ts";
import { type SideProcess, startSide } from "./_process.ts";
import type { Profile } from "./_profile.ts";
import { createProgress, type Progress } from "../_progress.ts";
import type { Memory } from "./_side.ts";
import { cases, loadCommand, select, type Setting, settingsOf, slotsFilled } from "./cases.ts";
import { writeGguf, type WrittenFile } from "./gguf_file.ts";
import { plotComparison } from "./plot.ts";
import { agreement, both, runRounds, speedLine, type Versus } from "./rounds.ts";
import { hollow, randomBlocks, shapes } from "./shapes.ts";
import { measureTransformers, onnxShapes, writeOnnxFolder } from "./transformers.ts";

/** Bytes per value of the KV cache. */
const kvValueBytes = { decant: 4, peer: 2 } as const;
/** Most resident memory for each byte of weights; KV and what every process holds not counted. */
const MEMORY_LIMIT = 1.15;

/** What all settings of one file have in common. */
interface Loaded {
  readonly path: string;
  readonly file: WrittenFile;
  /** Resident bytes of a process with the same vocabulary and no weights. */
  readonly fixedBytes: Versus<number>;
}

/** Runs the cases on a model without weights; what the process then holds is not the weights' doing. */
async function measureFixed(model: string, folder: string): Promise<Versus<number>> {
  const config = hollow(shapes[model]!);
  const path = `${folder}/hollow.gguf`;
  const { weightBytes } = writeGguf(path, config, randomBlocks(config, "Q8_0"));
  const setting = { model, type: "Q8_0", threads: 1, rounds: 1 } as const;
  return await both(async (name) => {
    await using side = await startSide(name === "peer" ? "llama" : name);
    await side.load(loadCommand(path, setting));
    for (const work of Object.values(cases)) await side.work({ ...work, vocab: config.vocab });
    return (await side.memory()).resident - weightBytes;
  });
}

/** All cases of one file on one number of threads. */
async function measure(
  setting: Setting,
  { path, file, fixedBytes }: Loaded,
  { report, progress }: { readonly report: Report; readonly progress: Progress },
): Promise<void> {
  const { model, type, threads } = setting;
  const { vocab } = shapes[model]!;
  const labels = { model, type, threads };
  await using decant = await startSide("decant");
  await using llama = await startSide("llama");
  const running: Versus<SideProcess> = { decant, peer: llama };
  const loadMs = await both((name) => running[name].load(loadCommand(path, setting)));
  const warm = await both((name) => running[name].work({ ...cases.decode!, steps: 16, vocab }));
  report({
    name: "cpu/start",
    ...labels,
    ...file,
    loadMs: { decant: round(loadMs.decant), llama: round(loadMs.peer) },
    sameArgmax: agreement({ decant: warm.decant.argmax, peer: warm.peer.argmax }),
  });
  const done = partDone(setting, progress);
  const times = await runRounds(running, { rounds: setting.rounds, vocab, done });
  for (const [name, ms] of Object.entries(times)) report(speedLine("llama", name, labels, ms));
  const full = await both((name) => running[name].memory());
  for (const name of ["decode", "prefill"]) {
    const work = { ...cases[name]!, steps: name === "decode" ? 32 : 1, vocab };
    report({ name: "cpu/profile", case: name, ...labels, ...shares(await decant.profile(work)) });
  }
  report({ name: "cpu/memory", ...labels, ...memoryFields(model, file, fixedBytes, full) });
}

/** Tells the progress that one case of one round is done. */
function partDone(setting: Setting, progress: Progress): () => void {
  const share = weightOf(setting) / setting.rounds / Object.keys(cases).length;
  const what = `${setting.model} ${setting.type}, threads: ${setting.threads}`;
  return () => progress.advance(share, what);
}

/** About how long a setting takes, in arbitrary units. */
function weightOf({ model, type, threads, rounds }: Setting): number {
  const size = { "SmolLM2-135M": 1, "Qwen2.5-0.5B": 4, "Llama-3.2-1B": 9 }[model] ?? 1;
  return size * rounds * (type === "Q4_0" ? 1 : 1.5) / Math.min(threads, 2) ** 0.7;
}

/** Bytes after all cases, and how often the weights fit into what is neither fixed nor KV. */
function memoryFields(
  model: string,
  file: WrittenFile,
  fixedBytes: Versus<number>,
  full: Versus<Memory>,
) {
  const { layers, kvHeads, headDim } = shapes[model]!;
  const side = (name: keyof Versus<unknown>) => {
    const kvBytes = 2 * layers * kvHeads * headDim * slotsFilled() * kvValueBytes[name];
    const own = full[name].resident - fixedBytes[name] - kvBytes;
    return {
      ...full[name],
      fixedBytes: fixedBytes[name],
      kvBytes,
      timesWeights: round(own / file.weightBytes),
    };
  };
  return {
    weightBytes: file.weightBytes,
    limit: MEMORY_LIMIT,
    decant: side("decant"),
    llama: side("peer"),
  };
}

/** Shares of our time, in percent; what is not in an op is sampling and bookkeeping. */
function shares({ ms, profile = {} }: { readonly ms: number; readonly profile?: Profile }) {
  const percent = (part: number) => Number((100 * part / ms).toFixed(1));
  const inOps = Object.values(profile).reduce((a, b) => a + b, 0);
  const ops = Object.entries(profile).map(([op, part]) => [op, percent(part)]);
  return { ms: round(ms), percent: { ...Object.fromEntries(ops), rest: percent(ms - inOps) } };
}

/** The model that ships with the project: its start after the modules are there, and its rest. */
async function measureEmbedded(report: Report): Promise<void> {
  const path = decodeURIComponent(new URL("../../models/decant-tiny", import.meta.url).pathname);
  const times: number[] = [];
  for (let i = 0; i < 3; i++) {
    await using side = await startSide("decant");
    times.push(await side.load({ path, threads: 1, streams: 8, context: 512 }));
  }
  report({ name: "cpu/start-embedded", model: "decant-tiny", ms: summary(times) });
  await using side = await startSide("decant");
  await side.load({ path, threads: 2, streams: 8, context: 512 });
  await side.work({ ...cases.prefill!, vocab: 1000 }); // all threads have had work
  const percent = Number((await side.idle(3000)).toFixed(2));
  report({ name: "cpu/idle", model: "decant-tiny", threads: 2, percentOfOneCore: percent });
}

async function main(args: string[]): Promise<void> {
  const selection = select(args);
  const files = settingsOf(selection);
  const environment = await readEnvironment();
  const { report, lines } = createReport(environment);
  const settings = files.flat();
  const peersOf = ({ model }: Setting) =>
    selection.peers.filter((peer) => peer !== "transformers" || onnxShapes.includes(model));
  const progress = createProgress(
    settings.reduce((sum, one) => sum + weightOf(one) * peersOf(one).length, 0),
  );
  const folder = await Deno.makeTempDir();
  const what = selection.isWhole ? "cpu-comparison" : "cpu-part";
  /** After each file, so that a run that is ended early leaves what it has. */
  const save = async () => {
    const plot = plotComparison(lines.map((line) => JSON.parse(line)));
    await writeResult(environment, what, "svg", plot);
    return await writeResult(environment, what, "jsonl", lines.join("\n") + "\n");
  };
  try {
    await measureEmbedded(report);
    for (const settings of files) {
      const { model, type } = settings[0]!;
      const peers = peersOf(settings[0]!);
      if (peers.length === 0) continue;
      const path = `${folder}/${model}-${type}.gguf`;
      progress.advance(0, `writing ${model} ${type}`);
      const file = writeGguf(path, shapes[model]!, randomBlocks(shapes[model]!, type));
      if (peers.includes("llama")) {
        const loaded = { path, file, fixedBytes: await measureFixed(model, folder) };
        for (const setting of settings) await measure(setting, loaded, { report, progress });
      }
      if (peers.includes("transformers")) {
        const onnx = `${folder}/onnx`;
        await writeOnnxFolder(onnx, { model, type });
        for (const setting of settings) {
          const done = partDone(setting, progress);
          await measureTransformers(setting, { decant: path, peer: onnx }, { report, done });
        }
        await Deno.remove(onnx, { recursive: true });
      }
      await Deno.remove(path);
      await save();
    }
  } finally {
    progress.end();
    await Deno.remove(folder, { recursive: true });
  }
  // deno-lint-ignore no-console
  console.log(`wrote ${lines.length} results to ${await save()}`);
}

await main(Deno.args);

/** The comparison with transformers.js: the same weights as an ONNX file, the same cases. */
import { type Report, round } from "../_report.ts";
import { type SideProcess, startSide } from "./_process.ts";
import { cases, loadCommand, type Setting } from "./cases.ts";
import { writeOnnx } from "./onnx_file.ts";
import { agreement, both, runRounds, speedLine, type Versus } from "./rounds.ts";
import { randomBlocks, shapes } from "./shapes.ts";

/** Shapes that are written as ONNX: one file of at most 2 GB without biases, and not the whole day. */
export const onnxShapes: readonly string[] = ["SmolLM2-135M"];

/**
 * Writes a model folder as transformers.js reads it: config.json, and the graph in a folder of its own.
 *
 * @param folder is made
 */
export async function writeOnnxFolder(
  folder: string,
  { model, type }: Pick<Setting, "model" | "type">,
): Promise<void> {
  const shape = shapes[model]!;
  await Deno.mkdir(`${folder}/onnx`, { recursive: true });
  writeOnnx(`${folder}/onnx/model.onnx`, shape, randomBlocks(shape, type));
  const config = {
    "architectures": [shape.architecture],
    "model_type": "llama",
    "hidden_size": shape.hidden,
    "intermediate_size": shape.ffn,
    "num_hidden_layers": shape.layers,
    "num_attention_heads": shape.heads,
    "num_key_value_heads": shape.kvHeads,
    "head_dim": shape.headDim,
    "vocab_size": shape.vocab,
    "max_position_embeddings": shape.contextLength,
  };
  await Deno.writeTextFile(`${folder}/config.json`, JSON.stringify(config));
}

/**
 * All cases on one number of threads.
 *
 * @param paths of the GGUF file and of the folder with the ONNX file
 */
export async function measureTransformers(
  setting: Setting,
  paths: Versus<string>,
  { report, done }: { readonly report: Report; readonly done: () => void },
): Promise<void> {
  const { model, type, threads } = setting;
  const { vocab } = shapes[model]!;
  const labels = { model, type, threads };
  await using decant = await startSide("decant");
  await using peer = await startPeer();
  if (peer.process === undefined) {
    report({ name: "cpu/skipped", peer: "transformers", ...labels, reason: peer.reason });
    return;
  }
  const running: Versus<SideProcess> = { decant, peer: peer.process };
  const loadMs = await both((side) => running[side].load(loadCommand(paths[side], setting)));
  const warm = await both((side) => running[side].work({ ...cases.decode!, steps: 64, vocab }));
  report({
    name: "cpu/start-transformers",
    ...labels,
    loadMs: { decant: round(loadMs.decant), transformers: round(loadMs.peer) },
    sameArgmax: agreement({ decant: warm.decant.argmax, peer: warm.peer.argmax }),
  });
  const times = await runRounds(running, { rounds: setting.rounds, vocab, done });
  for (const [name, ms] of Object.entries(times)) {
    report(speedLine("transformers", name, labels, ms));
  }
  const memory = await both((side) => running[side].memory());
  report({
    name: "cpu/memory-transformers",
    ...labels,
    decant: memory.decant,
    transformers: memory.peer,
  });
}

/** The side, or why it does not run: its package has to be fetched and holds native code. */
async function startPeer(): Promise<
  AsyncDisposable & { readonly process?: SideProcess; readonly reason?: string }
> {
  try {
    const process = await startSide("transformers");
    return { process, [Symbol.asyncDispose]: () => process[Symbol.asyncDispose]() };
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    return { reason, [Symbol.asyncDispose]: () => Promise.resolve() };
  }
}

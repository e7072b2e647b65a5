/**
 * The embedded model on the GPU against the CPU reference: logits in every weight format, greedy and
 * seeded text. DECANT_GPU_FULL=1 runs all 50 prompts of 64 tokens; otherwise some, as drivers that
 * compute on the CPU are slow.
 */
import { assert, assertEquals } from "@std/assert";
import { loadModel } from "../../../../runtime/load.ts";
import { createLocalExecutor } from "../../../../runtime/engine/local_executor.ts";
import { openWeightFiles } from "../../../../runtime/model_files.ts";
import { loadDecoder, type WeightFormat } from "../../../../runtime/models/mod.ts";
import type { Backend } from "../../../../runtime/backend/backend.ts";
import { createCpuBackend } from "../../../../runtime/backend/cpu/mod.ts";
import { greedySampling, type SamplingParams, type TokenId } from "../../../../runtime/mod.ts";
import { seedFrom } from "../../../../runtime/rng.ts";
import type { WeightSource } from "../../../../runtime/formats/weights.ts";
import { rowsOf, Sequence } from "../../../fakes/sequence.ts";
import { createTestGpuBackend, testWithGpu } from "../../../_webgpu.ts";

const path = decodeURIComponent(
  new URL("../../../../models/decant-tiny", import.meta.url).pathname,
);
const isFull = Deno.env.get("DECANT_GPU_FULL") === "1";
const prompts = Array.from(
  { length: isFull ? 50 : 6 },
  (_, i) => `What is ${(i * 37 + 11) % 90} ${"+-"[i % 2]} ${(i * 53 + 5) % 80}?`,
);
const length = isFull ? 64 : 24;

/** Completions of all prompts, decoded together. */
async function completions(
  backend: "cpu" | "webgpu",
  samplingOf: (prompt: number) => SamplingParams,
): Promise<TokenId[][]> {
  const readback = Deno.version.deno === "2.9.6" && Deno.build.os === "linux" ? "fast" : "await";
  await using loaded = await loadModel(path, {
    id: "decant-tiny",
    backend,
    thread: "own",
    context: 256,
    weights: "f32",
    kvBytes: 64 << 20,
    created: 0,
    ownedBy: "test",
    gpu: { readback },
  });
  return await Promise.all(prompts.map(async (text, i) => {
    using session = loaded.engine.session([{ role: "user", content: text }]);
    const tokens: TokenId[] = [];
    const options = { sampling: samplingOf(i), maxTokens: length, ignoreStop: true };
    for await (const { token } of session.generate(options)) tokens.push(token);
    return tokens;
  }));
}

testWithGpu(`greedy text of ${prompts.length} prompts is the CPU's`, async () => {
  const greedy = () => greedySampling;
  assertEquals(await completions("webgpu", greedy), await completions("cpu", greedy));
});

testWithGpu(`seeded samples of ${prompts.length} prompts are the CPU's`, async () => {
  const ways: Partial<SamplingParams>[] = [
    { temperature: 1 },
    { temperature: 0.8, topP: 0.9 },
    { temperature: 1.3, topK: 8 },
    { temperature: 1, minP: 0.1 },
    { temperature: 0.9, topK: 40, topP: 0.95, frequencyPenalty: 0.3, repetitionPenalty: 1.1 },
    { temperature: 1, typicalP: 0.8 },
  ];
  const sampled = (i: number) => ({
    ...greedySampling,
    ...ways[i % ways.length],
    seed: seedFrom(1000 + i),
  });
  assertEquals(await completions("webgpu", sampled), await completions("cpu", sampled));
});

/** Logits of a fixed text. */
async function logitsOf(backend: Backend, weights: WeightFormat, change = (x: WeightSource) => x) {
  const { config, weights: file } = await openWeightFiles(path);
  using source = file;
  const decoder = loadDecoder(config, change(source), backend, { weights });
  const options = { pages: 8, pageSize: 8, contextLength: 64 };
  await using executor = createLocalExecutor(decoder, backend, options);
  const tokens = Array.from({ length: 24 }, (_, i) => (i * 97 + 13) % config.vocab);
  const sequence = new Sequence(executor, Uint32Array.of(0, 1, 2));
  return rowsOf((await sequence.run(tokens, [{ kind: "logits", last: tokens.length }]))[0]);
}

const norm = (values: Iterable<number>) => Math.hypot(...values);

/** Largest distance of a row from the expected one, relative to that one's length. */
function distance(actual: readonly Float32Array[], expected: readonly Float32Array[]): number {
  return Math.max(
    ...expected.map((row, r) => norm(row.map((value, i) => value - actual[r]![i]!)) / norm(row)),
  );
}

/** The file with matrices as Q4_0 and Q8_0 would hold them, in f32. */
function rounded(source: WeightSource, format: "q8" | "q4"): WeightSource {
  const f32 = (name: string) => {
    const values = source.f32(name), [rows, cols] = source.shape(name);
    if (cols === undefined || rows === undefined || cols % 32 !== 0) return values;
    const is8Bit = format === "q8" || /embed_tokens|lm_head/.test(name);
    for (let at = 0; at < values.length; at += 32) roundBlock(values.subarray(at, at + 32), is8Bit);
    return values;
  };
  const { rawInto: _, ...rest } = source;
  return { ...rest, f32, dtype: () => "F32", raw: (name) => new Uint8Array(f32(name).buffer) };
}

function roundBlock(block: Float32Array, is8Bit: boolean): void {
  const extreme = block.reduce((a, b) => Math.abs(b) > Math.abs(a) ? b : a, 0);
  const scale = Math.fround(is8Bit ? Math.abs(extreme) / 127 : extreme / -8);
  const [least, most] = is8Bit ? [-127, 127] : [-8, 7];
  for (let i = 0; i < 32; i++) {
    const q = scale === 0 ? 0 : Math.min(most, Math.max(least, Math.round(block[i]! / scale)));
    block[i] = q * scale;
  }
}

testWithGpu(
  "logits of the embedded model are near the reference in every weight format",
  async () => {
    using cpu = createCpuBackend();
    const exact = await logitsOf(cpu, "f32");
    const on = async (weights: WeightFormat) => {
      using backend = createTestGpuBackend();
      return await logitsOf(backend, weights);
    };
    const f32 = await on("f32");
    for (const [r, row] of exact.entries()) {
      const size = Math.max(...row.map(Math.abs));
      const error = Math.max(...row.map((value, i) => Math.abs(value - f32[r]![i]!)));
      assert(error <= 1e-4 * size, `f32: row ${r} is off by ${error} of ${size}`);
    }
    assert(distance(await on("f16"), exact) <= 5e-3, "f16");
    for (const [r, row] of (await on("q8")).entries()) {
      const error = Math.max(...row.map((value, i) => Math.abs(value - exact[r]![i]!)));
      assert(error <= 2e-2 * norm(exact[r]!), `q8: row ${r} is off by ${error}`);
    }
    // What rounding changes belongs to the format; what kernels add must be rounding of f32 alone.
    for (const format of ["q8", "q4"] as const) {
      const held = await logitsOf(cpu, "f32", (source) => rounded(source, format));
      const error = distance(await on(format), held);
      assert(error <= 1e-4, `${format} is ${error} from the same weights in f32`);
    }
  },
);

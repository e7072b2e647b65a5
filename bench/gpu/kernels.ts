/** Bandwidth of the device, and what single kernels make of it. */
import {
  createGpuBackend,
  type Gpu,
  type GpuBackend,
  type GpuBackendOptions,
} from "../../runtime/backend/webgpu/mod.ts";
import type { Ops, Tensor } from "../../runtime/backend/backend.ts";
import { type Report, round, summary } from "../_report.ts";
import { type MatrixType, randomMatrix } from "./random_weights.ts";
import { replay, type Timer } from "./timing.ts";

/** Sizes that fit a GPU, or a driver that imitates one. */
export interface KernelSizes {
  readonly copyBytes: number;
  /** [outputs, inputs] */
  readonly matrices: readonly (readonly [rows: number, cols: number])[];
  readonly contexts: readonly number[];
  /** Tokens that are multiplied at a time: those of decoding, then those of prompts, which are tiled. */
  readonly tokens: readonly number[];
  /** Queries of a prompt's attention. */
  readonly queries: number;
  readonly repeats: number;
}

/** Bits of one weight with its share of scales. */
export const weightBits: Readonly<Record<MatrixType, number>> = { f16: 16, q8: 9, q4: 5 };

/** GB/s that a copy within device memory reads plus writes. */
export async function copyBandwidth(gpu: Gpu, timer: Timer, bytes: number): Promise<number> {
  const usage = GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST;
  const size = Math.min(bytes, gpu.device.limits.maxBufferSize);
  const [a, b] = [1, 2].map(() => gpu.device.createBuffer({ size, usage }));
  const run = (times: number) =>
    timer.commands((encoder) => {
      for (let i = 0; i < times; i++) encoder.copyBufferToBuffer(a!, 0, b!, 0, size);
    });
  await run(1);
  const seconds: number[] = [];
  for (let i = 0; i < 3; i++) seconds.push(await run(8) / 8);
  a!.destroy();
  b!.destroy();
  return 2 * size / Math.min(...seconds) / 1e9;
}

/** Reports matrix products of few and many tokens in every format, and attention over long contexts. */
export async function benchGpuKernels(
  gpu: Gpu,
  timer: Timer,
  sizes: KernelSizes,
  copyGBs: number,
  report: Report,
): Promise<void> {
  for (const [rows, cols] of sizes.matrices) {
    for (const type of ["f16", "q8", "q4"] as const) {
      // Once as they are, and once as they would be without subgroups and tiles.
      await benchLinear(
        gpu,
        timer,
        { rows, cols, type, tokens: sizes.tokens },
        sizes,
        copyGBs,
        report,
      );
      const changed = sizes.tokens.filter((tokens) => tokens === 1 || tokens >= 32);
      const plain = { rows, cols, type, tokens: changed, options: PLAIN };
      await benchLinear(gpu, timer, plain, sizes, copyGBs, report);
    }
  }
  for (const context of sizes.contexts) {
    for (const queries of [1, sizes.queries]) {
      for (const options of [{}, PLAIN, { kv: "f16" } as const]) {
        if ("kv" in options && !gpu.info.features.includes("shader-f16")) continue;
        if (options === PLAIN && queries > 1 && context > 4096) continue; // takes minutes
        await benchAttention(gpu, timer, { context, queries, options }, sizes, report);
      }
    }
  }
}

const PLAIN: GpuBackendOptions = { subgroups: false, tilesFrom: Infinity };

/** Products of one matrix with some numbers of tokens. */
async function benchLinear(
  gpu: Gpu,
  timer: Timer,
  { rows, cols, type, tokens: all, options = {} }: {
    readonly rows: number;
    readonly cols: number;
    readonly type: MatrixType;
    readonly tokens: readonly number[];
    readonly options?: GpuBackendOptions;
  },
  sizes: KernelSizes,
  copyGBs: number,
  report: Report,
): Promise<void> {
  using backend = createGpuBackend(gpu, options);
  const bytes = rows * cols * weightBits[type] / 8;
  // Enough matrices that none stays in a cache.
  const count = Math.max(1, Math.min(16, Math.ceil(sizes.copyBytes / bytes)));
  const weights = Array.from(
    { length: count },
    (_, i) => randomMatrix(backend, `w${i}`, [rows, cols], type),
  );
  for (const tokens of all) {
    using x = backend.tensor(
      "x",
      [tokens, cols],
      "f32",
      new Float32Array(tokens * cols).fill(1),
    );
    const run = (ops: Ops) => weights.map((weight) => ops.linear(x, weight));
    const { times: each, kernel } = await timeOf(backend, timer, run, sizes.repeats);
    const { median, p90, runs } = summary(each.map((s) => s * 1e6 / count));
    report({
      name: "gpu linear",
      kernel,
      outputs: rows,
      inputs: cols,
      weights: type,
      tokens,
      median_us: median,
      p90_us: p90,
      runs,
      gb_per_s: round(bytes / median / 1e3),
      share_of_copy_bandwidth: round(bytes / median / 1e3 / copyGBs),
      gflop_per_s: round(2 * rows * cols * tokens / median / 1e3),
    });
  }
}

/** The last `queries` tokens of a sequence of `context`. */
async function benchAttention(
  gpu: Gpu,
  timer: Timer,
  { context, queries, options }: {
    readonly context: number;
    readonly queries: number;
    readonly options: GpuBackendOptions;
  },
  { repeats }: KernelSizes,
  report: Report,
): Promise<void> {
  using backend = createGpuBackend(gpu, options);
  const layout = { layers: 1, kvHeads: 8, headDim: 64, pageSize: 16 }, heads = 32;
  using pool = backend.kvPool(layout, context / 16);
  using q = backend.tensor("q", [queries, heads * layout.headDim], "f32");
  const pages = [Uint32Array.from({ length: context / 16 }, (_, i) => i)];
  const counts = Uint32Array.of(context);
  const rows = [{ start: 0, length: queries, granularity: "sequence" as const, pages, counts }];
  const run = (ops: Ops) => [ops.attention(q, pool, 0, rows, { scale: 0.125, signals: [] })];
  const { times, kernel } = await timeOf(backend, timer, run, repeats);
  const { median, p90, runs } = summary(times.map((s) => s * 1e6));
  const seen = queries * context - queries * (queries - 1) / 2;
  const { kv = "f32" } = options;
  const bytes = 2 * (kv === "f16" ? 2 : 4) * context * layout.kvHeads * layout.headDim;
  report({
    name: "gpu attention",
    kernel,
    context,
    queries,
    kv,
    heads,
    kv_heads: layout.kvHeads,
    median_us: median,
    p90_us: p90,
    runs,
    gb_per_s: round(bytes / median / 1e3),
    gflop_per_s: round(4 * heads * layout.headDim * seen / median / 1e3),
  });
}

/** Seconds of a recorded step on the GPU, several times, and its first kernel. */
async function timeOf(
  backend: GpuBackend,
  timer: Timer,
  build: (ops: Ops) => Tensor[],
  repeats: number,
): Promise<{ readonly times: number[]; readonly kernel: string }> {
  const kept = backend.record(build);
  await backend.gpu.device.queue.onSubmittedWorkDone();
  const step = backend.lastStep;
  const times = await timer.passes(
    Array.from({ length: repeats + 1 }, () => (pass: GPUComputePassEncoder) => replay(pass, step)),
  );
  for (const tensor of kept) tensor[Symbol.dispose]();
  return { times: times.slice(1), kernel: step[0]!.kernel };
}

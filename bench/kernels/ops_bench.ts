/**
 * Speed of single ops and of a whole decoder step, on shapes of the embedded model (hidden 256,
 * ffn 640, 8 heads over 4 kv heads of 32, vocabulary 2,048).
 *
 * Each line: the time of one call (median and 90th percentile of `runs` rounds after warm-up) and
 * the rate at the median. A round is fixed work: as many calls as took about 10 ms at warm-up.
 */
import type { Backend, DType, Ops, Tensor } from "../../runtime/backend/backend.ts";
import { createCpuBackend } from "../../runtime/backend/cpu/mod.ts";
import { createWasmBackend } from "../../runtime/backend/wasm/mod.ts";
import { createRng, seedFrom } from "../../runtime/rng.ts";
import { type Report, round, summary } from "../_report.ts";
import { benchDecoder, type DecoderSubject } from "./decoder_bench.ts";

const ROUNDS = 15;
const ROUND_MS = 10;
const subjects: readonly DecoderSubject[] = [
  { create: createCpuBackend, weights: ["f32"] },
  { create: createWasmBackend, weights: ["f32", "q8", "q4"] },
];

/** Reports all ops on all backends. */
export async function benchKernels(report: Report): Promise<void> {
  for (const { create, weights } of subjects) {
    using backend = await create();
    const context: Context = { backend, report };
    for (const format of weights) await benchLinear(context, format);
    await benchRmsNorm(context);
    await benchAttention(context);
  }
  await benchDecoder(subjects, report);
}

interface Context {
  readonly backend: Backend;
  readonly report: Report;
}

/** Uniform values in [-1, 1). */
function random(backend: Backend, shape: readonly number[], dtype: DType = "f32"): Tensor {
  const rng = createRng(seedFrom(shape.length));
  const size = shape.reduce((a, b) => a * b, 1);
  const data = Float32Array.from({ length: size }, () => 2 * rng.next() - 1);
  return backend.tensor("bench", shape, dtype, data);
}

/** Milliseconds of one call, per round. */
async function measure(backend: Backend, build: (ops: Ops) => Tensor): Promise<number[]> {
  const run = async (calls: number): Promise<number> => {
    const start = performance.now();
    for (let i = 1; i < calls; i++) backend.record((ops) => void build(ops));
    using last = backend.record(build);
    await backend.read(last); // waits for devices that work ahead
    return performance.now() - start;
  };
  let calls = 1;
  for (let i = 0; i < 12 && await run(calls) < ROUND_MS; i++) calls *= 2;
  const times: number[] = [];
  for (let i = 0; i < ROUNDS; i++) times.push(await run(calls) / calls);
  return times;
}

async function benchLinear({ backend, report }: Context, weights: DType): Promise<void> {
  for (const [outputs, inputs] of [[256, 256], [640, 256], [256, 640], [2048, 256]] as const) {
    using weight = random(backend, [outputs, inputs], weights);
    for (const rows of [1, 4, 8, 16, 64]) {
      using x = random(backend, [rows, inputs]);
      const ms = summary(await measure(backend, (ops) => ops.linear(x, weight)));
      report({
        name: "kernels/linear",
        backend: backend.name,
        weights,
        rows,
        inputs,
        outputs,
        ms,
        gflops: round(2 * rows * inputs * outputs / ms.median / 1e6),
      });
    }
  }
}

async function benchRmsNorm({ backend, report }: Context): Promise<void> {
  const cols = 256;
  using weight = random(backend, [cols]);
  for (const rows of [1, 16]) {
    using x = random(backend, [rows, cols]);
    const ms = summary(await measure(backend, (ops) => ops.rmsNorm(x, weight, 1e-5)));
    report({
      name: "kernels/rms_norm",
      backend: backend.name,
      rows,
      cols,
      ms,
      // Read once, written once.
      gigabytesPerSecond: round(2 * 4 * rows * cols / ms.median / 1e6),
    });
  }
}

async function benchAttention({ backend, report }: Context): Promise<void> {
  const [heads, kvHeads, headDim, pageSize, rows] = [8, 4, 32, 16, 4] as const;
  const layout = { layers: 1, kvHeads, headDim, pageSize };
  for (const [context, length] of [[128, 1], [1024, 1], [512, 64]] as const) {
    const pages = context / pageSize;
    using pool = backend.kvPool(layout, pages * rows);
    using q = random(backend, [rows * length, heads * headDim]);
    const table = Array.from({ length: rows }, (_, r) => ({
      start: r * length,
      length,
      granularity: "sequence" as const,
      pages: [Uint32Array.from({ length: pages }, (_, i) => i * rows + r)],
      counts: Uint32Array.of(context),
    }));
    const options = { scale: headDim ** -0.5, signals: [] };
    const times = await measure(backend, (ops) => ops.attention(q, pool, 0, table, options));
    const ms = summary(times);
    const seen = length * (context - (length - 1) / 2); // slots, over a row's tokens
    report({
      name: "kernels/attention",
      backend: backend.name,
      rows,
      newTokens: length,
      contextTokens: context,
      ms,
      gflops: round(4 * rows * seen * heads * headDim / ms.median / 1e6),
    });
  }
}

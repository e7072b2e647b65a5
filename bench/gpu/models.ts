/** Whole models with random weights: decode steps, prefill, where a step's time goes. */
import { createLocalExecutor } from "../../runtime/engine/local_executor.ts";
import type { Executor, Row } from "../../runtime/engine/executor.ts";
import {
  createGpuBackend,
  type Gpu,
  type GpuBackend,
  type ReadbackMode,
} from "../../runtime/backend/webgpu/mod.ts";
import { loadDecoder, type ModelConfig } from "../../runtime/models/mod.ts";
import { greedySampling } from "../../runtime/sampling.ts";
import { type Report, round, summary } from "../_report.ts";
import { weightBits } from "./kernels.ts";
import { hollowSource, type MatrixType, streamRandom } from "./random_weights.ts";
import { replay, type Timer } from "./timing.ts";

/** What is measured of a model. */
export interface ModelPlan {
  readonly name: string;
  readonly config: ModelConfig;
  readonly type: MatrixType;
  readonly batches: readonly number[];
  readonly prefillTokens: number;
  readonly steps: number;
  readonly readback: ReadbackMode;
}

const PAGE_SIZE = 16;
/** Tokens of each sequence before decoding is timed. */
const PROMPT = 64;

/** Rows of sequences on pages of their own. */
function rowsOf(batch: number, from: number, count: number, perSequence: number): Row[] {
  return Array.from({ length: batch }, (_, b) => {
    const positions = Uint32Array.from({ length: count }, (_, i) => from + i);
    const first = b * perSequence;
    const pages = Uint32Array.from(
      { length: Math.ceil((from + count) / PAGE_SIZE) },
      (_, p) => first + p,
    );
    return {
      tokens: positions.map((p) => (p * 7 + b) % 1000),
      positions,
      slots: [
        positions.map((p) => (first + Math.floor(p / PAGE_SIZE)) * PAGE_SIZE + p % PAGE_SIZE),
      ],
      tables: { granularity: "sequence", pages: [pages], counts: Uint32Array.of(from + count) },
      wants: [{
        kind: "sample",
        sampling: greedySampling,
        topLogprobs: 0,
        promptTokens: [],
        completionTokens: [],
      }],
    };
  });
}

/** Reports one model in one format. */
export async function benchGpuModel(
  gpu: Gpu,
  timer: Timer,
  plan: ModelPlan,
  copyGBs: number,
  report: Report,
): Promise<void> {
  const { name, config, type, batches, prefillTokens, steps, readback } = plan;
  using backend = streamRandom(createGpuBackend(gpu, { readback }), type);
  const start = performance.now();
  const decoder = loadDecoder(config, hollowSource(config), backend, { weights: type });
  await gpu.device.queue.onSubmittedWorkDone();
  const loadMs = performance.now() - start;
  const perSequence = Math.ceil((Math.max(prefillTokens, PROMPT + steps + 8)) / PAGE_SIZE);
  await using executor = createLocalExecutor(decoder, backend, {
    pages: Math.max(...batches) * perSequence,
    pageSize: PAGE_SIZE,
    contextLength: config.contextLength,
  });
  const base = { model: name, weights: type, parameters: decoder.parameters };
  report({ name: "gpu load", ...base, load_ms: round(loadMs), bytes: backend.stats().bytes });
  let step = 0;
  const execute = async (rows: Row[]) => {
    const begun = performance.now();
    await executor.execute({ step: step++, edits: [], rows });
    return performance.now() - begun;
  };
  const weightBytes = decoder.parameters * weightBits[type] / 8;
  let single = 0;
  for (const batch of batches) {
    for (let at = 0; at < PROMPT; at += 16) await execute(rowsOf(batch, at, 16, perSequence));
    await execute(rowsOf(batch, PROMPT, 1, perSequence));
    const times: number[] = [];
    for (let i = 1; i <= steps; i++) {
      times.push(await execute(rowsOf(batch, PROMPT + i, 1, perSequence)));
    }
    const wall = summary(times);
    const dispatches = backend.lastStep;
    const onGpu = await timer.passes([1, 2, 3, 4].map(() => (pass) => replay(pass, dispatches)));
    const gpuMs = Math.min(...onGpu.slice(1)) * 1000;
    if (batch === 1) single = gpuMs;
    report({
      name: "gpu decode",
      ...base,
      batch,
      readback,
      dispatches: dispatches.length,
      dispatches_per_layer: round(perLayer(dispatches.length, config.layers)),
      step_ms: wall.median,
      step_p90_ms: wall.p90,
      runs: wall.runs,
      gpu_ms: round(gpuMs),
      to_batch_1: round(gpuMs / single),
      encode_us: round(encodeUs(gpu, dispatches)),
      tokens_per_s: round(batch / wall.median * 1000),
      tokens_per_s_gpu_only: round(batch / gpuMs * 1000),
      weights_gb_per_s: round(weightBytes / gpuMs / 1e6),
      share_of_copy_bandwidth: round(weightBytes / gpuMs / 1e6 / copyGBs),
    });
    if (batch !== 1) continue;
    const each = await timer.passes(dispatches.map((one) => (pass) => replay(pass, [one])));
    const byKernel: Record<string, number> = {};
    dispatches.forEach(({ kernel }, i) => {
      byKernel[kernel] = (byKernel[kernel] ?? 0) + each[i]! * 1e6;
    });
    const split = Object.entries(byKernel).map(([kernel, us]) => [kernel, round(us)]);
    report({ name: "gpu step by kernel", ...base, batch, us: Object.fromEntries(split) });
  }
  await benchPrefill(executor, plan, { backend, timer, perSequence, base }, report);
}

/** Dispatches of a layer: all but embedding, norm, output and draw. */
function perLayer(dispatches: number, layers: number): number {
  return (dispatches - 7) / layers;
}

/** Microseconds to encode a step that was recorded before. */
function encodeUs(gpu: Gpu, dispatches: Parameters<typeof replay>[1]): number {
  const times: number[] = [];
  for (let i = 0; i < 20; i++) {
    const begun = performance.now();
    const encoder = gpu.device.createCommandEncoder();
    const pass = encoder.beginComputePass();
    replay(pass, dispatches);
    pass.end();
    const commands = encoder.finish();
    times.push((performance.now() - begun) * 1000);
    gpu.device.queue.submit([commands]); // blocks on drivers that compute on the CPU
  }
  return summary(times).median;
}

async function benchPrefill(
  executor: Executor,
  { prefillTokens }: ModelPlan,
  { backend, timer, perSequence, base }: {
    readonly backend: GpuBackend;
    readonly timer: Timer;
    readonly perSequence: number;
    readonly base: { readonly parameters: number };
  },
  report: Report,
): Promise<void> {
  const chunk = executor.info.steps?.chunkTokens ?? 64;
  const run = async () => {
    const begun = performance.now();
    for (let at = 0; at < prefillTokens; at += chunk) {
      const rows = rowsOf(1, at, Math.min(chunk, prefillTokens - at), perSequence);
      await executor.execute({ step: 0, edits: [], rows });
    }
    return performance.now() - begun;
  };
  await run();
  const { median, p90, runs } = summary([await run(), await run(), await run()]);
  const step = backend.lastStep, dispatches = step.length, { parameters } = base;
  const onGpu = await timer.passes([1, 2, 3].map(() => (pass) => replay(pass, step)));
  const gpuMs = Math.min(...onGpu.slice(1)) * 1000;
  report({
    name: "gpu prefill",
    ...base,
    tokens: prefillTokens,
    chunk,
    dispatches,
    gpu_ms_of_last_chunk: round(gpuMs),
    gflop_per_s: round(2 * parameters * prefillTokens / median / 1e6),
    median_ms: median,
    p90_ms: p90,
    runs,
    tokens_per_s: round(prefillTokens / median * 1000),
  });
}

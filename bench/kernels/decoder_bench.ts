/** A whole forward pass with the shape of the embedded model and made-up weights. */
import type { Backend } from "../../runtime/backend/backend.ts";
import type { Executor, Row } from "../../runtime/engine/executor.ts";
import { createLocalExecutor } from "../../runtime/engine/local_executor.ts";
import { loadDecoder, type ModelConfig } from "../../runtime/models/mod.ts";
import { greedySampling } from "../../runtime/sampling.ts";
import { hashedWeights, llamaShapes } from "../../tests/fakes/hashed_weights.ts";
import { type Report, round, summary } from "../_report.ts";

const ROUNDS = 15;
const STEPS = 12;
const PAGE_SIZE = 16;
const CONTEXT = 256;

const config: ModelConfig = {
  architecture: "LlamaForCausalLM",
  vocab: 2048,
  hidden: 256,
  ffn: 640,
  layers: 4,
  heads: 8,
  kvHeads: 4,
  headDim: 32,
  normEps: 1e-5,
  contextLength: 1024,
  slidingWindow: undefined,
  tieEmbeddings: true,
  bias: { qkv: false, output: false, ffn: false },
  rope: { layout: "half", theta: 10_000, scaling: { kind: "none" } },
};

/** Reports decode steps of 1, 4 and 16 sequences, and prefill of one. */
export async function benchDecoder(backend: Backend, report: Report): Promise<void> {
  const pagesEach = CONTEXT / PAGE_SIZE;
  const decoder = loadDecoder(config, hashedWeights(llamaShapes(config)), backend);
  const { parameters } = decoder;
  await using executor = createLocalExecutor(decoder, backend, {
    pages: 16 * pagesEach,
    pageSize: PAGE_SIZE,
    contextLength: CONTEXT,
  });
  // Stream counts alternate, so that a slow moment of the machine hits all of them.
  const cases = [1, 4, 16].map((rows) => ({ rows, newTokens: 1, times: [] as number[] }));
  cases.push({ rows: 1, newTokens: 64, times: [] });
  for (const { rows, newTokens } of cases) await time(executor, rows, newTokens);
  for (let i = 0; i < ROUNDS; i++) {
    for (const { rows, newTokens, times } of cases) {
      times.push(await time(executor, rows, newTokens));
    }
  }
  for (const { rows, newTokens, times } of cases) {
    const ms = summary(times);
    const tokensPerSecond = round(1000 * rows * newTokens / ms.median);
    report({
      name: newTokens === 1 ? "kernels/decode" : "kernels/prefill",
      backend: backend.name,
      parameters,
      rows,
      newTokens,
      ms,
      tokensPerSecond,
    });
  }
}

/** Milliseconds of one step, around the middle of the context. */
async function time(executor: Executor, rows: number, newTokens: number): Promise<number> {
  const steps = Math.ceil(STEPS / newTokens);
  const start = performance.now();
  for (let step = 0; step < steps; step++) {
    const batch = Array.from({ length: rows }, (_, r) => row(r, CONTEXT / 2 + step, newTokens));
    await executor.execute({ step, edits: [], rows: batch });
  }
  return (performance.now() - start) / steps;
}

function row(index: number, position: number, newTokens: number): Row {
  const pagesEach = CONTEXT / PAGE_SIZE;
  const positions = Uint32Array.from({ length: newTokens }, (_, i) => position + i);
  return {
    tokens: positions.map((p) => (p * 37 + index) % config.vocab),
    positions,
    slots: [positions.map((p) => index * CONTEXT + p)],
    tables: {
      granularity: "sequence",
      pages: [Uint32Array.from({ length: pagesEach }, (_, i) => index * pagesEach + i)],
      counts: Uint32Array.of(position + newTokens),
    },
    wants: [{
      kind: "sample",
      sampling: greedySampling,
      topLogprobs: 0,
      promptTokens: [],
      completionTokens: [],
    }],
  };
}

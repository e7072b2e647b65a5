/** A whole forward pass with the shape of the embedded model and made-up weights. */
import type { Backend } from "../../runtime/backend/backend.ts";
import type { Executor, Row } from "../../runtime/engine/executor.ts";
import { createLocalExecutor } from "../../runtime/engine/local_executor.ts";
import { loadDecoder, type ModelConfig, type WeightFormat } from "../../runtime/models/mod.ts";
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

/** Which formats of weights a backend is measured with. */
export interface DecoderSubject {
  readonly create: () => Backend | Promise<Backend>;
  readonly weights: readonly ("f32" | "q8" | "q4")[];
}

/** One backend with one format of weights. */
interface Runner extends AsyncDisposable {
  readonly backend: string;
  readonly weights: WeightFormat;
  readonly parameters: number;
  readonly executor: Executor;
}

/** Reports decode steps of 1, 4, 8 and 16 sequences, and prefill of one. */
export async function benchDecoder(
  subjects: readonly DecoderSubject[],
  report: Report,
): Promise<void> {
  await using stack = new AsyncDisposableStack();
  const runners: Runner[] = [];
  for (const { create, weights } of subjects) {
    for (const format of weights) runners.push(stack.use(open(await create(), format)));
  }
  const shapes = [1, 4, 8, 16].map((rows) => ({ rows, newTokens: 1 }));
  shapes.push({ rows: 1, newTokens: 64 });
  const cases = shapes.flatMap((shape) =>
    runners.map((runner) => ({ ...shape, runner, times: [] as number[] }))
  );
  for (const { runner, rows, newTokens } of cases) await time(runner.executor, rows, newTokens);
  // Backends and shapes alternate, so that a slow moment of the machine hits all of them.
  for (let i = 0; i < ROUNDS; i++) {
    for (const { runner, rows, newTokens, times } of cases) {
      times.push(await time(runner.executor, rows, newTokens));
    }
  }
  for (const { runner, rows, newTokens, times } of cases) {
    const ms = summary(times);
    const { backend, weights, parameters } = runner;
    report({
      name: newTokens === 1 ? "kernels/decode" : "kernels/prefill",
      backend,
      weights,
      parameters,
      rows,
      newTokens,
      ms,
      tokensPerSecond: round(1000 * rows * newTokens / ms.median),
    });
  }
}

function open(backend: Backend, weights: WeightFormat): Runner {
  const decoder = loadDecoder(config, hashedWeights(llamaShapes(config)), backend, { weights });
  const executor = createLocalExecutor(decoder, backend, {
    pages: 16 * CONTEXT / PAGE_SIZE,
    pageSize: PAGE_SIZE,
    contextLength: CONTEXT,
  });
  return {
    backend: backend.name,
    weights,
    parameters: decoder.parameters,
    executor,
    async [Symbol.asyncDispose]() {
      await executor[Symbol.asyncDispose]();
      backend[Symbol.dispose]();
    },
  };
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

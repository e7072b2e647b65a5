/**
 * Models of well-known shapes with random 4-bit and 8-bit weights on the WebAssembly backend: start-up,
 * decoding of 1, 4 and 8 sequences, prefill, with 1 and 2 threads.
 *
 * A round runs every case once, so that a slow moment of the machine hits all of them.
 */
import { createWasmBackend } from "../../runtime/backend/wasm/mod.ts";
import type { Executor, Row } from "../../runtime/engine/executor.ts";
import { createLocalExecutor } from "../../runtime/engine/local_executor.ts";
import { loadDecoder } from "../../runtime/models/mod.ts";
import { greedySampling } from "../../runtime/sampling.ts";
import { type Report, round, summary } from "../_report.ts";
import { type BlockType, randomBlocks, shapes } from "./shapes.ts";

const ROUNDS = 5;
const DECODE_STEPS = 8;
const PREFILL_TOKENS = 512;
const PAGE_SIZE = 16;
/** Longest sequence: prefill, or decoding after 128 tokens. */
const CONTEXT = 512;

/** Larger shapes take minutes: name them here to measure them. */
const measured = ["SmolLM2-135M"] as const;

/** Reports all measured shapes in both types. */
export async function benchCpu(report: Report): Promise<void> {
  for (const name of measured) {
    for (const type of ["Q4_0", "Q8_0"] as const) {
      for (const threads of [1, 2]) await benchShape(report, { name, type, threads });
    }
  }
}

interface Setting {
  readonly name: string;
  readonly type: BlockType;
  readonly threads: number;
}

async function benchShape(report: Report, { name, type, threads }: Setting): Promise<void> {
  const config = shapes[name]!;
  const weights = randomBlocks(config, type);
  const start = performance.now();
  using backend = createWasmBackend({ threads });
  const decoder = loadDecoder(config, weights, backend);
  await using executor = createLocalExecutor(decoder, backend, {
    pages: 8 * CONTEXT / PAGE_SIZE,
    pageSize: PAGE_SIZE,
    contextLength: CONTEXT,
  });
  const labels = { model: name, type, threads, backend: backend.name };
  report({
    ...labels,
    name: "cpu/load",
    ms: round(performance.now() - start),
    parameters: decoder.parameters,
  });
  const cases = [1, 4, 8].map((rows) => ({ rows, newTokens: 1, times: [] as number[] }));
  cases.push({ rows: 1, newTokens: PREFILL_TOKENS, times: [] });
  for (const one of cases) await time(executor, one.rows, one.newTokens, config.vocab); // warm-up
  for (let i = 0; i < ROUNDS; i++) {
    for (const one of cases) {
      one.times.push(await time(executor, one.rows, one.newTokens, config.vocab));
    }
  }
  for (const { rows, newTokens, times } of cases) {
    const ms = summary(times);
    report({
      ...labels,
      name: newTokens === 1 ? "cpu/decode" : "cpu/prefill",
      rows,
      newTokens,
      ms,
      tokensPerSecond: round(1000 * rows * newTokens / ms.median),
    });
  }
}

/** Milliseconds of one step. */
async function time(
  executor: Executor,
  rows: number,
  newTokens: number,
  vocab: number,
): Promise<number> {
  const steps = newTokens === 1 ? DECODE_STEPS : 1;
  const first = newTokens === 1 ? 128 : 0;
  const start = performance.now();
  for (let step = 0; step < steps; step++) {
    const batch = Array.from({ length: rows }, (_, r) => row(r, first + step, newTokens, vocab));
    await executor.execute({ step, edits: [], rows: batch });
  }
  return (performance.now() - start) / steps;
}

function row(index: number, position: number, newTokens: number, vocab: number): Row {
  const pagesEach = CONTEXT / PAGE_SIZE;
  const positions = Uint32Array.from({ length: newTokens }, (_, i) => position + i);
  return {
    tokens: positions.map((p) => (p * 37 + index) % vocab),
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

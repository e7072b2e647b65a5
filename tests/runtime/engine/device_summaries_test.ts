/** Answers of an executor whose backend reads logits itself, against the host's. */
import { assertEquals } from "@std/assert";
import type { Backend } from "../../../runtime/backend/backend.ts";
import { createWasmBackend } from "../../../runtime/backend/wasm/mod.ts";
import type { Answer, Want } from "../../../runtime/engine/executor.ts";
import { createLocalExecutor } from "../../../runtime/engine/local_executor.ts";
import { loadDecoder } from "../../../runtime/models/mod.ts";
import { seedFrom } from "../../../runtime/rng.ts";
import { greedySampling, type SamplingParams } from "../../../runtime/sampling.ts";
import { hashedWeights, llamaShapes, tinyConfig } from "../../fakes/hashed_weights.ts";

/** A vocabulary long enough for kernels, not a multiple of 4; its last ids are padding. */
const config = { ...tinyConfig, vocab: 61 };
const vocab = 59;

function sample(sampling: Partial<SamplingParams>, topLogprobs = 0): Want {
  return {
    kind: "sample",
    sampling: { ...greedySampling, temperature: 1, seed: seedFrom(3), ...sampling },
    topLogprobs,
    promptTokens: [],
    completionTokens: [],
  };
}

const wants: readonly Want[] = [
  { kind: "topk", k: 5, last: 4 },
  { kind: "topk", k: vocab + 3, last: 1 },
  { kind: "score", targets: Uint32Array.of(1, vocab - 1, 7) },
  { kind: "score", targets: Uint32Array.of(vocab) }, // not in the vocabulary: fails alone
  { kind: "entropy", last: 2 },
  { kind: "logits", last: 1 },
  sample({}, 3),
  sample({ topK: 6, topP: 0.8, minP: 0.01 }, 20),
  sample({ temperature: 0 }),
  sample({ topP: 0.5, logitBias: [[4, 1]] }, 2), // the host's
];

async function answers(change: (backend: Backend) => Backend): Promise<readonly Answer[][]> {
  using backend = createWasmBackend();
  const decoder = loadDecoder(config, hashedWeights(llamaShapes(config)), backend);
  const options = { pages: 8, pageSize: 4, contextLength: 16, vocab };
  await using executor = createLocalExecutor(decoder, change(backend), options);
  const { answers } = await executor.execute({
    step: 0,
    edits: [],
    rows: [0, 1].map((row) => ({
      tokens: Uint32Array.of(3 + row, 9, 2, 11),
      positions: Uint32Array.of(0, 1, 2, 3),
      slots: [Uint32Array.from({ length: 4 }, (_, i) => 4 * row + i)],
      tables: {
        granularity: "sequence",
        pages: [Uint32Array.of(row)],
        counts: Uint32Array.of(4),
      },
      wants: structuredClone(wants).filter((_, i) => row === 0 || i % 2 === 0),
    })),
  });
  return answers.map((row) => [...row]);
}

Deno.test("an executor answers the same whether its backend or the host reads logits", async () => {
  const host = await answers(({ summarise: _, canDraw: __, ...backend }) => backend);
  assertEquals(host[0]!.map(({ kind }) => kind).filter((kind) => kind === "failed").length, 1);
  assertEquals(await answers((backend) => backend), host);
});

Deno.test("an executor asks its backend for what it can read off logits", async () => {
  const asked: number[] = [];
  await answers((backend) => ({
    ...backend,
    summarise(logits, vocab, asks) {
      asked.push(...asks.map(({ top }) => top));
      return backend.summarise!(logits, vocab, asks);
    },
  }));
  const row = [5, 5, 5, 5, vocab + 3, 0, 0, 0, 0, 0, 0];
  const other = [5, 5, 5, 5, 0, 0, 0, 0, 0];
  assertEquals(asked, [...row, ...other]);
});

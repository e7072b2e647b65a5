/** Who decides how much a step computes, and that it changes no bit of what is computed. */
import { assertEquals } from "@std/assert";
import { createCpuBackend } from "../../../runtime/backend/cpu/mod.ts";
import type { Backend } from "../../../runtime/backend/backend.ts";
import { createEngine, type EngineLimits } from "../../../runtime/engine/engine.ts";
import type { Batch } from "../../../runtime/engine/executor.ts";
import { createLocalExecutor } from "../../../runtime/engine/local_executor.ts";
import { stepSizeOf } from "../../../runtime/engine/step_size.ts";
import { loadDecoder } from "../../../runtime/models/mod.ts";
import { hashedWeights, llamaShapes, tinyConfig } from "../../fakes/hashed_weights.ts";
import { letterVocab } from "../../fakes/mod.ts";
import { createTestGpuBackend, testWithGpu } from "../../_webgpu.ts";

const large = { stepTokens: 512, chunkTokens: 256 };
const vocab = letterVocab();
const config = { ...tinyConfig, vocab: vocab.size, contextLength: 512 };

Deno.test("stepSizeOf() takes the backend's word, as far as logits of a step fit one binding", () => {
  const limits = { maxBindingBytes: 128 << 20, f16: false, subgroups: false };
  assertEquals(stepSizeOf({ limits } as Backend, 1000), { stepTokens: 64, chunkTokens: 32 });
  assertEquals(stepSizeOf({ limits, steps: large } as Backend, 1000), large);
  const most = Math.floor((128 << 20) / 4 / 151_936);
  const fits = { stepTokens: most, chunkTokens: most };
  assertEquals(stepSizeOf({ limits, steps: large } as Backend, 151_936), fits);
});

/** Logits after a prompt of 300 tokens, and how many tokens each step had. */
async function promptOn(backend: Backend, limits: EngineLimits = {}) {
  const decoder = loadDecoder(config, hashedWeights(llamaShapes(config)), backend);
  const executor = createLocalExecutor(decoder, backend, {
    pages: 64,
    pageSize: 8,
    contextLength: 512,
  });
  const steps: number[] = [];
  const execute = (batch: Batch) => {
    steps.push(batch.rows.reduce((n, { tokens }) => n + tokens.length, 0));
    return executor.execute(batch);
  };
  await using engine = createEngine({
    id: "tiny",
    vocab,
    executor: { ...executor, execute, [Symbol.asyncDispose]: executor[Symbol.asyncDispose] },
    limits,
  });
  const tokens = Array.from({ length: 300 }, (_, i) => (i * i + 3 * i) % vocab.size);
  using session = engine.session(tokens);
  return { logits: await session.logits(), steps };
}

Deno.test("an engine computes as many tokens per step as suit the executor's backend", async () => {
  using cpu = createCpuBackend();
  const small = await promptOn(cpu);
  const own = await promptOn({ ...cpu, steps: { stepTokens: 128, chunkTokens: 100 } });
  const told = await promptOn({ ...cpu, steps: large }, { stepTokens: 64, chunkTokens: 64 });
  assertEquals(small.steps, [...Array(9).fill(32), 12]);
  assertEquals(own.steps, [100, 100, 100]);
  assertEquals(told.steps, [64, 64, 64, 64, 44]);
  assertEquals([own.logits, told.logits], [small.logits, small.logits]);
});

testWithGpu("large steps on a GPU give the bits of small ones and of single tokens", async () => {
  using software = createTestGpuBackend();
  using hardware = createTestGpuBackend({ steps: large });
  const expected = await promptOn(software, { stepTokens: 5, chunkTokens: 5 });
  const actual = await promptOn(hardware);
  assertEquals(actual.steps, [256, 44]);
  assertEquals(actual.logits, expected.logits);
  const kernels = new Set(hardware.lastStep.map(({ kernel }) => kernel));
  assertEquals([kernels.has("linear_tile_f32"), kernels.has("attention_tile")], [true, true]);
});

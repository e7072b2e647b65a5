/** Evicting policies on WebGPU keep what they keep on the reference. */
import { assert } from "@std/assert";
import type { Backend } from "../../../runtime/backend/backend.ts";
import { createCpuBackend } from "../../../runtime/backend/cpu/mod.ts";
import { createEngine, type Engine } from "../../../runtime/engine/engine.ts";
import { createLocalExecutor } from "../../../runtime/engine/local_executor.ts";
import { loadDecoder } from "../../../runtime/models/mod.ts";
import type { KvChoice } from "../../../runtime/mod.ts";
import { createTestGpuBackend, testWithGpu } from "../../_webgpu.ts";
import { hashedWeights, llamaShapes, tinyConfig } from "../../fakes/hashed_weights.ts";
import { fakeVocab } from "../../fakes/mod.ts";
import { testScope } from "../engine/_fixtures.ts";

function open(backend: Backend): Engine {
  const decoder = loadDecoder(tinyConfig, hashedWeights(llamaShapes(tinyConfig)), backend);
  const executor = createLocalExecutor(decoder, backend, {
    pages: 60,
    pageSize: 4,
    contextLength: 64,
  });
  const pieces = Array.from({ length: tinyConfig.vocab }, (_, i) => String.fromCharCode(97 + i));
  const vocab = fakeVocab({ pieces });
  return createEngine({ id: "tiny", vocab, executor, separators: new Set([3, 7, 11]) });
}

async function decode(engine: Engine, kv: KvChoice) {
  const tokens = Array.from({ length: 40 }, (_, i) => (i * i + 7 * i) % tinyConfig.vocab);
  const scope = testScope({ kv });
  using session = engine.session(tokens.slice(0, 26), { scope });
  const rows = [...await session.logits()];
  for (const token of tokens.slice(26)) {
    session.append([token]);
    rows.push(...await session.logits());
  }
  return { rows, usage: scope.meter.kv! };
}

const budget = { budget: 12, sinks: 2, window: 4 };
const choices: readonly KvChoice[] = [
  ...["h2o", "tova", "snapkv", "pyramidkv", "key-diff"].map((name) => ({ name, params: budget })),
  { name: "streaming", params: { sinks: 2, window: 8, interval: 4 } },
  { name: "sepllm", params: { sinks: 2, window: 6, interval: 4 } },
];

testWithGpu(
  "WebGPU: evicting policies give the reference's logits and hold its bytes",
  async () => {
    await using gpu = open(createTestGpuBackend());
    await using cpu = open(createCpuBackend());
    const full = await decode(cpu, { name: "full", params: {} });
    for (const choice of choices) {
      const [one, two] = [await decode(gpu, choice), await decode(cpu, choice)];
      const largest = (rows: readonly Float32Array[]) =>
        Math.max(
          ...rows.map((row, i) =>
            row.reduce((most, value, j) => Math.max(most, Math.abs(value - two.rows[i]![j]!)), 0)
          ),
        );
      assert(largest(one.rows) < 1e-4, `${choice.name}: ${largest(one.rows)}`);
      assert(largest(full.rows) > 1e-2, `${choice.name} evicted nothing`);
      assert(one.usage.tokensKept === two.usage.tokensKept && one.usage.tokensKept < 30);
    }
    gpu.checkPages();
  },
);

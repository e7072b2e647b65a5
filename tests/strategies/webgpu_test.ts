/** Every strategy on WebGPU writes what it writes on the reference: seeded, in f32. */
import { assert, assertAlmostEquals, assertEquals } from "@std/assert";
import type { Backend } from "../../runtime/backend/backend.ts";
import { createCpuBackend } from "../../runtime/backend/cpu/mod.ts";
import { createEngine, type Engine } from "../../runtime/engine/engine.ts";
import { createLocalExecutor } from "../../runtime/engine/local_executor.ts";
import { choiceConstraint, seedFrom } from "../../runtime/mod.ts";
import { loadDecoder } from "../../runtime/models/mod.ts";
import { listStrategies, type Strategy } from "../../strategies/mod.ts";
import { createTestGpuBackend, testWithGpu } from "../_webgpu.ts";
import { requestOf, type RequestOverrides, runToEnd } from "../conformance/_strategy_run.ts";
import { hashedWeights, llamaShapes, tinyConfig } from "../fakes/hashed_weights.ts";
import { fakeVocab } from "../fakes/mod.ts";

const pieces = Array.from({ length: 50 }, (_, i) => String.fromCharCode(65 + i));
const vocab = fakeVocab({ pieces });

/** Models of one vocabulary with weights of their own, one per role. */
function open(backend: Backend, role: number): Engine {
  const hidden = tinyConfig.hidden + 4 * role;
  const config = { ...tinyConfig, hidden, vocab: 57 };
  const decoder = loadDecoder(config, hashedWeights(llamaShapes(config)), backend);
  const options = { pages: 240, pageSize: 8, contextLength: 128 };
  const executor = createLocalExecutor(decoder, backend, options);
  return createEngine({ id: `tiny-${role}`, vocab, executor });
}

async function write(
  strategy: Strategy,
  create: () => Backend,
  overrides: RequestOverrides,
) {
  const roles = Object.keys({ ...strategy.needs, ...strategy.optionalNeeds });
  const engines = roles.map((_, i) => open(create(), i));
  try {
    const models = Object.fromEntries(roles.map((role, i) => [role, engines[i]!]));
    const { choices } = await runToEnd(requestOf(strategy, models, overrides));
    for (const engine of engines) engine.checkPages();
    return choices;
  } finally {
    for (const engine of engines) await engine[Symbol.asyncDispose]();
  }
}

/** What has no default. */
const required: Readonly<Record<string, Readonly<Record<string, unknown>>>> = {
  cascade: { threshold: 0.5 },
};

const runs: readonly RequestOverrides[] = [
  { sampling: { seed: seedFrom(3) }, ignoreStop: true, logprobs: 2 },
  {
    sampling: { seed: seedFrom(4), temperature: 0.8, topP: 0.9, presencePenalty: 0.4 },
    ignoreStop: true,
  },
  {
    sampling: { seed: seedFrom(5) },
    constraint: choiceConstraint(vocab, ["ABBA", "CAB", "Abba", "Cabbage", "Kaaba"]),
  },
];

for (const strategy of listStrategies()) {
  testWithGpu(`WebGPU: ${strategy.name} writes the reference's text`, async () => {
    for (const run of runs) {
      if (run.constraint && !strategy.constrained) continue;
      const params = required[strategy.name] ?? {};
      const overrides = { params, maxTokens: 12, ...run };
      const actual = await write(strategy, () => createTestGpuBackend(), overrides);
      const expected = await write(strategy, createCpuBackend, overrides);
      assert(expected[0]!.text.length > 2);
      assertEquals(actual.map(({ text }) => text), expected.map(({ text }) => text));
      for (const [c, { tokens, logprobs, reason }] of expected.entries()) {
        assertEquals([actual[c]!.tokens, actual[c]!.reason], [tokens, reason]);
        assertEquals(actual[c]!.logprobs.length, logprobs.length);
        logprobs.forEach(({ logprob }, i) =>
          assertAlmostEquals(actual[c]!.logprobs[i]!.logprob, logprob, 1e-4)
        );
      }
    }
  });
}

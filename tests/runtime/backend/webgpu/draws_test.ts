/** Draws on the device against the sampler of the host: the same tokens, or a word that the host must. */
import { assert, assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import type { DrawSpec } from "../../../../runtime/backend/backend.ts";
import { createRng, seedFrom } from "../../../../runtime/rng.ts";
import { greedySampling, sampleRow, type SamplingParams } from "../../../../runtime/sampling.ts";
import { createTestGpuBackend, testWithGpu } from "../../../_webgpu.ts";

/** Padded rows of logits; some values are equal, some impossible. */
function logitsOf(rows: number, stride: number, seed: number): Float32Array {
  const rng = createRng(seedFrom(seed));
  return Float32Array.from({ length: rows * stride }, () => {
    const u = rng.next();
    if (u < 0.02) return -Infinity;
    return u < 0.1 ? 1.5 : 12 * (rng.next() - 0.5) * (rng.next() + 0.2);
  });
}

async function drawAll(
  vocab: number,
  stride: number,
  logits: Float32Array,
  draws: readonly DrawSpec[],
) {
  using backend = createTestGpuBackend();
  using x = backend.tensor("x", [logits.length / stride, stride], "f32", logits);
  using result = backend.record((ops) => ops.draw!(x, vocab, draws));
  return await backend.drawn!(result, draws);
}

const base: Omit<DrawSpec, "row" | "position" | "sampling"> = {
  promptTokens: [],
  completionTokens: [],
};

/** Ways of drawing; each is tried on every row. */
const ways: Readonly<Record<string, Partial<SamplingParams>>> = {
  greedy: { temperature: 0 },
  plain: {},
  hot: { temperature: 1.7 },
  cold: { temperature: 0.3 },
  "top-k": { topK: 5 },
  "top-p": { topP: 0.7 },
  "min-p": { minP: 0.2 },
  all: { temperature: 0.8, topK: 20, topP: 0.9, minP: 0.02 },
  bias: { temperature: 0, logitBias: [[3, 9], [4, -3], [3, 2]] },
  penalties: { repetitionPenalty: 1.3, presencePenalty: 0.5, frequencyPenalty: 0.25 },
};

for (
  const [vocab, stride] of [[1, 4], [7, 8], [300, 300], [1030, 1056], [16_500, 16_500]] as const
) {
  testWithGpu(`draws from ${vocab} tokens are those of the host`, async () => {
    const rows = vocab > 10_000 ? 1 : 3, logits = logitsOf(rows, stride, vocab);
    if (vocab === 1) logits.fill(0.5);
    const rng = createRng(seedFrom(5));
    const mask = Uint32Array.from({ length: Math.ceil(vocab / 32) }, () => rng.next() * 2 ** 32);
    mask[0]! |= 1;
    const draws = Object.values(ways).flatMap((way) =>
      Array.from({ length: 2 * rows }, (_, i): DrawSpec => ({
        ...base,
        row: i % rows,
        position: 17 + i,
        sampling: {
          ...greedySampling,
          temperature: 1,
          seed: seedFrom(i),
          ...way,
          ...vocab < 8 ? { logitBias: [] } : {},
        },
        ...i >= rows && logits[(i % rows) * stride] !== -Infinity ? { mask } : {},
        promptTokens: [1, 2, 3].filter((token) => token < vocab),
        completionTokens: [2, 2, 5].filter((token) => token < vocab),
      }))
    );
    const drawn = await drawAll(vocab, stride, logits, draws);
    let decided = 0;
    draws.forEach((one, d) => {
      const found = drawn[d];
      if (found === undefined) return;
      decided++;
      const row = logits.subarray(one.row * stride, one.row * stride + vocab);
      const expected = sampleRow(row, { ...one, topLogprobs: 0 });
      assertEquals(found.token, expected.token, `draw ${d}, ${JSON.stringify(one.sampling)}`);
      assertAlmostEquals(found.logprob, expected.logprob, 2e-5);
      assertAlmostEquals(found.entropy, expected.entropy, 2e-5);
    });
    assert(decided >= 0.7 * draws.length, `${decided} of ${draws.length} were decided`);
  });
}

testWithGpu("draws leave to the host what holds no distribution or no allowed token", async () => {
  const rows = [[1, NaN, 2, 0], [1, Infinity, 0, 0], [-Infinity, -Infinity, -Infinity, -Infinity]];
  const sampling = { ...greedySampling, temperature: 0 };
  const draws = rows.map((_, row): DrawSpec => ({ ...base, row, position: 0, sampling }));
  const none = { ...base, row: 3, position: 0, sampling, mask: Uint32Array.of(0) };
  const logits = Float32Array.from([...rows.flat(), 1, 2, 3, 4]);
  assertEquals(
    await drawAll(4, 4, logits, [...draws, none]),
    [undefined, undefined, undefined, undefined],
  );
});

testWithGpu("draws refuse unknown tokens and short masks", () => {
  using backend = createTestGpuBackend();
  using x = backend.tensor("x", [1, 64], "f32");
  const refuse = (change: Partial<DrawSpec>) =>
    assertThrows(() => {
      const one = { ...base, row: 0, position: 0, sampling: greedySampling, ...change };
      backend.record((ops) => ops.draw!(x, 64, [one]));
    }, RangeError);
  refuse({ mask: Uint32Array.of(1) });
  refuse({ sampling: { ...greedySampling, logitBias: [[64, 1]] } });
});

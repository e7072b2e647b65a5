/** Draws by kernels against the reference sampler: the same tokens and numbers, to the bit. */
import { assert, assertEquals } from "@std/assert";
import type { Backend, Drawn, DrawSpec } from "../../../../runtime/backend/backend.ts";
import { createWasmBackend } from "../../../../runtime/backend/wasm/mod.ts";
import { createRng, seedFrom } from "../../../../runtime/rng.ts";
import { greedySampling, sampleRow, type SamplingParams } from "../../../../runtime/sampling.ts";

async function drawAll(
  backend: Backend,
  [vocab, stride]: readonly [number, number],
  logits: Float32Array,
  draws: readonly DrawSpec[],
): Promise<readonly (Drawn | undefined)[]> {
  using x = backend.tensor("x", [logits.length / stride, stride], "f32", logits);
  using result = backend.record((ops) => ops.draw!(x, vocab, draws));
  return await backend.drawn!(result, draws);
}

function spec(row: number, position: number, sampling: Partial<SamplingParams>): DrawSpec {
  return {
    row,
    position,
    sampling: { ...greedySampling, temperature: 1, ...sampling },
    promptTokens: [],
    completionTokens: [],
  };
}

/** Shapes of distributions: values from a number in [0, 1). */
const shapes: Readonly<Record<string, (u: number, i: number) => number>> = {
  usual: (u) => 12 * (u - 0.5),
  flat: (u) => u / 100,
  peaked: (u, i) => i % 37 === 5 ? 30 : 4 * u - 90,
  ties: (u) => Math.floor(4 * u),
  impossible: (u) => u < 0.5 ? -Infinity : 8 * u,
  "equal everywhere": () => -3.25,
};

for (const [vocab, stride] of [[16, 16], [19, 20], [50, 64], [1000, 1000], [4099, 4100]] as const) {
  for (const [name, value] of Object.entries(shapes)) {
    Deno.test(`draw() from ${vocab} ${name} logits is what sampleRow() gives, to the bit`, async () => {
      using backend = createWasmBackend();
      const rng = createRng(seedFrom(vocab)), rows = 3;
      const logits = Float32Array.from({ length: rows * stride }, (_, i) => value(rng.next(), i));
      const draws = Array.from({ length: 24 }, (_, i) =>
        spec(i % rows, 5 * i, {
          seed: seedFrom(7919 * i * 2 ** 20),
          temperature: [0, 0.25, 1, 1, 1.8, 0.01, 2][i % 7]!,
        }));
      const drawn = await drawAll(backend, [vocab, stride], logits, draws);
      for (const [i, draw] of draws.entries()) {
        assert(backend.canDraw!(draw, vocab));
        const row = logits.subarray(draw.row * stride, draw.row * stride + vocab);
        const { token, logprob, entropy } = sampleRow(row, { ...draw, topLogprobs: 0 });
        assertEquals(drawn[i], { token, logprob, entropy }, `draw ${i}`);
      }
    });
  }
}

Deno.test("draw() leaves rows without a distribution to the host", async () => {
  using backend = createWasmBackend();
  const rows = [NaN, Infinity, -Infinity].map((odd) =>
    Array.from({ length: 20 }, (_, i) => odd === -Infinity || i === 7 ? odd : i)
  );
  const draws = rows.map((_, row) => spec(row, 0, {}));
  const drawn = await drawAll(backend, [20, 20], Float32Array.from(rows.flat()), draws);
  assertEquals(drawn, [undefined, undefined, undefined]);
});

Deno.test("canDraw() leaves filters, masks, bias and penalties to the host", () => {
  using backend = createWasmBackend();
  const host: Partial<SamplingParams>[] = [
    { topK: 5 },
    { topP: 0.9 },
    { minP: 0.1 },
    { typicalP: 0.9 },
    { logitBias: [[1, 2]] },
    { presencePenalty: 1 },
    { temperature: 0, repetitionPenalty: 1.1 },
  ];
  for (const sampling of host) assert(!backend.canDraw!(spec(0, 0, sampling), 1000));
  assert(!backend.canDraw!({ ...spec(0, 0, {}), mask: new Uint32Array(32) }, 1000));
  assert(backend.canDraw!(spec(0, 0, {}), 1000));
  assert(backend.canDraw!(spec(0, 0, { temperature: 0, topK: 5 }), 1000), "arg max anyway");
});

/** Draws by kernels against the reference sampler: the same tokens and numbers, to the bit. */
import { assert, assertEquals } from "@std/assert";
import type { Backend, Drawn, DrawSpec } from "../../../../runtime/backend/backend.ts";
import {
  createWasmBackend,
  type WasmBackendOptions,
} from "../../../../runtime/backend/wasm/mod.ts";
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

Deno.test("canDraw() leaves bias, penalties, short masks and lone typical-p to the host", () => {
  using backend = createWasmBackend();
  const host: Partial<SamplingParams>[] = [
    { typicalP: 0.9 },
    { logitBias: [[1, 2]] },
    { presencePenalty: 1 },
    { temperature: 0, repetitionPenalty: 1.1 },
    { temperature: 1e-40 },
  ];
  for (const sampling of host) assert(!backend.canDraw!(spec(0, 0, sampling), 1000));
  assert(!backend.canDraw!({ ...spec(0, 0, {}), mask: new Uint32Array(31) }, 1000));
  assert(backend.canDraw!({ ...spec(0, 0, {}), mask: new Uint32Array(32) }, 1000));
  assert(backend.canDraw!(spec(0, 0, {}), 1000));
  for (const filter of [{ topK: 5 }, { topP: 0.9 }, { minP: 0.1 }]) {
    assert(backend.canDraw!(spec(0, 0, filter), 1000));
    assert(backend.canDraw!(spec(0, 0, { ...filter, typicalP: 0.5 }), 1000), "few are left");
  }
});

/** Logits spread like a language model's. */
function bellRow(vocab: number, seed: number): Float32Array {
  const rng = createRng(seedFrom(seed));
  return Float32Array.from({ length: vocab }, () => {
    const u = rng.next();
    return 1.5 * Math.log((u + 1e-6) / (1 - u + 1e-6));
  });
}

const filters: readonly Partial<SamplingParams>[] = [
  {},
  { topK: 40 },
  { topK: 3000 },
  { topK: 9000, topP: 0.8 },
  { topP: 0.9 },
  { topP: 0.97, temperature: 1.7 },
  { minP: 0.05 },
  { topK: 40, topP: 0.9, minP: 0.05, temperature: 0.8 },
  { topK: 40, typicalP: 0.9 },
  { temperature: 0 },
];

const modules: Readonly<Record<string, WasmBackendOptions>> = {
  "the strict module": { relaxedSimd: false },
  "the module for shared memory": { threads: 2, sharedWork: 0 },
};

for (const vocab of [2048, 32_003, 151_936]) {
  Deno.test(`draw() from ${vocab} logits with filters gives the host's numbers and top tokens`, async () => {
    const row = bellRow(vocab, vocab);
    const draws = filters.flatMap((sampling, i) =>
      [0, 3].map((topLogprobs) => ({
        ...spec(0, 11 * i + topLogprobs, { ...sampling, seed: seedFrom(i) }),
        topLogprobs,
      }))
    );
    const expected = draws.map((draw): Drawn | undefined => {
      const { token, logprob, entropy, top } = sampleRow(row, draw);
      return { token, logprob, entropy, ...draw.topLogprobs > 0 ? { top } : {} };
    });
    for (const options of [{}, ...Object.values(modules)]) {
      using backend = createWasmBackend(options);
      assertEquals([...await drawAll(backend, [vocab, vocab], row, draws)], expected);
    }
  });
}

Deno.test("draw() leaves to the host what the order of additions could decide", async () => {
  using backend = createWasmBackend();
  const equal = Float32Array.from({ length: 64 }, (_, i) => i < 32 ? 1 : 1 - 2 ** -23);
  const total = sampleRow(equal, { ...spec(0, 0, {}), topLogprobs: 0 });
  assert(total.entropy > 4, "nearly even");
  const half = equal.reduce((sum, x, i) => sum + (i < 32 ? Math.exp(x - 1) : 0), 0);
  const whole = equal.reduce((sum, x) => sum + Math.exp(x - 1), 0);
  const draws = [half / whole, half / whole + 1e-9].map((topP) => spec(0, 0, { topP }));
  const [close, clear] = await drawAll(backend, [64, 64], equal, draws);
  assertEquals(close, undefined);
  assertEquals(clear?.token, sampleRow(equal, { ...draws[1]!, topLogprobs: 0 }).token);
});

Deno.test("draw() under a mask that leaves no possible token is the host's to refuse", async () => {
  using backend = createWasmBackend();
  const logits = Float32Array.from({ length: 64 }, (_, i) => i < 8 ? -Infinity : i);
  const mask = Uint32Array.of(0xff, 0);
  const draws = [0, 1].map((temperature) => ({ ...spec(0, 0, { temperature }), mask }));
  assertEquals(await drawAll(backend, [64, 64], logits, draws), [undefined, undefined]);
});

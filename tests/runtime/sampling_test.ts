import { assert, assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import { EngineError } from "../../runtime/errors.ts";
import { createRng, seedFrom, tokenGumbel } from "../../runtime/rng.ts";
import {
  type DrawContext,
  greedySampling,
  sampleRow,
  type SampleRowOptions,
  type SamplingParams,
  warpedLogprobs,
} from "../../runtime/sampling.ts";
import { assertDistribution } from "../_statistics.ts";
import { referenceAdjusted, referenceDistribution, softmax } from "./sampling/_reference.ts";

const noTokens = { promptTokens: [], completionTokens: [] };

function optionsOf(
  sampling: Partial<SamplingParams>,
  rest: Partial<SampleRowOptions> = {},
): SampleRowOptions {
  return {
    ...noTokens,
    topLogprobs: 0,
    position: 0,
    ...rest,
    sampling: { ...greedySampling, ...sampling },
  };
}

function randomRow(seed: number, vocab: number): Float32Array {
  const rng = createRng(seedFrom(seed));
  return Float32Array.from({ length: vocab }, () => (rng.next() - 0.5) * 12);
}

function maskOf(vocab: number, allowed: (token: number) => boolean): Uint32Array {
  const mask = new Uint32Array(Math.ceil(vocab / 32));
  for (let token = 0; token < vocab; token++) {
    if (allowed(token)) mask[token >> 5]! |= 1 << (token & 31);
  }
  return mask;
}

/** Every combination of filters and adjustments. */
function* combinations(vocab: number): Generator<DrawContext> {
  const adjustments = {
    logitBias: [[1, 1.5], [4, -2]] as const,
    repetitionPenalty: 1.3,
    presencePenalty: 0.4,
    frequencyPenalty: 0.3,
  };
  for (const temperature of [1, 0.6]) {
    for (const topK of [0, 5]) {
      for (const topP of [1, 0.83]) {
        for (const minP of [0, 0.07]) {
          for (const typicalP of [1, 0.71]) {
            for (const adjusted of [false, true]) {
              for (const mask of [undefined, maskOf(vocab, (token) => token % 3 !== 0)]) {
                const filters = { temperature, topK, topP, minP, typicalP };
                yield {
                  sampling: { ...greedySampling, ...filters, ...adjusted ? adjustments : {} },
                  mask,
                  promptTokens: [0, 2, 2],
                  completionTokens: [1, 2, 1, 5],
                };
              }
            }
          }
        }
      }
    }
  }
}

Deno.test("warpedLogprobs() equals the definitions for every combination of warpers", () => {
  for (let seed = 0; seed < 8; seed++) {
    const row = randomRow(seed, 8 + 13 * seed);
    if (seed % 2 === 1) row.forEach((x, i) => row[i] = Math.round(x)); // ties
    for (const context of combinations(row.length)) {
      const exact = referenceDistribution([...row], context);
      const got = warpedLogprobs(row, context);
      exact.forEach((p, token) => assertAlmostEquals(Math.exp(got[token]!), p, 1e-9));
    }
  }
});

Deno.test("sampleRow() follows the exact distribution for every combination of warpers", () => {
  const row = Float32Array.of(1.2, 0.9, 2.1, -0.5, 1.9, 0.1, -1.2, 1.4, 0.6, -3);
  const contexts = [...combinations(row.length)];
  const draws = 10_000;
  for (const [i, context] of contexts.entries()) {
    const sampling = { ...context.sampling, seed: seedFrom(1000 + i) };
    const counts = new Array<number>(row.length).fill(0);
    for (let position = 0; position < draws; position++) {
      counts[sampleRow(row, { ...context, sampling, topLogprobs: 0, position }).token]!++;
    }
    const exact = referenceDistribution([...row], context);
    // False-alarm rate of the whole test: 1e-6.
    assertDistribution(counts, exact, 1e-6 / contexts.length, JSON.stringify(sampling));
  }
});

Deno.test("sampleRow() is the arg max of log-probability plus noise, over all tokens", () => {
  const vocab = 3001; // not a multiple of the noise's block of four
  const noise = new Float64Array(4);
  for (let seed = 0; seed < 40; seed++) {
    const row = randomRow(seed, vocab);
    const sampling = { temperature: 0.5 + seed / 20, seed: seedFrom(seed) };
    const options = optionsOf(sampling, { position: seed * 31 });
    const logprobs = warpedLogprobs(row, options);
    let best = -1, highest = -Infinity;
    logprobs.forEach((logprob, token) => {
      tokenGumbel(noise, options.sampling.seed, options.position, token >> 2);
      const value = logprob + noise[token & 3]!;
      if (value > highest) [best, highest] = [token, value];
    });
    assertEquals(sampleRow(row, options).token, best);
  }
});

Deno.test("sampleRow() draws the same token whether or not a filter drops the others", () => {
  // The noise belongs to the token, not to the order in which tokens are looked at.
  for (let seed = 0; seed < 50; seed++) {
    const row = randomRow(seed, 500);
    const all = optionsOf({ temperature: 1, seed: seedFrom(seed) });
    const { token } = sampleRow(row, all);
    const rank = [...row].filter((x) => x >= row[token]!).length;
    const filtered = optionsOf({ temperature: 1, topK: rank, seed: seedFrom(seed) });
    assertEquals(sampleRow(row, filtered).token, token);
  }
});

Deno.test("sampleRow() at temperature 0 takes the best adjusted token, lower id first", () => {
  assertEquals(sampleRow(Float32Array.of(1, 7, 7), optionsOf({})).token, 1);
  assertEquals(sampleRow(Float32Array.of(1, 7, 7), optionsOf({ logitBias: [[0, 6]] })).token, 0);
  for (const context of combinations(40)) {
    const row = randomRow(3, 40);
    const sampling = { ...context.sampling, temperature: 0 };
    const expected = referenceAdjusted([...row], context);
    const { token } = sampleRow(row, { ...context, sampling, topLogprobs: 0, position: 0 });
    assertEquals(token, expected.indexOf(Math.max(...expected)));
    const warped = warpedLogprobs(row, { ...context, sampling });
    assertEquals([...warped], Array.from(row, (_, i) => i === token ? 0 : -Infinity));
  }
});

Deno.test("sampleRow() reports the raw distribution, whatever is applied", () => {
  const row = randomRow(5, 50);
  const p = softmax([...row]);
  const options = optionsOf(
    { temperature: 0.3, topK: 2, logitBias: [[7, 50]], presencePenalty: 1 },
    { topLogprobs: 3, mask: maskOf(50, (token) => token === 7), completionTokens: [7] },
  );
  const { token, logprob, top, entropy } = sampleRow(row, options);
  assertEquals(token, 7);
  assertAlmostEquals(logprob, Math.log(p[7]!), 1e-9);
  const sorted = p.map((_, i) => i).sort((a, b) => p[b]! - p[a]!);
  assertEquals(top.map((candidate) => candidate.token), sorted.slice(0, 3));
  top.forEach((c) => assertAlmostEquals(c.logprob, Math.log(p[c.token]!), 1e-9));
  assertAlmostEquals(entropy, -p.reduce((sum, x) => sum + x * Math.log(x), 0), 1e-9);
});

Deno.test("presence counts once, frequency every time, repetition also the prompt", () => {
  const row = Float32Array.of(2, 2, 2, -2, 0);
  const context = (sampling: Partial<SamplingParams>): DrawContext => ({
    sampling: { ...greedySampling, temperature: 1, ...sampling },
    promptTokens: [0, 3],
    completionTokens: [1, 1, 2],
  });
  const logitsOf = (sampling: Partial<SamplingParams>) => {
    const logprobs = warpedLogprobs(row, context(sampling));
    return [...logprobs].map((x) => Number((x - logprobs[4]!).toFixed(9)) + 0);
  };
  assertEquals(logitsOf({ presencePenalty: 0.5 }), [2, 1.5, 1.5, -2, 0]);
  assertEquals(logitsOf({ frequencyPenalty: 0.5 }), [2, 1, 1.5, -2, 0]);
  assertEquals(logitsOf({ repetitionPenalty: 2 }), [1, 1, 1, -4, 0]);
  assertEquals(logitsOf({ presencePenalty: -0.5 }), [2, 2.5, 2.5, -2, 0]);
});

Deno.test("filters keep tokens tied at the cut", () => {
  const row = Float32Array.of(0, 1, 1, 1, -1);
  const kept = (sampling: Partial<SamplingParams>) =>
    [...warpedLogprobs(row, optionsOf({ temperature: 1, ...sampling }))]
      .flatMap((x, i) => x > -Infinity ? [i] : []);
  assertEquals(kept({ topK: 1 }), [1, 2, 3]);
  assertEquals(kept({ topK: 4 }), [0, 1, 2, 3]);
  assertEquals(kept({ topP: 0.01 }), [1, 2, 3]);
  assertEquals(kept({ minP: 1 }), [1, 2, 3]);
  assertEquals(kept({ typicalP: 0.01 }), [1, 2, 3]);
});

Deno.test("top-k beyond the heap's size equals the heap", () => {
  const row = randomRow(9, 4000);
  for (const k of [256, 257, 1000, 3999]) {
    const cut = [...row].sort((a, b) => b - a)[k - 1]!;
    const logprobs = warpedLogprobs(row, optionsOf({ temperature: 1, topK: k }));
    assertEquals(
      [...logprobs].filter((x) => x > -Infinity).length,
      [...row].filter((x) => x >= cut).length,
    );
  }
});

Deno.test("a draw depends on nothing but its arguments", () => {
  const rows = [7, 3000, 12, 150, 40].map((vocab, i) => randomRow(i, vocab));
  const draw = (row: Float32Array, position: number) =>
    sampleRow(
      row,
      optionsOf(
        { temperature: 0.9, topP: 0.9, presencePenalty: 1, typicalP: 0.9, seed: seedFrom(1) },
        { position, completionTokens: [1, 2, 3], topLogprobs: 2 },
      ),
    );
  const alone = rows.map((row, i) => draw(row, i));
  const copies = rows.map((row) => row.slice());
  for (let i = rows.length - 1; i >= 0; i--) assertEquals(draw(rows[i]!, i), alone[i]!);
  assertEquals(rows, copies);
});

Deno.test("a row where everything is masked out is refused, not guessed", () => {
  const row = Float32Array.of(1, 2, -Infinity);
  for (const temperature of [0, 1]) {
    for (const mask of [Uint32Array.of(0), Uint32Array.of(0b100)]) {
      assertThrows(() => sampleRow(row, optionsOf({ temperature }, { mask })), RangeError);
      assertThrows(() => warpedLogprobs(row, optionsOf({ temperature }, { mask })), RangeError);
    }
  }
});

Deno.test("unknown tokens and short masks are refused, and leave nothing behind", () => {
  const row = randomRow(1, 40);
  const bad: Partial<SampleRowOptions>[] = [
    { mask: new Uint32Array(1) },
    { completionTokens: [1, 40] },
    { completionTokens: [1, -1] },
    { completionTokens: [1, 0.5] },
  ];
  const before = sampleRow(row, optionsOf({ presencePenalty: 2 }, { completionTokens: [2] }));
  for (const rest of bad) {
    assertThrows(() => sampleRow(row, optionsOf({ presencePenalty: 1 }, rest)), RangeError);
  }
  assertThrows(() => sampleRow(row, optionsOf({ logitBias: [[40, 1]] })), RangeError);
  const after = sampleRow(row, optionsOf({ presencePenalty: 2 }, { completionTokens: [2] }));
  assertEquals(after, before);
});

Deno.test("logits that are not numbers are engine errors", () => {
  for (const value of [NaN, Infinity]) {
    for (const temperature of [0, 1]) {
      const row = Float32Array.of(0, value, 1);
      assertThrows(() => sampleRow(row, optionsOf({ temperature })), EngineError);
    }
  }
});

Deno.test("tiny temperatures behave like greedy", () => {
  for (let seed = 0; seed < 20; seed++) {
    const row = randomRow(seed, 300);
    const greedy = sampleRow(row, optionsOf({}));
    for (const temperature of [1e-6, 1e-300]) {
      const { token } = sampleRow(row, optionsOf({ temperature, topP: 0.9, typicalP: 0.9 }));
      assertEquals(token, greedy.token);
    }
  }
  assert(Number.isFinite(sampleRow(Float32Array.of(3e38, -3e38), optionsOf({})).logprob));
});

import { assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import { EngineError } from "../../../runtime/errors.ts";
import { createRng, seedFrom } from "../../../runtime/rng.ts";
import {
  allowedMass,
  greedySampling,
  logNormalizer,
  type SamplingParams,
  warpedLogprobs,
} from "../../../runtime/sampling.ts";

const vocab = 77;
const rng = createRng(seedFrom(5));
const row = Float32Array.from(
  { length: vocab },
  (_, i) => i % 19 === 4 ? -Infinity : 20 * (rng.next() - 0.5),
);
const maskOf = (isAllowed: (token: number) => boolean) => {
  const mask = Uint32Array.of(0, 0, 0xffffe000); // bits beyond the vocabulary mean nothing
  for (let token = 0; token < vocab; token++) {
    if (isAllowed(token)) mask[token >> 5]! |= 1 << (token & 31);
  }
  return mask;
};
const contextOf = (changes: Partial<SamplingParams>) => ({
  sampling: { ...greedySampling, temperature: 1, ...changes },
  promptTokens: [1, 2],
  completionTokens: [3, 3, 9],
});

Deno.test("allowedMass() is the probability of what the mask allows, filters left out", () => {
  const masks = {
    most: (token: number) => token % 5 !== 0,
    few: (token: number) => token % 11 === 0,
    one: (token: number) => token === 31,
    none: () => false,
    all: () => true,
  };
  const shapes: Partial<SamplingParams>[] = [
    {},
    { temperature: 0.3 },
    { temperature: 2, topK: 3, topP: 0.5 },
    { repetitionPenalty: 1.3, presencePenalty: 0.5 },
    { logitBias: [[5, 3]], temperature: 0.9 },
  ];
  for (const isAllowed of Object.values(masks)) {
    for (const changes of shapes) {
      const context = contextOf(changes);
      const { sampling } = context;
      const law = warpedLogprobs(row, { ...context, sampling: { ...sampling, topK: 0, topP: 1 } });
      let expected = 0;
      law.forEach((logprob, token) => expected += isAllowed(token) ? Math.exp(logprob) : 0);
      const mass = allowedMass(row, maskOf(isAllowed), context);
      assertAlmostEquals(mass, expected, 1e-12);
    }
  }
  const known = allowedMass(row, maskOf(masks.most), contextOf({}), logNormalizer(row));
  assertEquals(known, allowedMass(row, maskOf(masks.most), contextOf({})));
});

Deno.test("allowedMass() of a tiny share keeps its digits, also where most tokens are allowed", () => {
  const peaked = Float32Array.from({ length: vocab }, (_, i) => i === 7 ? 60 : 0);
  const mass = allowedMass(peaked, maskOf((token) => token !== 7), contextOf({}));
  const expected = (vocab - 1) * Math.exp(-60);
  assertAlmostEquals(mass / expected, 1, 1e-12);
  const cold = allowedMass(peaked, maskOf((token) => token === 3), contextOf({ temperature: 0.5 }));
  assertAlmostEquals(cold / Math.exp(-120), 1, 1e-12);
});

Deno.test("allowedMass() refuses rows without a distribution", () => {
  for (const odd of [NaN, Infinity]) {
    const bad = row.slice();
    bad[3] = odd;
    for (const temperature of [1, 0.5]) {
      const mask = maskOf(() => true);
      assertThrows(() => allowedMass(bad, mask, contextOf({ temperature })), EngineError);
    }
  }
});

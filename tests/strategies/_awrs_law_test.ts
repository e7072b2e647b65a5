import { assert, assertAlmostEquals, assertEquals } from "@std/assert";
import {
  allowedMass,
  createRng,
  greedySampling,
  type SamplingParams,
  seedFrom,
  warpedLogprobs,
} from "../../runtime/mod.ts";
import { isPossible, lawFrom, stepLaw } from "../../strategies/_awrs_law.ts";
import { gumbelUrn } from "../../strategies/_awrs_urn.ts";

const vocab = 70;
const rng = createRng(seedFrom(2));
const row = Float32Array.from(
  { length: vocab },
  (_, i) => i % 13 === 5 ? -Infinity : 30 * (rng.next() - 0.5),
);
const mask = Uint32Array.of(0xf0f1_1fa3, 0x0f00_7001, 0x2a);
const contextOf = (changes: Partial<SamplingParams>) => ({
  sampling: { ...greedySampling, temperature: 1, ...changes },
  promptTokens: [3],
  completionTokens: [9, 9],
});

Deno.test("stepLaw() is the sampler's law, by its short way as well, with the mass the mask keeps", () => {
  const shapes: Partial<SamplingParams>[] = [
    {},
    { temperature: 0.4 },
    { temperature: 1.9 },
    { topK: 4 },
    { topP: 0.7, temperature: 0.8 },
    { presencePenalty: 1 },
    { logitBias: [[0, 5]] },
  ];
  for (const changes of shapes) {
    for (const allowed of [undefined, mask]) {
      const context = contextOf(changes);
      const law = stepLaw(row, allowed, context);
      const expected = warpedLogprobs(row, { ...context, mask: allowed });
      const logprobs = law.logprobs();
      for (let token = 0; token < vocab; token++) {
        assertAlmostEquals(law.probs[token]!, Math.exp(expected[token]!), 1e-12);
        if (expected[token] === -Infinity) assertEquals(logprobs[token], -Infinity);
        else assertAlmostEquals(logprobs[token]!, expected[token]!, 1e-9);
      }
      assertAlmostEquals(law.kept(), allowed ? allowedMass(row, allowed, context) : 1, 1e-12);
    }
  }
});

Deno.test("stepLaw() keeps a mask's tiny share", () => {
  const peaked = Float32Array.from({ length: vocab }, (_, i) => i === 1 ? 300 : 0);
  const kept = stepLaw(peaked, Uint32Array.of(0, 3, 0), contextOf({})).kept();
  assertAlmostEquals(kept / (2 * Math.exp(-300)), 1, 1e-9);
});

Deno.test("isPossible() looks at allowed tokens alone", () => {
  assert(isPossible(row, Uint32Array.of(1 << 6, 0, 0)));
  assert(!isPossible(row, Uint32Array.of(1 << 5, 1 << 12, 0)), "both impossible");
  assert(!isPossible(row, Uint32Array.of(0, 0, 1 << 20)), "no such token");
});

Deno.test("an urn that is told its first token goes on as one that finds it", () => {
  const logprobs = warpedLogprobs(row, contextOf({ temperature: 20 }));
  for (let seed = 0; seed < 50; seed++) {
    const found = gumbelUrn(lawFrom(logprobs), seedFrom(seed), 4);
    const first = found.draw()!;
    const told = gumbelUrn(lawFrom(logprobs), seedFrom(seed), 4, first);
    assertEquals(told.draw(), first);
    for (let token: number | undefined = first; token !== undefined;) {
      for (const urn of [found, told]) urn.remove(token);
      assertEquals(told.left(), found.left());
      token = found.draw();
      assertEquals(told.draw(), token);
    }
  }
});

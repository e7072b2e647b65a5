import { assert, assertAlmostEquals, assertEquals } from "@std/assert";
import { createRng, forkSeed, type Rng, type Seed, seedFrom } from "../../runtime/mod.ts";
import {
  type Drawn,
  type Estimator,
  firstAllowed,
  geometric,
  recursive,
  twoLoop,
  type Urn,
} from "../../strategies/_awrs_estimators.ts";
import { lawFrom } from "../../strategies/_awrs_law.ts";
import { gumbelUrn as urnOf } from "../../strategies/_awrs_urn.ts";
import type { Chance } from "../../strategies/_chance.ts";
import { drawToken } from "../../strategies/_noise.ts";
import { assertDistribution } from "../_statistics.ts";
import { lawOf } from "./_enumerate.ts";

/** The urn of these log-probabilities. */
const gumbelUrn = (logprobs: Float64Array, seed: Seed, position: number) =>
  urnOf(lawFrom(logprobs), seed, position);

/** An urn whose every draw is a decision that can be enumerated. */
function chanceUrn(p: readonly number[], chance: Chance): Urn {
  const removed = new Set<number>();
  const drawn = new Set<number>();
  const mass = (skip: ReadonlySet<number>) =>
    p.reduce((sum, share, token) => skip.has(token) ? sum : sum + share, 0);
  return {
    peak: Math.max(...p),
    prob: (token) => p[token]!,
    draw() {
      const weights = Float64Array.from(
        p,
        (share, token) => removed.has(token) || drawn.has(token) ? 0 : share,
      );
      if (weights.every((weight) => weight === 0)) return undefined;
      const token = chance.draw(weights);
      drawn.add(token);
      return token;
    },
    remove: (token) => void removed.add(token),
    refill: () => drawn.clear(),
    left: () => mass(removed),
    phantoms(limit) {
      let count = 0;
      while (count < limit && removed.size > 0 && chance.coin(1 - mass(removed), 1)) count++;
      return count;
    },
  };
}

/** Runs an estimator; counts questions. */
function finish(
  estimator: Estimator,
  isAllowed: (token: number) => boolean,
): Drawn & { readonly asked: readonly number[] } {
  const asked: number[] = [];
  let step = estimator.next();
  while (!step.done) {
    asked.push(step.value);
    step = estimator.next(isAllowed(step.value));
  }
  return { ...step.value, asked };
}

/** Per token: how probable it comes out, and E[weight; token]. */
async function lawsOf(
  make: (urn: Urn) => Estimator,
  p: readonly number[],
  allowed: readonly boolean[],
) {
  const outcomes = await lawOf((chance) => {
    const { token, weight } = finish(make(chanceUrn(p, chance)), (t) => allowed[t]!);
    return { token: token ?? -1, weight };
  });
  const probabilities = p.map(() => 0);
  const weighted = p.map(() => 0);
  for (const [key, probability] of outcomes) {
    const { token, weight } = JSON.parse(key) as { token: number; weight: number };
    if (token < 0) continue;
    probabilities[token]! += probability;
    weighted[token]! += probability * weight;
  }
  return { probabilities, weighted };
}

function randomCase(rng: Rng, vocab: number) {
  const shares = Array.from({ length: vocab }, () => rng.next() ** 3 + 1e-3);
  const total = shares.reduce((sum, share) => sum + share, 0);
  const allowed = shares.map(() => rng.next() < 0.5);
  return { p: shares.map((share) => share / total), allowed };
}

const estimators: Readonly<Record<string, readonly [number, (urn: Urn) => Estimator]>> = {
  "two-loop": [5, twoLoop],
  "recursive": [6, (urn) => recursive(urn, Infinity)],
  "recursive, 2 rejects": [6, (urn) => recursive(urn, 2)],
  "recursive, 4 rejects": [5, (urn) => recursive(urn, 4)],
  "geometric 2, 2 rejects": [5, (urn) => geometric(urn, 2, 2)],
  "geometric 2, 5 rejects": [4, (urn) => geometric(urn, 2, 5)],
  "geometric 3, 4 rejects": [4, (urn) => geometric(urn, 3, 4)],
  "geometric 4, 6 rejects": [3, (urn) => geometric(urn, 4, 6)],
};

for (const [name, [vocab, make]] of Object.entries(estimators)) {
  Deno.test(`${name}: the weight of each allowed token is its probability in expectation`, async () => {
    const rng = createRng(seedFrom(3));
    for (let i = 0; i < 30; i++) {
      const { p, allowed } = randomCase(rng, 2 + Math.floor(rng.next() * (vocab - 1)));
      const { weighted } = await lawsOf(make, p, allowed);
      p.forEach((share, token) => {
        assertAlmostEquals(weighted[token]!, allowed[token] ? share : 0, 1e-12);
      });
    }
  });
}

const whole = { "two-loop": twoLoop, recursive: (urn: Urn) => recursive(urn, Infinity) };
for (const [name, make] of Object.entries(whole)) {
  Deno.test(`${name}: tokens follow p restricted to the allowed ones`, async () => {
    const rng = createRng(seedFrom(4));
    for (let i = 0; i < 20; i++) {
      const { p, allowed } = randomCase(rng, 4);
      const { probabilities } = await lawsOf(make, p, allowed);
      const mass = p.reduce((sum, share, token) => allowed[token] ? sum + share : sum, 0);
      p.forEach((share, token) => {
        assertAlmostEquals(probabilities[token]!, allowed[token] ? share / mass : 0, 1e-12);
      });
    }
  });
}

Deno.test("negative control: the recursive weight without the second token's answer is biased", async () => {
  function* unasked(urn: Urn): Estimator {
    for (let token = urn.draw(); token !== undefined; token = urn.draw()) {
      if (yield token) return { token, weight: urn.left() };
      urn.remove(token);
    }
    return { token: undefined, weight: 0 };
  }
  const { weighted } = await lawsOf(unasked, [0.5, 0.3, 0.2], [true, false, true]);
  assert(Math.abs(weighted[0]! - 0.5) > 0.05, `${weighted[0]}`);
});

Deno.test("estimators give weight 1 where everything is allowed, 0 where nothing is, and ask no refused token again", () => {
  const p = [0.4, 0.3, 0.2, 0.1];
  for (const [name, [, make]] of Object.entries(estimators)) {
    for (let seed = 0; seed < 50; seed++) {
      const urn = () => gumbelUrn(Float64Array.from(p, Math.log), seedFrom(seed), 3);
      const all = finish(make(urn()), () => true);
      assertEquals(all.weight, 1, name);
      const none = finish(make(urn()), () => false);
      assertEquals([none.token, none.weight], [undefined, 0], name);
      assertEquals(new Set(none.asked).size, none.asked.length, name);
    }
  }
});

Deno.test("geometric without a limit: tokens and weights by simulation (false alarms 1e-6 in all)", () => {
  const p = [0.4, 0.3, 0.2, 0.1];
  const allowed = [false, true, false, true];
  const runs = 20_000;
  for (const maxAccepts of [2, 4]) {
    const counts = [0, 0];
    const sums = [0, 0], squares = [0, 0];
    for (let seed = 0; seed < runs; seed++) {
      const urn = gumbelUrn(Float64Array.from(p, Math.log), seedFrom(seed), 0);
      const { token, weight } = finish(geometric(urn, maxAccepts, Infinity), (t) => allowed[t]!);
      const cell = token === 1 ? 0 : 1;
      counts[cell]!++;
      sums[cell]! += weight;
      squares[cell]! += weight * weight;
    }
    assertDistribution(counts, [0.75, 0.25], 1e-7, `geometric ${maxAccepts}`);
    for (const [cell, expected] of [0.3, 0.1].entries()) {
      const mean = sums[cell]! / runs;
      const error = Math.sqrt((squares[cell]! / runs - mean * mean) / runs);
      // 5.2 standard errors: 2e-7 both ways.
      assert(Math.abs(mean - expected) < 5.2 * error, `${mean} +- ${error}, expected ${expected}`);
    }
  }
});

Deno.test("recursive finds the one allowed token of probability 1e-6 within as many questions as tokens", () => {
  const vocab = 300;
  const p = Float64Array.from({ length: vocab }, (_, i) => i === 7 ? 1e-6 : (1 - 1e-6) / 299);
  for (let seed = 0; seed < 20; seed++) {
    const urn = gumbelUrn(p.map(Math.log), seedFrom(seed), 9);
    const { token, weight, asked } = finish(recursive(urn, Infinity), (t) => t === 7);
    assertEquals(token, 7);
    assert(asked.length <= vocab);
    // It is nearly always last; otherwise a refused token follows it. Both ways the weight is p.
    assertAlmostEquals(weight / 1e-6, 1, 1e-6);
  }
});

Deno.test("firstAllowed gives up after as many rejections as allowed", () => {
  const urn = gumbelUrn(new Float64Array(20).fill(Math.log(1 / 20)), seedFrom(1), 0);
  const { token, asked } = finish(firstAllowed(urn, 6), () => false);
  assertEquals([token, asked.length], [undefined, 6]);
});

Deno.test("gumbelUrn draws the sampler's token first, then without replacement in proportion (false alarms 1e-6)", () => {
  const p = [0.5, 0.25, 0.15, 0.06, 0.03, 0.01];
  const pairs = p.flatMap((_, i) => p.map((_, j) => [i, j] as const)).filter(([i, j]) => i !== j);
  const exact = pairs.map(([i, j]) => p[i]! * p[j]! / (1 - p[i]!));
  const counts = pairs.map(() => 0);
  for (let seed = 0; seed < 20_000; seed++) {
    const logs = Float64Array.from(p, Math.log);
    const expected = drawToken(logs, seedFrom(seed), 5);
    const urn = gumbelUrn(logs, seedFrom(seed), 5);
    const [first, second] = [urn.draw(), urn.draw()];
    assertEquals(first, expected);
    counts[pairs.findIndex(([i, j]) => i === first && j === second)]!++;
  }
  assertDistribution(counts, exact, 1e-6);
});

Deno.test("gumbelUrn gives every possible token once per filling, never a removed one", () => {
  const logs = () => Float64Array.from({ length: 40 }, (_, i) => i % 3 === 0 ? -Infinity : -i / 4);
  for (let seed = 0; seed < 20; seed++) {
    const urn = gumbelUrn(logs(), forkSeed(seedFrom(seed), 1), 2);
    const removed = new Set<number>();
    for (let filling = 0; filling < 3; filling++) {
      const drawn: number[] = [];
      for (let token = urn.draw(); token !== undefined; token = urn.draw()) {
        drawn.push(token);
        if (drawn.length % 4 !== 0) continue;
        urn.remove(token);
        removed.add(token);
      }
      assertEquals(new Set(drawn).size, drawn.length);
      assertEquals(drawn.length, 26 - removed.size + Math.floor(drawn.length / 4));
      urn.refill();
    }
  }
});

Deno.test("gumbelUrn keeps what is left exact down to the last token", () => {
  const logs = Float64Array.from({ length: 30 }, (_, i) => -2 * i + Math.log1p(-Math.exp(-2)));
  const urn = gumbelUrn(logs.slice(), seedFrom(1), 0);
  for (let token = 0; token < 29; token++) {
    urn.remove(token);
    let rest = 0;
    for (let i = token + 1; i < 30; i++) rest += Math.exp(logs[i]!);
    assertAlmostEquals(urn.left() / rest, 1, 1e-8);
  }
});

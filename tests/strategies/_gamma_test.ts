import { assert, assertAlmostEquals, assertEquals } from "@std/assert";
import {
  createSchedule,
  declaredCosts,
  expectedTokens,
  measuredCosts,
  speedup,
} from "../../strategies/_gamma.ts";

Deno.test("expectedTokens() is (1 - a^(g+1)) / (1 - a), and g + 1 at a = 1", () => {
  for (const a of [0, 0.3, 0.9]) {
    for (const g of [0, 1, 5]) {
      assertAlmostEquals(expectedTokens(a, g), (1 - a ** (g + 1)) / (1 - a), 1e-12);
    }
  }
  assertEquals(expectedTokens(1, 7), 8);
});

Deno.test("speedup() gives the published best lengths of a memory-bound device", () => {
  // v(m) = 1 + 0.02 (m - 1), c = 0.1: best S at g, for four acceptances.
  const expected = [[0.6, 1.6, 3], [0.7, 1.9, 4], [0.8, 2.3, 5], [0.9, 3.1, 9]] as const;
  for (const [a, gain, length] of expected) {
    const costs = declaredCosts(0.02, 0.1);
    const gains = Array.from({ length: 20 }, (_, g) => speedup(a, g, costs, 1));
    const best = Math.max(...gains);
    assertAlmostEquals(best, gain, 0.06);
    assertEquals(gains.indexOf(best), length);
  }
});

Deno.test("schedules: fixed, heuristic and ema", () => {
  const free = declaredCosts(0, 0);
  const fixed = createSchedule("fixed", 5, free);
  fixed.record(5, 0);
  assertEquals(fixed.next(1), 5);
  const heuristic = createSchedule("heuristic", 5, free);
  heuristic.record(5, 2);
  heuristic.record(4, 1);
  assertEquals(heuristic.next(1), 3);
  heuristic.record(3, 3);
  heuristic.record(5, 5);
  assertEquals(heuristic.next(1), 5); // gamma is the most
  for (let i = 0; i < 9; i++) heuristic.record(1, 0);
  assertEquals(heuristic.next(1), 1);
  const ema = createSchedule("ema", 8, declaredCosts(0.02, 0.1));
  assertEquals(ema.next(1), 4);
  ema.record(4, 1); // one kept, one not: the others say nothing
  assertAlmostEquals(ema.acceptance, (0.7 + 0.1 * 0.3) * 0.9, 1e-12);
  for (let i = 0; i < 40; i++) ema.record(1, 0);
  assertEquals(ema.next(1), 0);
  for (let i = 0; i < 40; i++) ema.record(4, 4);
  assertEquals(ema.next(1), 0); // once off, off
});

Deno.test("measuredCosts() wants a plain pass and a speculative one, then fits a line", () => {
  const costs = measuredCosts(4);
  assertEquals(costs.wanted!(), 0);
  costs.verified(1, 11);
  assertEquals(costs.wanted!(), 4);
  costs.verified(5, 15);
  costs.drafted(4, 8);
  assertEquals(costs.wanted!(), undefined);
  assertAlmostEquals(costs.verify(5, 1), 15 / 11, 1e-12);
  assertAlmostEquals(costs.verify(5, 4), 30 / 14, 1e-12); // four rows of five tokens
  assertAlmostEquals(costs.draft(), 2 / 11, 1e-12);
  const noisy = measuredCosts(4);
  noisy.verified(1, 10);
  noisy.verified(5, 6); // a longer pass cannot be cheaper
  assert(noisy.verify(5, 1) >= 1);
});

import { assert, assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import {
  bootstrap,
  markdown,
  mean,
  percent,
  ratio,
  shareOf,
  withInterval,
} from "../../../bench/strategies/_quality.ts";

Deno.test("bootstrap() repeats, holds the mean, and narrows with more values", () => {
  const values = Array.from({ length: 50 }, (_, i) => i % 2);
  const estimate = bootstrap(values, "a");
  assertEquals(estimate, bootstrap(values, "a"));
  assertEquals(estimate.mean, 0.5);
  // Normal approximation: 1.96 * 0.5 / sqrt(50).
  assertAlmostEquals(estimate.low, 0.5 - 0.139, 0.03);
  assertAlmostEquals(estimate.high, 0.5 + 0.139, 0.03);
  const more = bootstrap(Array.from({ length: 800 }, (_, i) => i % 2), "a");
  assert(more.high - more.low < (estimate.high - estimate.low) / 3);
  assertThrows(() => bootstrap([], "a"), RangeError);
  assertThrows(() => mean([]), RangeError);
});

Deno.test("ratio() is of sums, whatever the instances' sizes", () => {
  const { mean, low, high } = ratio([1, 30], [10, 30], "a");
  assertEquals(mean, 31 / 40);
  assertEquals([low, high], [0.1, 1]); // one instance twice
  assertEquals(ratio([0, 0], [0, 0], "a"), { mean: 0, low: 0, high: 0 });
});

Deno.test("shareOf() has Wilson's interval, also where every instance is right", () => {
  const { mean, low, high } = shareOf([1, 1, 1, 1]);
  assertEquals(mean, 1);
  assertAlmostEquals(low, 0.51, 0.01);
  assertAlmostEquals(high, 1, 1e-9);
});

Deno.test("estimates are written with their intervals", () => {
  const estimate = { mean: 0.123, low: 0.1, high: 0.2 };
  assertEquals(withInterval(estimate), "0.12 (0.10 to 0.20)");
  assertEquals(percent(estimate), "12.3 (10.0 to 20.0)");
});

Deno.test("markdown() aligns numbers to the right", () => {
  assertEquals(markdown([["a", "b"], ["1", "2"]]), "| a | b |\n| --- | --: |\n| 1 | 2 |\n");
});

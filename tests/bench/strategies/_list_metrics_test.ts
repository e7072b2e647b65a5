import { assert, assertAlmostEquals, assertEquals } from "@std/assert";
import { bleu, distinctN, pairwiseBleu } from "../../../bench/strategies/_list_metrics.ts";

Deno.test("distinctN() counts over the whole list", () => {
  assertEquals(distinctN([[1, 2, 1], [1, 2, 3]], 1), 3 / 6);
  assertEquals(distinctN([[1, 2, 1], [1, 2, 3]], 2), 3 / 4);
  assertEquals(distinctN([[1], [2]], 2), 1);
});

Deno.test("bleu() is 1 for equal answers and agrees with a count by hand", () => {
  assertAlmostEquals(bleu([1, 2, 3, 4, 5], [1, 2, 3, 4, 5]), 1);
  assertAlmostEquals(bleu([7], [7]), 1);
  // Orders 1 to 4: 3/4, (1 + 1)/(3 + 1), (0 + 1)/(2 + 1), (0 + 1)/(1 + 1); one token too short.
  const expected = Math.exp(1 - 5 / 4) * (3 / 4 * 2 / 4 * 1 / 3 * 1 / 2) ** (1 / 4);
  assertAlmostEquals(bleu([1, 2, 9, 4], [1, 2, 3, 4, 5]), expected);
  // A token counts no more often than the reference has it.
  assertAlmostEquals(bleu([1, 1], [1, 2]), Math.sqrt(1 / 2 * 1 / 2));
  assertEquals([bleu([1], [2]), bleu([], []), bleu([], [1]), bleu([1], [])], [0, 1, 0, 0]);
});

Deno.test("pairwiseBleu() is the mean over ordered pairs", () => {
  const [a, b, c] = [[1, 2, 3], [1, 2], [4, 5, 6]];
  const pairs = [bleu(a!, b!), bleu(b!, a!), 0, 0, 0, 0];
  assertAlmostEquals(pairwiseBleu([a!, b!, c!]), pairs.reduce((x, y) => x + y, 0) / 6);
  assert(pairs[0] !== pairs[1]);
  assertEquals([pairwiseBleu([a!]), pairwiseBleu([])], [0, 0]);
});

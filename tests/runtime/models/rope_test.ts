import { assertAlmostEquals, assertEquals } from "@std/assert";
import { ropeFrequencies } from "../../../runtime/models/rope.ts";

Deno.test("ropeFrequencies() falls from 1 by powers of theta", () => {
  const rope = { layout: "half", theta: 10_000, scaling: { kind: "none" } } as const;
  const frequencies = ropeFrequencies(8, rope);
  for (const [i, expected] of [1, 0.1, 0.01, 0.001].entries()) {
    assertAlmostEquals(frequencies[i]!, expected, 1e-15);
  }
  const linear = { ...rope, scaling: { kind: "linear", factor: 4 } } as const;
  assertEquals(ropeFrequencies(8, linear), frequencies.map((f) => f / 4));
});

Deno.test("ropeFrequencies() with llama3 scaling keeps fast, divides slow, and has no jumps", () => {
  const scaling = {
    kind: "llama3",
    factor: 8,
    lowFreqFactor: 1,
    highFreqFactor: 4,
    originalContext: 8192,
  } as const;
  const rope = { layout: "half", theta: 500_000, scaling } as const;
  const plain = ropeFrequencies(1024, { ...rope, scaling: { kind: "none" } });
  const divisors = ropeFrequencies(1024, rope).map((f, i) => plain[i]! / f);
  for (const [i, divisor] of divisors.entries()) {
    const turns = 8192 * plain[i]! / (2 * Math.PI);
    if (turns > 4) assertAlmostEquals(divisor, 1, 1e-12);
    else if (turns < 1) assertAlmostEquals(divisor, 8, 1e-12);
    else {
      // Between the ends the divisor's inverse is linear in the turns within the original context.
      assertAlmostEquals(1 / divisor, 1 / 8 + (1 - 1 / 8) * (turns - 1) / 3, 1e-12);
    }
  }
  assertEquals(divisors.some((d) => d > 1.5 && d < 7.5), true, "the ramp is tested");
});

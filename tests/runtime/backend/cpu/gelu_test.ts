import { assertAlmostEquals, assertEquals } from "@std/assert";
import { erf, gelu } from "../../../../runtime/backend/cpu/gelu.ts";

Deno.test("erf() is that of the tables, odd, and 1 far out", () => {
  // Abramowitz and Stegun, table 7.1.
  const table = [[0.02, 0.0225645747], [0.5, 0.5204998778], [1, 0.8427007929], [1.9, 0.9927904292]];
  for (const [x, value] of table) {
    assertAlmostEquals(erf(x!), value!, 1e-10);
    assertEquals(erf(-x!), -erf(x!));
  }
  assertEquals([erf(0), erf(7), erf(-40)], [0, 1, -1]);
});

Deno.test("gelu() is x * Phi(x)", () => {
  const out = new Float32Array(4);
  gelu(Float32Array.of(-1, 0, 1, 30), out);
  [-0.15865525, 0, 0.84134475, 30].forEach((value, i) => assertAlmostEquals(out[i]!, value, 1e-7));
});

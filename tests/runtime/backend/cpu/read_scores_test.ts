import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import { boundsOf, oracleScores, upperBound } from "../../../../runtime/backend/cpu/read_scores.ts";
import { chooseSlots } from "../../../../runtime/backend/cpu/row_slots.ts";

const number = fc.float({ min: -8, max: 8, noNaN: true });

Deno.test("upperBound() is no less than any score of the page", () => {
  const width = 4;
  const vectors = (least: number, most: number) =>
    fc.array(number, { minLength: least * width, maxLength: most * width });
  fc.assert(fc.property(vectors(1, 16), vectors(2, 2), (flat, queries) => {
    const count = Math.floor(flat.length / width);
    const keys = Float32Array.from(flat);
    const head = { keys, keyAt: (index: number) => index * width, headDim: width };
    const q = { data: Float32Array.from(queries), at: 0, heads: 2, width };
    const bound = upperBound(boundsOf(head, 0, count), q, width);
    const scores = oracleScores(head, q, Uint32Array.from({ length: count }, (_, i) => i));
    for (const score of scores) assert(score <= bound + 1e-6 * (1 + Math.abs(bound)));
  }));
});

Deno.test("chooseSlots() reads the budget: sinks, window and the best; ties go to the newer", () => {
  const rule = {
    score: "oracle",
    budget: 6,
    sinks: 1,
    window: 2,
    denseLayers: 0,
    densePrefill: true,
  } as const;
  const visible = Uint32Array.from({ length: 10 }, (_, i) => 2 * i);
  const scores = [0, 1, 9, 1, 7, 1, 1, 0, 0, 0];
  assertEquals([...chooseSlots(rule, visible, () => scores)], [0, 4, 8, 12, 16, 18]);
  assertEquals(chooseSlots({ ...rule, budget: 10 }, visible, () => []), visible);
});

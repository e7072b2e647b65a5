import { assert, assertAlmostEquals, assertEquals } from "@std/assert";
import { createRng, seedFrom } from "../../runtime/mod.ts";
import { createRanks, type Shape, shapeOf } from "../../strategies/_tree_shape.ts";

const anyWidth = 99;

function sizeOf(shape: Shape): number {
  return shape.reduce((sum, child) => sum + 1 + sizeOf(child), 0);
}

function depthOf(shape: Shape): number {
  return Math.max(0, ...shape.map((child) => 1 + depthOf(child)));
}

/** Tokens kept on average, beside the one that always follows. */
function valueOf(shape: Shape, rates: readonly number[]): number {
  return shape.reduce((sum, child, j) => sum + rates[j]! * (1 + valueOf(child, rates)), 0);
}

/** The best value of any tree: a first child with some of the nodes, then the rest as its siblings. */
function bestValue(nodes: number, depth: number, rates: readonly number[], rank = 0): number {
  const rate = rates[rank];
  if (nodes === 0 || depth === 0 || rate === undefined) return 0;
  let best = 0;
  for (let below = 0; below < nodes; below++) {
    const own = rate * (1 + bestValue(below, depth - 1, rates));
    best = Math.max(best, own + bestValue(nodes - 1 - below, depth, rates, rank + 1));
  }
  return best;
}

Deno.test("shapeOf() gives the tree that keeps most, of all trees of that size and depth", () => {
  const rng = createRng(seedFrom(4));
  for (let i = 0; i < 30; i++) {
    const rates = Array.from({ length: 4 }, () => rng.next() / 2).sort((a, b) => b - a);
    for (const nodes of [1, 2, 4, 7]) {
      for (const depth of [1, 2, 4]) {
        const shape = shapeOf({ nodes, depth, width: anyWidth }, rates);
        assert(depthOf(shape) <= depth);
        assert(sizeOf(shape) <= nodes);
        const best = bestValue(nodes, depth, rates);
        assertAlmostEquals(valueOf(shape, rates), best, 1e-12, `${nodes} ${depth} ${rates}`);
      }
    }
  }
});

Deno.test("shapeOf(): sure first children make a chain, unsure ones a bush; width bounds who has children", () => {
  const chain = shapeOf({ nodes: 3, depth: 3, width: 1 }, [0.9, 0.05]);
  assertEquals(chain, [[[[]]]]);
  const bush = shapeOf({ nodes: 3, depth: 3, width: 1 }, [0.3, 0.25, 0.2]);
  assertEquals(bush, [[], [], []]);
  const level = (shape: Shape): Shape => shape.flat();
  const wide = shapeOf({ nodes: 20, depth: 3, width: anyWidth }, [0.5, 0.45, 0.4]);
  const narrow = shapeOf({ nodes: 20, depth: 3, width: 2 }, [0.5, 0.45, 0.4]);
  const withChildren = (shape: Shape) => shape.filter((child) => child.length > 0).length;
  assert(withChildren(wide) > 2);
  assertEquals([withChildren(narrow), withChildren(level(narrow))], [2, 2]);
  assertEquals(shapeOf({ nodes: 9, depth: 1, width: 1 }, [0.5, 0.1]), [[], []]); // no more ranks
});

Deno.test("createRanks() learns which child is kept, and never lets a later rank pass an earlier one", () => {
  const ranks = createRanks();
  const [first = 0] = ranks.rates();
  for (let i = 0; i < 200; i++) ranks.record(2, i % 2 === 0 ? 1 : -1);
  const rates = ranks.rates();
  assert(rates[0]! < 0.1 * first, `${rates}`);
  assertEquals(rates[1], rates[0]); // half of the second were kept, hardly any of the first
  assertEquals(rates.length, 8);
  for (let i = 0; i < 2000; i++) ranks.record(12, 0); // more children than ranks are told apart
  assert(ranks.rates()[0]! > 0.8, `${ranks.rates()}`);
});

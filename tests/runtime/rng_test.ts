import { assert, assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import {
  createRng,
  forkSeed,
  philox,
  type Seed,
  seedFrom,
  tokenGumbel,
} from "../../runtime/rng.ts";
import { assertDistribution } from "../_statistics.ts";

const words = (
  [c0, c1, c2, c3]: readonly [number, number, number, number],
  [k0, k1]: readonly [number, number],
): string[] => {
  const out = new Uint32Array(4);
  philox(out, c0, c1, c2, c3, k0, k1);
  return Array.from(out, (word) => word.toString(16).padStart(8, "0"));
};

Deno.test("philox() gives the known answers of Random123", () => {
  const all = 0xffffffff;
  assertEquals(words([0, 0, 0, 0], [0, 0]), ["6627e8d5", "e169c58d", "bc57ac4c", "9b00dbd8"]);
  assertEquals(
    words([all, all, all, all], [all, all]),
    ["408f276d", "41c83b0e", "a20bc7c6", "6d5451fd"],
  );
  assertEquals(
    words([0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344], [0xa4093822, 0x299f31d0]),
    ["d16cfe09", "94fdcceb", "5001e420", "24126ea1"],
  );
});

Deno.test("seedFrom() keeps all 64 bits and refuses fractions", () => {
  assertEquals(seedFrom(1), { low: 1, high: 0 });
  assertEquals(seedFrom(2 ** 40 + 5), { low: 5, high: 256 });
  assertEquals(seedFrom(0x123456789abcdef0n), { low: 0x9abcdef0, high: 0x12345678 });
  assertEquals(seedFrom(-1), { low: 0xffffffff, high: 0xffffffff });
  assertThrows(() => seedFrom(0.5), RangeError);
  assertThrows(() => seedFrom(NaN), RangeError);
});

Deno.test("forkSeed() gives every branch of every seed another seed", () => {
  const seen = new Set<string>();
  const key = ({ low, high }: Seed) => `${low}:${high}`;
  for (let seed = 0; seed < 50; seed++) {
    for (const branch of [0, 1, 2, 63, 2 ** 32, 2 ** 33]) {
      seen.add(key(forkSeed(seedFrom(seed), branch)));
    }
  }
  assertEquals(seen.size, 300);
});

Deno.test("tokenGumbel() depends on seed, position and token alone", () => {
  const noise = (seed: number, position: number, block: number) => {
    const out = new Float64Array(4);
    tokenGumbel(out, seedFrom(seed), position, block);
    return [...out];
  };
  const first = noise(1, 2, 3);
  noise(9, 9, 9);
  assertEquals(noise(1, 2, 3), first);
  for (const other of [noise(2, 2, 3), noise(1, 3, 3), noise(1, 2, 4)]) {
    for (let i = 0; i < 4; i++) assert(other[i] !== first[i]);
  }
});

Deno.test("tokenGumbel() is Gumbel distributed", () => {
  // Equal cells of the distribution function e^(-e^-x); false-alarm rate 1e-6.
  const cells = 50;
  const counts = new Array<number>(cells).fill(0);
  const out = new Float64Array(4);
  let sum = 0;
  const draws = 100_000;
  for (let position = 0; position < draws / 4; position++) {
    tokenGumbel(out, seedFrom(11), position, position % 7);
    for (const x of out) {
      counts[Math.min(cells - 1, Math.floor(Math.exp(-Math.exp(-x)) * cells))]!++;
      sum += x;
    }
  }
  assertDistribution(counts, counts.map(() => 1 / cells), 1e-6);
  assertAlmostEquals(sum / draws, 0.5772156649, 5 * Math.PI / Math.sqrt(6 * draws)); // 5 sigma
});

Deno.test("createRng() is uniform and repeats", () => {
  const cells = 64;
  const counts = new Array<number>(cells).fill(0);
  const rng = createRng(seedFrom(3));
  const again = createRng(seedFrom(3));
  for (let i = 0; i < 50_000; i++) {
    const x = rng.next();
    assertEquals(again.next(), x);
    counts[Math.floor(x * cells)]!++;
  }
  assertDistribution(counts, counts.map(() => 1 / cells), 1e-6);
});

Deno.test("fork() gives a stream of its own and does not move its parent", () => {
  const plain = createRng(seedFrom(5));
  const forking = createRng(seedFrom(5));
  const expected = [plain.next(), plain.next(), plain.next()];
  const got = [forking.next()];
  const child = forking.fork(7);
  const childValues = [child.next(), child.next()];
  got.push(forking.next());
  forking.fork(8).next();
  got.push(forking.next());
  assertEquals(got, expected);
  const sameChild = createRng(seedFrom(5)).fork(7);
  assertEquals([sameChild.next(), sameChild.next()], childValues);
  assert(childValues[0] !== expected[0]);
});

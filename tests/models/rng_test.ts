import { assert, assertEquals, assertThrows } from "@std/assert";
import { hash32, taskRng } from "../../models/recipe/rng.ts";

Deno.test("taskRng: a seed gives the same numbers again, another seed gives others", () => {
  const numbers = (seed: number) => {
    const rng = taskRng(seed);
    return Array.from({ length: 50 }, () => rng.int(1_000_000));
  };
  assertEquals(numbers(7), numbers(7));
  assert(numbers(7).some((value, i) => value !== numbers(8)[i]));
});

Deno.test("taskRng.between: covers the range evenly and never leaves it", () => {
  const rng = taskRng("range");
  const counts = new Map<number, number>();
  for (let i = 0; i < 6000; i++) {
    const value = rng.between(3, 8);
    counts.set(value, (counts.get(value) ?? 0) + 1);
  }
  assertEquals([...counts.keys()].sort(), [3, 4, 5, 6, 7, 8]);
  for (const count of counts.values()) assert(Math.abs(count - 1000) < 150, `${count}`);
});

Deno.test("taskRng.sample: different items, the input stays as it was", () => {
  const items = [1, 2, 3, 4, 5];
  const drawn = taskRng(1).sample(items, 5);
  assertEquals([...drawn].sort(), items);
  assertEquals(items, [1, 2, 3, 4, 5]);
  assertThrows(() => taskRng(1).sample(items, 6), RangeError);
});

Deno.test("taskRng.pick: refuses an empty list", () => {
  assertThrows(() => taskRng(1).pick([]), RangeError);
});

Deno.test("hash32: spreads similar values over both splits", () => {
  const held = Array.from({ length: 10_000 }, (_, i) => `${i}`).filter((v) => hash32(v) % 10 === 0);
  assert(Math.abs(held.length - 1000) < 120, `${held.length}`);
});

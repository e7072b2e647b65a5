import { assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import { EngineError } from "../../../runtime/errors.ts";
import { createRng, seedFrom } from "../../../runtime/rng.ts";
import {
  argMax,
  entropy,
  logNormalizer,
  logSoftmax,
  rowStats,
  topK,
} from "../../../runtime/sampling.ts";
import { expNonPositive } from "../../../runtime/sampling/rows.ts";
import { softmax } from "./_reference.ts";

function randomRow(seed: number, vocab: number, spread = 10): Float32Array {
  const rng = createRng(seedFrom(seed));
  return Float32Array.from({ length: vocab }, () => (rng.next() - 0.5) * 2 * spread);
}

Deno.test("expNonPositive() is within 1e-14 of Math.exp", () => {
  const rng = createRng(seedFrom(1));
  for (let i = 0; i < 200_000; i++) {
    const d = -49 * rng.next();
    assertAlmostEquals(expNonPositive(d) / Math.exp(d), 1, 1e-14);
  }
  assertEquals(expNonPositive(0), 1);
  assertAlmostEquals(expNonPositive(-49) / Math.exp(-49), 1, 1e-14);
  assertEquals(expNonPositive(NaN), NaN);
});

Deno.test("logSoftmax(), entropy() and argMax() agree with the definitions", () => {
  for (let seed = 0; seed < 20; seed++) {
    const row = randomRow(seed, 1 + seed * 37, 60);
    const p = softmax([...row]);
    const logprobs = logSoftmax(row);
    p.forEach((value, i) => assertAlmostEquals(Math.exp(logprobs[i]!), value, 1e-6));
    const exact = -p.reduce((sum, x) => sum + (x > 0 ? x * Math.log(x) : 0), 0);
    assertAlmostEquals(entropy(row), exact, 1e-10);
    assertEquals(argMax(row), p.indexOf(Math.max(...p)));
    assertEquals(rowStats(row).best, argMax(row));
  }
});

Deno.test("logSoftmax() may write over its input", () => {
  const row = Float32Array.of(1, 2, 3);
  const expected = logSoftmax(row);
  assertEquals(logSoftmax(row, row), expected);
});

Deno.test("rows with one possible token have no entropy", () => {
  const row = Float32Array.of(-Infinity, 5, -Infinity);
  assertEquals(entropy(row), 0);
  assertEquals(logNormalizer(row), 5);
});

Deno.test("ties go to the lower token id", () => {
  const row = Float32Array.of(1, 3, 2, 3, 3);
  assertEquals(argMax(row), 1);
  assertEquals(topK(row, 4).candidates.map(({ token }) => token), [1, 3, 4, 2]);
});

Deno.test("rows without a distribution are engine errors", () => {
  const rows = [
    Float32Array.of(0, NaN, 1),
    Float32Array.of(NaN),
    Float32Array.of(0, Infinity),
    Float32Array.of(-Infinity, -Infinity),
    Float32Array.of(),
  ];
  for (const row of rows) {
    assertThrows(() => rowStats(row), EngineError);
    assertThrows(() => argMax(row), EngineError);
    assertThrows(() => entropy(row), EngineError);
    assertThrows(() => logSoftmax(row), EngineError);
    assertThrows(() => topK(row, 1), EngineError);
  }
});

Deno.test("topK() equals sorting, for any k", () => {
  for (let seed = 0; seed < 30; seed++) {
    // Few distinct values, so that there are ties.
    const row = randomRow(seed, 200, 4).map(Math.round);
    const p = softmax([...row]);
    const sorted = p.map((_, token) => token).sort((a, b) => row[b]! - row[a]! || a - b);
    for (const k of [0, 1, 2, 5, 77, 199, 200, 500]) {
      const { candidates, rest } = topK(row, k);
      assertEquals(candidates.map(({ token }) => token), sorted.slice(0, k));
      let covered = 0;
      for (const { token, logprob } of candidates) {
        assertAlmostEquals(logprob, Math.log(p[token]!), 1e-9);
        covered += p[token]!;
      }
      assertAlmostEquals(rest, 1 - covered, 1e-9);
    }
    assertEquals(topK(row, 200).rest, 0);
  }
});

import { assertAlmostEquals, assertThrows } from "@std/assert";
import { assertDistribution, chiSquareTail } from "./_statistics.ts";

Deno.test("chiSquareTail() gives the values of the tables", () => {
  // Abramowitz & Stegun, table 26.8; two degrees have the closed form e^(-x/2).
  assertAlmostEquals(chiSquareTail(3.841458820694124, 1), 0.05, 1e-9);
  assertAlmostEquals(chiSquareTail(23.20925115895436, 10), 0.01, 1e-9);
  assertAlmostEquals(chiSquareTail(149.449252779039, 100), 0.001, 1e-8);
  assertAlmostEquals(chiSquareTail(30, 2), Math.exp(-15), 1e-16);
  assertAlmostEquals(chiSquareTail(0.5, 2), Math.exp(-0.25), 1e-12);
});

Deno.test("assertDistribution() fails on counts that do not fit", () => {
  assertDistribution([505, 495], [0.5, 0.5], 1e-6);
  assertThrows(() => assertDistribution([700, 300], [0.5, 0.5], 1e-6));
  assertThrows(() => assertDistribution([999, 1], [1, 0], 1e-6));
});

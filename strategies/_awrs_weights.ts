/** Weights of particles: means, effective sample size, and who descends from whom. Pure. */
import type { Rng } from "../runtime/mod.ts";

/** ln of the mean of e^x over all entries; -Infinity if all are. */
export function logMean(logs: readonly number[]): number {
  if (logs.length === 1) return logs[0]!;
  const highest = Math.max(...logs);
  if (highest === -Infinity) return -Infinity;
  let sum = 0;
  for (const log of logs) sum += Math.exp(log - highest);
  return highest + Math.log(sum / logs.length);
}

/** Weights with sum 1, all 0 if every log is -Infinity. */
export function normalized(logs: readonly number[]): readonly number[] {
  const highest = Math.max(...logs);
  if (highest === -Infinity) return logs.map(() => 0);
  const weights = logs.map((log) => Math.exp(log - highest));
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  return weights.map((weight) => weight / total);
}

/** (sum W)^2 / sum W^2, in [1, N]; 0 if there is no weight. */
export function effectiveSize(logs: readonly number[]): number {
  if (logs.length === 1) return logs[0]! > -Infinity ? 1 : 0;
  const squares = normalized(logs).reduce((sum, weight) => sum + weight * weight, 0);
  return squares === 0 ? 0 : 1 / squares;
}

/** How ancestors are drawn. */
export type Resampling = "multinomial" | "systematic";

/**
 * How many offspring each particle has: N in all, each N times its weight in expectation.
 *
 * @param weights sum 1
 */
export function offspring(
  weights: readonly number[],
  resampling: Resampling,
  rng: Rng,
): readonly number[] {
  const count = weights.length;
  const offset = rng.next();
  const points = Array.from(
    weights,
    (_, i) => resampling === "systematic" ? (i + offset) / count : i === 0 ? offset : rng.next(),
  );
  const counts = weights.map(() => 0);
  for (const point of points) counts[indexAt(weights, point)]!++;
  return counts;
}

/** The entry in which the running sum passes `point`, in [0, 1). */
export function indexAt(weights: readonly number[], point: number): number {
  let left = point;
  let last = 0;
  for (const [i, weight] of weights.entries()) {
    if (weight === 0) continue;
    last = i;
    left -= weight;
    if (left < 0) return i;
  }
  return last; // rounding
}

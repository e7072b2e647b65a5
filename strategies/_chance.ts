/** Random decisions of verification rules, behind an interface so that tests can enumerate them. */
import type { Rng, TokenId } from "../runtime/mod.ts";

/** A source of independent decisions. */
export interface Chance {
  /** True with probability min(1, part / whole); with `whole` 0 true exactly when `part` is not 0. */
  coin(part: number, whole: number): boolean;
  /** A token with probability in proportion to its weight; weights >= 0, not all 0. */
  draw(weights: Float64Array): TokenId;
}

/** Decisions from uniform numbers: one number each. */
export function chanceFrom(rng: Rng): Chance {
  return {
    // Multiplied instead of divided: no 0 / 0, and strict, so that a part of 0 never passes.
    coin: (part, whole) => rng.next() * whole < part,
    draw(weights) {
      let total = 0;
      for (let i = 0; i < weights.length; i++) total += weights[i]!;
      let left = rng.next() * total;
      let last = 0;
      for (let i = 0; i < weights.length; i++) {
        const weight = weights[i]!;
        if (weight === 0) continue;
        last = i;
        left -= weight;
        if (left < 0) return i;
      }
      return last; // rounding
    },
  };
}

/** Natural logs of probabilities to probabilities, in place. */
export function exponentiate(logs: Float64Array): Float64Array {
  for (let i = 0; i < logs.length; i++) logs[i] = logs[i] === -Infinity ? 0 : Math.exp(logs[i]!);
  return logs;
}

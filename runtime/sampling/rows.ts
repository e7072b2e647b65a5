/** What can be read off one row of logits: its distribution at temperature 1. */
import { EngineError } from "../errors.ts";

/** Below this, e^d adds less than a double's rounding to a sum that is at least 1. */
const negligible = -49;
const steps = 32;
/** e^(-k / 32) for k = 0 to 1568; kernels that compute the same sums take it from here. */
export const expTable = Float64Array.from(
  { length: -negligible * steps + 1 },
  (_, k) => Math.exp(-k / steps),
);
const table = expTable;

/**
 * e^d for d in [-49, 0], relative error below 1e-14; NaN stays NaN.
 *
 * A table of e^(-k/32) and six terms of the series for the rest: half the time of `Math.exp`, which
 * the sampler's budget of 20 us per 2,048 tokens asks for (bench/strategies).
 */
export function expNonPositive(d: number): number {
  const k = (d * -steps) | 0;
  const r = d + k / steps;
  const square = r * r;
  return table[k]! *
    (1 + r + square * (1 / 2 + r / 6 + square * (1 / 24 + r / 120 + square / 720)));
}

/** Summary of one distribution. */
export interface RowStats {
  /** Most likely token; ties by lower id. */
  readonly best: number;
  /** ln of the sum of e^logit. */
  readonly logNormalizer: number;
  /** In nats. */
  readonly entropy: number;
}

/**
 * Arg max, normaliser and entropy in two passes.
 *
 * @param logits shape [vocab], natural-log scale; -Infinity means impossible
 * @throws {EngineError} if an entry is NaN or +Infinity, or all are -Infinity
 */
export function rowStats(logits: Float32Array): RowStats {
  let best = 0;
  let max = -Infinity;
  for (let i = 0; i < logits.length; i++) {
    const x = logits[i]!;
    if (x > max) {
      max = x;
      best = i;
    }
  }
  let sum = 0;
  let weighted = 0;
  for (let i = 0; i < logits.length; i++) {
    const d = logits[i]! - max;
    if (d < negligible) continue; // NaN does not compare, so it reaches the sums
    const e = expNonPositive(d);
    sum += e;
    weighted += e * d;
  }
  if (!(sum >= 1)) throw new EngineError("The model computed logits that are not numbers");
  const logSum = Math.log(sum);
  return { best, logNormalizer: max + logSum, entropy: Math.max(0, logSum - weighted / sum) };
}

/**
 * Most likely token; ties by lower id.
 *
 * @throws {EngineError} as {@link rowStats}
 */
export function argMax(logits: Float32Array): number {
  let best = 0;
  let max = -Infinity;
  let sum = 0; // stays finite exactly when no entry is NaN or +Infinity
  for (let i = 0; i < logits.length; i++) {
    const x = logits[i]!;
    if (x > max) {
      max = x;
      best = i;
    }
    sum += x === -Infinity ? 0 : x;
  }
  if (max === -Infinity || !Number.isFinite(sum)) {
    throw new EngineError("The model computed logits that are not numbers");
  }
  return best;
}

/** ln of the sum of e^logit: a token's log-probability is its logit minus this. @throws {EngineError} */
export function logNormalizer(logits: Float32Array): number {
  return rowStats(logits).logNormalizer;
}

/** Entropy in nats. @throws {EngineError} as {@link rowStats} */
export function entropy(logits: Float32Array): number {
  return rowStats(logits).entropy;
}

/**
 * Log-probabilities of a row.
 *
 * @param out where they go; may be `logits` itself. @default a new array
 * @throws {EngineError} as {@link rowStats}
 */
export function logSoftmax(
  logits: Float32Array,
  out: Float32Array = new Float32Array(logits.length),
): Float32Array {
  const normalizer = logNormalizer(logits);
  for (let i = 0; i < logits.length; i++) out[i] = logits[i]! - normalizer;
  return out;
}

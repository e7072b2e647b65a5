/** Combined laws of several models over one vocabulary. */
import { logNormalizer, warpedLogprobs } from "../runtime/mod.ts";
import { exponentiate } from "./_chance.ts";

/** What a draw depends on besides the logits. */
export type DrawShape = Parameters<typeof warpedLogprobs>[1];

/** How laws become one. */
export interface Combination {
  /**
   * Probabilities of the next token, shape [vocab].
   *
   * @param rows logits of each model, in order
   */
  law(rows: readonly Float32Array[], shape: DrawShape): Float64Array;
  /** The combination at temperature 1 with nothing else applied, as logits. */
  raw(rows: readonly Float32Array[]): Float32Array;
}

/** Probabilities one model would draw with. */
export function ownLaw(row: Float32Array, shape: DrawShape): Float64Array {
  return exponentiate(warpedLogprobs(row, shape));
}

/**
 * Weighted mean of probabilities, each model's temperature, filters and penalties applied first. At
 * temperature 0, where each law would be one token, the most likely token of the mixture at 1.
 *
 * @param weights one per model, >= 0, sum 1
 */
export function weightedMean(weights: readonly number[]): Combination {
  const mix = (rows: readonly Float32Array[], shape: DrawShape) => {
    const sum = new Float64Array(rows[0]!.length);
    for (const [i, row] of rows.entries()) {
      if (weights[i] === 0) continue;
      const law = ownLaw(row, shape);
      for (let v = 0; v < sum.length; v++) sum[v]! += weights[i]! * (law[v] ?? 0);
    }
    return sum;
  };
  return {
    law(rows, shape) {
      if (shape.sampling.temperature > 0) return mix(rows, shape);
      const sampling = {
        ...shape.sampling,
        temperature: 1,
        topK: 0,
        topP: 1,
        minP: 0,
        typicalP: 1,
      };
      return oneHot(mix(rows, { ...shape, sampling }));
    },
    raw(rows) {
      const normalizers = rows.map(logNormalizer);
      return Float32Array.from(rows[0]!, (_, v) => {
        let sum = 0;
        for (let i = 0; i < rows.length; i++) {
          if (weights[i]! > 0) sum += weights[i]! * Math.exp(rows[i]![v]! - normalizers[i]!);
        }
        return Math.log(sum);
      });
    },
  };
}

/** Weighted sum of logits: a geometric mean of the laws. Impossible to one model = impossible. */
export function weightedProduct(weights: readonly number[]): Combination {
  return onLogits((rows) =>
    Float32Array.from(rows[0]!, (_, v) => {
      let sum = 0;
      for (let i = 0; i < rows.length; i++) if (weights[i]! > 0) sum += weights[i]! * rows[i]![v]!;
      return sum;
    })
  );
}

/**
 * Logits of the first model less `strength` times those of each other one. What is impossible to one
 * of those counts as its least likely possible token.
 *
 * Source: Li et al. 2022, "Contrastive decoding", https://arxiv.org/abs/2210.15097, section 3; in the
 * form of https://arxiv.org/abs/2502.01662: raw logits, then temperature and filters.
 *
 * @param plausibility keep tokens with at least this share of the first model's best allowed
 *   probability; 0 = all
 */
export function contrast(strength: number, plausibility: number): Combination {
  const raw = (rows: readonly Float32Array[]) => {
    const out = rows[0]!.slice();
    if (strength === 0) return out;
    for (const amateur of rows.slice(1)) {
      const least = leastPossible(amateur);
      for (let v = 0; v < out.length; v++) out[v]! -= strength * Math.max(amateur[v]!, least);
    }
    return out;
  };
  const plausible = onLogits((rows, { mask }) => {
    const out = raw(rows);
    if (plausibility === 0) return out;
    const expert = rows[0]!;
    const allowed = (v: number) => !mask || (mask[v >> 5]! >>> (v & 31) & 1) === 1;
    let best = -Infinity;
    for (let v = 0; v < expert.length; v++) if (allowed(v)) best = Math.max(best, expert[v]!);
    const floor = best + Math.log(plausibility);
    for (let v = 0; v < out.length; v++) if (expert[v]! < floor) out[v] = -Infinity;
    return out;
  });
  return { law: plausible.law, raw };
}

/** A law from combined logits, which then are shaped as one model's would be. */
export function onLogits(
  combine: (rows: readonly Float32Array[], shape: Pick<DrawShape, "mask">) => Float32Array,
): Combination {
  return {
    law: (rows, shape) => ownLaw(combine(rows, shape), shape),
    raw: (rows) => combine(rows, {}),
  };
}

function leastPossible(row: Float32Array): number {
  let least = Infinity;
  for (const logit of row) if (logit > -Infinity && logit < least) least = logit;
  return least;
}

/** All mass on the largest entry; ties by lower id. */
function oneHot(law: Float64Array): Float64Array {
  let best = 0;
  for (let v = 1; v < law.length; v++) if (law[v]! > law[best]!) best = v;
  const out = new Float64Array(law.length);
  out[best] = 1;
  return out;
}

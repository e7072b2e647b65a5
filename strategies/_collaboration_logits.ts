/**
 * Laws made of two or three models' logits: contrastive decoding in the form that interpolates, and
 * proxy tuning. Rows are in this order: large, small, tuned small.
 *
 * What is impossible to a model whose logits are subtracted counts as its least likely possible token.
 *
 * Sources: contrast, O'Brien and Lewis 2023, "Contrastive decoding improves reasoning in large language
 * models", https://arxiv.org/abs/2309.09117, with beta = 1 + their beta; proxy tuning, Liu et al. 2024,
 * https://arxiv.org/abs/2401.08565.
 */
import { type Combination, onLogits } from "./_combine.ts";

/**
 * z = small + beta (large - small), among tokens with at least the share `plausibility` of the large
 * model's best allowed probability: beta < 1 interpolates, 1 is the large model with that cut, > 1
 * contrasts.
 */
export function contrastRule(beta: number, plausibility: number): Combination {
  return onLogits(([large, small], { mask }) => {
    const least = beta > 1 ? leastPossible(small!) : -Infinity;
    const floor = bestAllowed(large!, mask) + Math.log(plausibility);
    return large!.map((logit, v) => {
      if (logit < floor || logit === -Infinity) return -Infinity;
      // A weight of 0 is left out: 0 times -Infinity is no number.
      const own = beta === 0 ? 0 : beta * logit;
      return own + (beta === 1 ? 0 : (1 - beta) * Math.max(small![v]!, least));
    });
  });
}

/** z = large + strength (tuned small - small): what tuning did to the small model, done to the large. */
export function proxyRule(strength: number): Combination {
  return onLogits(([large, small, tuned]) => {
    if (strength === 0) return large!.slice();
    const least = leastPossible(small!);
    return large!.map((logit, v) => logit + strength * (tuned![v]! - Math.max(small![v]!, least)));
  });
}

function leastPossible(row: Float32Array): number {
  let least = Infinity;
  for (const logit of row) if (logit > -Infinity && logit < least) least = logit;
  return least;
}

function bestAllowed(row: Float32Array, mask: Uint32Array | undefined): number {
  let best = -Infinity;
  for (let v = 0; v < row.length; v++) {
    const isAllowed = !mask || (mask[v >> 5]! >>> (v & 31) & 1) === 1;
    if (isAllowed && row[v]! > best) best = row[v]!;
  }
  return best;
}

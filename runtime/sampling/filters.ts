/**
 * Filters that drop unlikely tokens before a draw. Each one looks at what the filters before it
 * kept, renormalised, as in Hugging Face transformers and vLLM; all keep tokens tied at the cut, so
 * that sort order cannot matter.
 */
import { expNonPositive } from "./rows.ts";
import { largest } from "./top_k.ts";

/** Tokens still in the draw. Arrays are longer than `size`; ids ascend. */
export interface Survivors {
  readonly ids: Uint32Array;
  /** Scores relative to the best token's, at most 0, natural-log scale. */
  readonly scores: Float64Array;
  /** e^score. */
  readonly weights: Float64Array;
  size: number;
}

/** Two scratch rows as long as the survivors' arrays. */
export interface Workspace {
  readonly keys: Float64Array;
  readonly masses: Float64Array;
}

/** Weights of tokens this far below the best one are taken as 0: beyond a double's rounding. */
const negligible = -49;

/** e^score of a score of at most 0. */
export function weightOf(score: number): number {
  return score < negligible ? Math.exp(score) : expNonPositive(score);
}

/** Drops every survivor whose score is below `threshold`. */
function keepAbove(survivors: Survivors, threshold: number): void {
  const { ids, scores, weights } = survivors;
  let kept = 0;
  for (let i = 0; i < survivors.size; i++) {
    if (scores[i]! < threshold) continue;
    ids[kept] = ids[i]!;
    scores[kept] = scores[i]!;
    weights[kept] = weights[i]!;
    kept++;
  }
  survivors.size = kept;
}

function totalWeight({ weights, size }: Survivors): number {
  let sum = 0;
  for (let i = 0; i < size; i++) sum += weights[i]!;
  return sum;
}

/** Up to here a heap of k is faster than quickselect over the vocabulary. */
const smallK = 256;

/** Keeps the k most likely tokens and those tied with the last of them. */
export function keepTopK(survivors: Survivors, k: number, work: Workspace): void {
  const { scores, size } = survivors;
  if (k <= 0 || k >= size) return;
  if (k <= smallK) {
    const top = largest(scores.subarray(0, size), k);
    keepAbove(survivors, scores[top[k - 1]!]!);
    return;
  }
  work.keys.set(scores.subarray(0, size));
  work.masses.fill(1, 0, size);
  keepAbove(survivors, massThreshold(work, size, k));
}

/**
 * Keeps the smallest set of most likely tokens whose probabilities add up to `p`.
 *
 * Source: Holtzman et al. 2019, https://arxiv.org/abs/1904.09751, section 3.1.
 */
export function keepTopP(survivors: Survivors, p: number, work: Workspace): void {
  if (p >= 1) return;
  const { size } = survivors;
  work.keys.set(survivors.scores.subarray(0, size));
  work.masses.set(survivors.weights.subarray(0, size));
  keepAbove(survivors, massThreshold(work, size, p * totalWeight(survivors)));
}

/**
 * Keeps tokens with at least `minP` of the best one's probability.
 *
 * Source: Nguyen et al. 2024, https://arxiv.org/abs/2407.01082, section 3.
 */
export function keepMinP(survivors: Survivors, minP: number): void {
  if (minP > 0) keepAbove(survivors, Math.log(minP));
}

/**
 * Keeps the tokens whose surprise is closest to the entropy, until their probabilities add up to
 * `mass`. May drop the most likely token.
 *
 * Source: Meister et al. 2022, https://arxiv.org/abs/2202.00666, section 3.
 */
export function keepTypical(survivors: Survivors, mass: number, work: Workspace): void {
  if (mass >= 1) return;
  const { scores, weights, size } = survivors;
  const sum = totalWeight(survivors);
  let expected = 0; // mean score: -entropy up to the normaliser, which cancels in the difference
  for (let i = 0; i < size; i++) {
    if (weights[i]! > 0) expected += weights[i]! * scores[i]!;
  }
  expected /= sum;
  for (let i = 0; i < size; i++) work.keys[i] = -Math.abs(scores[i]! - expected);
  work.masses.set(weights.subarray(0, size));
  const threshold = massThreshold(work, size, mass * sum);
  let kept = 0;
  for (let i = 0; i < size; i++) {
    if (-Math.abs(scores[i]! - expected) < threshold) continue;
    survivors.ids[kept] = survivors.ids[i]!;
    scores[kept] = scores[i]!;
    weights[kept] = weights[i]!;
    kept++;
  }
  survivors.size = kept;
}

/**
 * Largest key t such that the masses of keys >= t add up to `target`, or the smallest key if all of
 * them do not. Quickselect by mass: linear on average; reorders the workspace.
 */
function massThreshold({ keys, masses }: Workspace, size: number, target: number): number {
  let low = 0;
  let high = size;
  let above = 0;
  while (high - low > 1) {
    const pivot = median(keys[low]!, keys[(low + high) >> 1]!, keys[high - 1]!);
    // Three parts: greater in [low, equal), equal in [equal, less), less in [less, high).
    let equal = low, at = low, less = high;
    let greaterMass = 0, equalMass = 0;
    while (at < less) {
      const key = keys[at]!, mass = masses[at]!;
      if (key > pivot) {
        greaterMass += mass;
        keys[at] = keys[equal]!;
        masses[at] = masses[equal]!;
        keys[equal] = key;
        masses[equal] = mass;
        equal++;
        at++;
      } else if (key === pivot) {
        equalMass += mass;
        at++;
      } else {
        less--;
        keys[at] = keys[less]!;
        masses[at] = masses[less]!;
        keys[less] = key;
        masses[less] = mass;
      }
    }
    if (equal > low && above + greaterMass >= target) {
      high = equal;
    } else if (above + greaterMass + equalMass >= target || less === high) {
      return pivot;
    } else {
      above += greaterMass + equalMass;
      low = less;
    }
  }
  return keys[low]!;
}

function median(a: number, b: number, c: number): number {
  return Math.max(Math.min(a, b), Math.min(Math.max(a, b), c));
}

/**
 * Attention of one query head of one token; the order of additions is stated in attention.ts.
 *
 * Four slots are handled at a time, because their chains of additions overlap in the processor
 * (bench/kernels). No chain changes its order by that.
 */

/** One kv head of one layer. */
export interface Head {
  /** [kvHeads, slots, headDim] */
  readonly keys: Float32Array;
  readonly values: Float32Array;
  /** Index of the head's first slot. */
  readonly first: number;
  /** Slots to attend to, in sequence order. */
  readonly visible: Uint32Array;
  readonly headDim: number;
  readonly scale: number;
}

let scores = new Float64Array(1024);
let sums = new Float64Array(128);

/**
 * Writes out[at .. at + headDim] from q[at .. at + headDim].
 *
 * @returns the softmax weights, one per visible slot; overwritten by the next call
 */
export function attendOne(
  out: Float32Array,
  q: Float32Array,
  at: number,
  head: Head,
): Float64Array {
  const count = head.visible.length;
  if (scores.length < count) scores = new Float64Array(2 * count);
  if (sums.length < head.headDim) sums = new Float64Array(head.headDim);
  dots(scores, q, at, head);
  softmax(scores, count);
  weightedSum(out, at, scores, head);
  return scores;
}

function dots(scores: Float64Array, q: Float32Array, at: number, head: Head): void {
  const { keys, first, visible, headDim, scale } = head;
  const count = visible.length, whole = count - count % 4;
  for (let s = 0; s < whole; s += 4) {
    const k0 = (first + visible[s]!) * headDim, k1 = (first + visible[s + 1]!) * headDim;
    const k2 = (first + visible[s + 2]!) * headDim, k3 = (first + visible[s + 3]!) * headDim;
    let a0 = 0, a1 = 0, a2 = 0, a3 = 0;
    for (let d = 0; d < headDim; d++) {
      const u = q[at + d]!;
      a0 += u * keys[k0 + d]!;
      a1 += u * keys[k1 + d]!;
      a2 += u * keys[k2 + d]!;
      a3 += u * keys[k3 + d]!;
    }
    scores[s] = a0 * scale;
    scores[s + 1] = a1 * scale;
    scores[s + 2] = a2 * scale;
    scores[s + 3] = a3 * scale;
  }
  for (let s = whole; s < count; s++) {
    const k = (first + visible[s]!) * headDim;
    let a = 0;
    for (let d = 0; d < headDim; d++) a += q[at + d]! * keys[k + d]!;
    scores[s] = a * scale;
  }
}

/** Scores become weights that add up to 1. */
function softmax(scores: Float64Array, count: number): void {
  let best = -Infinity;
  for (let s = 0; s < count; s++) if (scores[s]! > best) best = scores[s]!;
  let total = 0;
  for (let s = 0; s < count; s++) {
    const e = Math.exp(scores[s]! - best);
    scores[s] = e;
    total += e;
  }
  for (let s = 0; s < count; s++) scores[s]! /= total;
}

function weightedSum(out: Float32Array, at: number, weights: Float64Array, head: Head): void {
  const { values, first, visible, headDim } = head;
  const count = visible.length, whole = count - count % 4;
  for (let d = 0; d < headDim; d++) sums[d] = 0;
  for (let s = 0; s < whole; s += 4) {
    const v0 = (first + visible[s]!) * headDim, v1 = (first + visible[s + 1]!) * headDim;
    const v2 = (first + visible[s + 2]!) * headDim, v3 = (first + visible[s + 3]!) * headDim;
    const w0 = weights[s]!, w1 = weights[s + 1]!, w2 = weights[s + 2]!, w3 = weights[s + 3]!;
    for (let d = 0; d < headDim; d++) {
      let sum = sums[d]!;
      sum += w0 * values[v0 + d]!;
      sum += w1 * values[v1 + d]!;
      sum += w2 * values[v2 + d]!;
      sum += w3 * values[v3 + d]!;
      sums[d] = sum;
    }
  }
  for (let s = whole; s < count; s++) {
    const v = (first + visible[s]!) * headDim;
    for (let d = 0; d < headDim; d++) sums[d]! += weights[s]! * values[v + d]!;
  }
  for (let d = 0; d < headDim; d++) out[at + d] = sums[d]!;
}

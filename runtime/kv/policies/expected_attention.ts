/** expected-attention: what queries yet to come will attend to on average. */
import type { KvModel } from "../policy.ts";
import { promptParams, scored } from "./_scored.ts";

/** First tokens whose queries are unlike all others. */
const SKIPPED = 4;
/** Future positions that are averaged over. */
const FUTURE = 512;

/**
 * Source: Devoto et al. 2025 (Expected Attention), https://arxiv.org/abs/2510.00636, with its code's constants:
 * queries before rotation are taken as Gaussian with the mean and covariance of the prompt's; rotated
 * by the average rotation of the next 512 positions, the expected weight of key k is
 * softmax(mu . k / sqrt(D) + k' C k / (2D)), averaged over the query heads of a KV head, times |v|.
 */
export const expectedAttention = scored({
  name: "expected-attention",
  source: "https://arxiv.org/abs/2510.00636",
  summary: "Prompt tokens that later queries are expected to attend to; once, at the prompt's end",
  granularity: "kv-head",
  signals: ["query", "key", "value"],
  promptOnly: true,
  params: promptParams,
  score({ group, count, model, view }) {
    const { headDim } = model.layout, perGroup = model.heads / model.layout.kvHeads;
    const keys = group.signal("key"), values = group.signal("value");
    const queries = group.signal("query");
    const scores = new Float64Array(count);
    for (let h = 0; h < perGroup; h++) {
      const own = queriesOf(queries, group.positions, count, h, perGroup, model);
      const weights = expectedWeights(own, keys, count, view.committed, model);
      for (let s = 0; s < count; s++) scores[s]! += weights[s]! / perGroup;
    }
    return scores.map((score, s) => {
      let square = 0;
      for (let d = 0; d < headDim; d++) square += values[s * headDim + d]! ** 2;
      return score * Math.sqrt(square);
    });
  },
});

/** Turns a vector of `headDim` numbers by an angle per pair, given as cosines and sines. */
function turn(
  x: Float64Array,
  cos: ArrayLike<number>,
  sin: ArrayLike<number>,
  layout: "half" | "pairs",
): Float64Array {
  const half = x.length / 2, y = new Float64Array(x.length);
  for (let i = 0; i < half; i++) {
    const a = layout === "half" ? i : 2 * i, b = layout === "half" ? i + half : 2 * i + 1;
    y[a] = x[a]! * cos[i]! - x[b]! * sin[i]!;
    y[b] = x[b]! * cos[i]! + x[a]! * sin[i]!;
  }
  return y;
}

/** Queries of one head before rotation, without those of the first tokens. */
function queriesOf(
  queries: Float32Array,
  positions: Uint32Array,
  count: number,
  head: number,
  perGroup: number,
  { layout: { headDim }, rope }: KvModel,
): Float64Array[] {
  const own: Float64Array[] = [];
  for (let slot = Math.min(SKIPPED, count - 1); slot < count; slot++) {
    const at = (slot * perGroup + head) * headDim;
    const q = Float64Array.from(queries.subarray(at, at + headDim));
    const angles = rope?.frequencies.map((f) => -f * positions[slot]!) ?? [];
    own.push(
      rope === undefined ? q : turn(q, angles.map(Math.cos), angles.map(Math.sin), rope.layout),
    );
  }
  return own;
}

/** Softmax over keys of the expected exponent. */
function expectedWeights(
  queries: readonly Float64Array[],
  keys: Float32Array,
  count: number,
  committed: number,
  { layout: { headDim }, rope }: KvModel,
): Float64Array {
  const { mean, covariance } = moments(queries, headDim);
  const average = (f: (angle: number) => number) =>
    (rope?.frequencies ?? []).map((frequency) => {
      let sum = 0;
      for (let i = 0; i < FUTURE; i++) sum += f(frequency * (committed + i));
      return sum / FUTURE;
    });
  const cos = average(Math.cos), sin = average(Math.sin);
  const rotate = (x: Float64Array) => rope === undefined ? x : turn(x, cos, sin, rope.layout);
  const mu = rotate(mean);
  // R C R': rows, then columns.
  const rows = transpose(covariance.map(rotate));
  const turned = rows.map(rotate);
  const exponents = new Float64Array(count);
  for (let s = 0; s < count; s++) {
    const k = keys.subarray(s * headDim, (s + 1) * headDim);
    let linear = 0, square = 0;
    for (let d = 0; d < headDim; d++) {
      linear += mu[d]! * k[d]!;
      const row = turned[d]!;
      let sum = 0;
      for (let e = 0; e < headDim; e++) sum += row[e]! * k[e]!;
      square += sum * k[d]!;
    }
    exponents[s] = linear / Math.sqrt(headDim) + square / (2 * headDim);
  }
  const most = exponents.reduce((a, b) => Math.max(a, b), -Infinity);
  const weights = exponents.map((exponent) => Math.exp(exponent - most));
  const total = weights.reduce((a, b) => a + b, 0);
  return weights.map((weight) => weight / total);
}

function moments(queries: readonly Float64Array[], width: number) {
  const mean = new Float64Array(width);
  for (const q of queries) for (let d = 0; d < width; d++) mean[d]! += q[d]! / queries.length;
  const covariance = Array.from({ length: width }, () => new Float64Array(width));
  for (const q of queries) {
    for (let a = 0; a < width; a++) {
      const difference = (q[a]! - mean[a]!) / queries.length;
      for (let b = 0; b < width; b++) covariance[a]![b]! += difference * (q[b]! - mean[b]!);
    }
  }
  return { mean, covariance };
}

function transpose(matrix: readonly Float64Array[]): Float64Array[] {
  return matrix.map((_, column) => Float64Array.from(matrix, (row) => row[column]!));
}

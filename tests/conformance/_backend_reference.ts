/** Straightforward double-precision versions of the ops, and random data for them. */
import type { Rope } from "../../runtime/backend/backend.ts";
import { createRng, type Rng, seedFrom } from "../../runtime/rng.ts";

/** A value that should have been computed, and the size of what was added up for it. */
export interface Expected {
  readonly value: number;
  /** Sum of the absolute values of the terms; rounding errors are in proportion to it. */
  readonly magnitude: number;
}

/** Row-major matrix. */
export interface Matrix {
  readonly rows: number;
  readonly cols: number;
  readonly data: Float32Array;
}

/** Seeded random source of one test. */
export function randomOf(seed: number): Rng {
  return createRng(seedFrom(seed));
}

/** Uniform in [-1, 1), rounded to f32. */
export function randomMatrix(rng: Rng, rows: number, cols: number): Matrix {
  return { rows, cols, data: Float32Array.from({ length: rows * cols }, () => 2 * rng.next() - 1) };
}

/** 0 .. n - 1 in random order. */
export function permutation(rng: Rng, n: number): Uint32Array {
  const order = Uint32Array.from({ length: n }, (_, i) => i);
  for (let i = n - 1; i > 0; i--) {
    const j = Math.floor(rng.next() * (i + 1));
    [order[i], order[j]] = [order[j]!, order[i]!];
  }
  return order;
}

export function exactly(value: number): Expected {
  return { value, magnitude: Math.abs(value) };
}

function at({ data, cols }: Matrix, r: number, c: number): number {
  return data[r * cols + c]!;
}

export function linear(x: Matrix, w: Matrix, bias?: Float32Array): Expected[] {
  const out: Expected[] = [];
  for (let r = 0; r < x.rows; r++) {
    for (let n = 0; n < w.rows; n++) {
      let value = bias?.[n] ?? 0, magnitude = Math.abs(value);
      for (let k = 0; k < x.cols; k++) {
        const term = at(x, r, k) * at(w, n, k);
        value += term;
        magnitude += Math.abs(term);
      }
      out.push({ value, magnitude });
    }
  }
  return out;
}

export function rmsNorm(x: Float32Array, weight: Float32Array, eps: number): Expected[] {
  const cols = weight.length;
  return Array.from(x, (value, i) => {
    const start = i - i % cols;
    let square = 0;
    for (let c = 0; c < cols; c++) square += x[start + c]! ** 2;
    return exactly(value / Math.sqrt(square / cols + eps) * weight[i % cols]!);
  });
}

export function swiglu(gate: Float32Array, up: Float32Array): Expected[] {
  return Array.from(gate, (g, i) => exactly(g / (1 + Math.exp(-g)) * up[i]!));
}

export function rope(x: Matrix, positions: Uint32Array, spec: Rope): Expected[] {
  const { headDim, layout, frequencies } = spec;
  const half = headDim / 2;
  return Array.from(x.data, (value, i) => {
    const t = Math.floor(i / x.cols), d = i % headDim;
    const pair = layout === "half" ? d % half : d >> 1;
    const isFirst = layout === "half" ? d < half : d % 2 === 0;
    const gap = layout === "half" ? half : 1;
    const angle = positions[t]! * frequencies[pair]!;
    const other = x.data[isFirst ? i + gap : i - gap]!;
    const turned = isFirst
      ? value * Math.cos(angle) - other * Math.sin(angle)
      : value * Math.cos(angle) + other * Math.sin(angle);
    return { value: turned, magnitude: Math.abs(value) + Math.abs(other) };
  });
}

/** Softmax weights of one query over keys, all [headDim]. */
export function attentionWeights(
  q: Float32Array,
  keys: readonly Float32Array[],
  scale: number,
): number[] {
  const scores = keys.map((key) => key.reduce((sum, k, d) => sum + k * q[d]!, 0) * scale);
  const best = Math.max(...scores);
  const exps = scores.map((score) => Math.exp(score - best));
  const total = exps.reduce((a, b) => a + b, 0);
  return exps.map((e) => e / total);
}

/** Attention output of one query, [headDim]. */
export function attend(
  q: Float32Array,
  keys: readonly Float32Array[],
  values: readonly Float32Array[],
  scale: number,
): Expected[] {
  const weights = attentionWeights(q, keys, scale);
  return Array.from(q, (_, d) => {
    let value = 0, magnitude = 0;
    for (const [s, weight] of weights.entries()) {
      value += weight * values[s]![d]!;
      magnitude += Math.abs(weight * values[s]![d]!);
    }
    return { value, magnitude };
  });
}

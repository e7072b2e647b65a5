/**
 * rope: rotates pairs of every head by an angle proportional to the token's position.
 *
 *   angle = position * frequencies[i]
 *   (a, b) -> (a cos - b sin, b cos + a sin)
 *
 * Source: Su et al. 2021, https://arxiv.org/abs/2104.09864, eq. 34.
 * Differs: angles and their sine and cosine are computed in double precision and rounded to f32
 * once; most implementations multiply in f32, which is less exact at high positions.
 */
import type { Rope } from "../backend.ts";
import { ropeShape } from "./shapes.ts";
import type { Alloc, CpuTensor } from "./tensor.ts";

/**
 * @param x [tokens, heads * headDim]
 * @param positions one per token
 */
export function rope(alloc: Alloc, x: CpuTensor, positions: Uint32Array, spec: Rope): CpuTensor {
  const { tokens, width, half } = ropeShape(x, positions, spec);
  const { headDim } = spec;
  const y = alloc("rope", x.shape);
  const from = x.data, to = y.data;
  // Where the two members of pair i are: i and i + half, or 2i and 2i + 1.
  const step = spec.layout === "half" ? 1 : 2;
  const gap = spec.layout === "half" ? half : 1;
  for (let t = 0; t < tokens; t++) {
    const turn = rotation(spec.frequencies, positions[t]!);
    for (let head = t * width; head < (t + 1) * width; head += headDim) {
      for (let i = 0; i < half; i++) {
        const at = head + i * step;
        const a = from[at]!, b = from[at + gap]!;
        const cos = turn[i]!, sin = turn[half + i]!;
        to[at] = a * cos - b * sin;
        to[at + gap] = b * cos + a * sin;
      }
    }
  }
  return y;
}

/** Per model (its frequencies): position -> cosines, then sines. Grows with the positions used. */
const rotations = new WeakMap<Float64Array, Map<number, Float32Array>>();

/** Cosines, then sines, of a position's angles, rounded from double precision. */
export function rotation(frequencies: Float64Array, position: number): Float32Array {
  let byPosition = rotations.get(frequencies);
  if (byPosition === undefined) rotations.set(frequencies, byPosition = new Map());
  let turn = byPosition.get(position);
  if (turn === undefined) {
    const half = frequencies.length;
    turn = new Float32Array(2 * half);
    for (let i = 0; i < half; i++) {
      turn[i] = Math.cos(position * frequencies[i]!);
      turn[half + i] = Math.sin(position * frequencies[i]!);
    }
    byPosition.set(position, turn);
  }
  return turn;
}

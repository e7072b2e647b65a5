/**
 * linear: y[r, n] = sum over k of x[r, k] * weight[n, k], plus bias[n].
 *
 * Order: each output is one chain of double-precision additions from k = 0 up, then bias, then one
 * rounding to f32. It depends on nothing but its own row of x and of weight.
 *
 * A concession to speed (bench/kernels): four outputs are computed at a time, for up to two rows,
 * because separate chains of additions overlap in the processor. No chain changes its order by that.
 * Double accumulators are also faster here than f32 ones (5 against 2.3 GFLOP/s), for which V8
 * converts back and forth.
 */
import { linearShape } from "./shapes.ts";
import type { Alloc, CpuTensor } from "./tensor.ts";

/**
 * @param x [rows, K]
 * @param weight [N, K]
 * @param bias [N]
 * @returns [rows, N]
 */
export function linear(
  alloc: Alloc,
  x: CpuTensor,
  weight: CpuTensor,
  bias: CpuTensor | undefined,
): CpuTensor {
  const { rows, depth, outputs } = linearShape(x, weight, bias);
  const y = alloc("linear", [rows, outputs]);
  const add = bias?.data ?? zeros(outputs);
  const whole = outputs - outputs % 4;
  for (let n = 0; n < whole; n += 4) {
    let r = 0;
    for (; r + 2 <= rows; r += 2) tile2x4(y.data, x.data, weight.data, add, r, n, depth, outputs);
    if (r < rows) tile1x4(y.data, x.data, weight.data, add, r, n, depth, outputs);
  }
  for (let n = whole; n < outputs; n++) {
    for (let r = 0; r < rows; r++) {
      let sum = 0;
      for (let k = 0; k < depth; k++) sum += x.data[r * depth + k]! * weight.data[n * depth + k]!;
      y.data[r * outputs + n] = sum + add[n]!;
    }
  }
  return y;
}

let zero = new Float32Array(0);
function zeros(size: number): Float32Array {
  if (zero.length < size) zero = new Float32Array(size);
  return zero;
}

/** Outputs n to n + 3 of row r; two steps of k at a time. */
function tile1x4(
  y: Float32Array,
  x: Float32Array,
  w: Float32Array,
  bias: Float32Array,
  r: number,
  n: number,
  depth: number,
  outputs: number,
): void {
  const x0 = r * depth;
  const w0 = n * depth, w1 = w0 + depth, w2 = w1 + depth, w3 = w2 + depth;
  let a0 = 0, a1 = 0, a2 = 0, a3 = 0;
  const even = depth - depth % 2;
  for (let k = 0; k < even; k += 2) {
    const u = x[x0 + k]!, v = x[x0 + k + 1]!;
    a0 = a0 + u * w[w0 + k]! + v * w[w0 + k + 1]!;
    a1 = a1 + u * w[w1 + k]! + v * w[w1 + k + 1]!;
    a2 = a2 + u * w[w2 + k]! + v * w[w2 + k + 1]!;
    a3 = a3 + u * w[w3 + k]! + v * w[w3 + k + 1]!;
  }
  if (even < depth) {
    const u = x[x0 + even]!;
    a0 += u * w[w0 + even]!;
    a1 += u * w[w1 + even]!;
    a2 += u * w[w2 + even]!;
    a3 += u * w[w3 + even]!;
  }
  const at = r * outputs + n;
  y[at] = a0 + bias[n]!;
  y[at + 1] = a1 + bias[n + 1]!;
  y[at + 2] = a2 + bias[n + 2]!;
  y[at + 3] = a3 + bias[n + 3]!;
}

/** Outputs n to n + 3 of rows r and r + 1; two steps of k at a time. */
function tile2x4(
  y: Float32Array,
  x: Float32Array,
  w: Float32Array,
  bias: Float32Array,
  r: number,
  n: number,
  depth: number,
  outputs: number,
): void {
  const x0 = r * depth, x1 = x0 + depth;
  const w0 = n * depth, w1 = w0 + depth, w2 = w1 + depth, w3 = w2 + depth;
  let a0 = 0, a1 = 0, a2 = 0, a3 = 0;
  let b0 = 0, b1 = 0, b2 = 0, b3 = 0;
  const even = depth - depth % 2;
  for (let k = 0; k < even; k += 2) {
    const u = x[x0 + k]!, v = x[x1 + k]!;
    const p0 = w[w0 + k]!, p1 = w[w1 + k]!, p2 = w[w2 + k]!, p3 = w[w3 + k]!;
    a0 += u * p0;
    b0 += v * p0;
    a1 += u * p1;
    b1 += v * p1;
    a2 += u * p2;
    b2 += v * p2;
    a3 += u * p3;
    b3 += v * p3;
    const s = x[x0 + k + 1]!, t = x[x1 + k + 1]!;
    const q0 = w[w0 + k + 1]!, q1 = w[w1 + k + 1]!, q2 = w[w2 + k + 1]!, q3 = w[w3 + k + 1]!;
    a0 += s * q0;
    b0 += t * q0;
    a1 += s * q1;
    b1 += t * q1;
    a2 += s * q2;
    b2 += t * q2;
    a3 += s * q3;
    b3 += t * q3;
  }
  if (even < depth) {
    const u = x[x0 + even]!, v = x[x1 + even]!;
    const p0 = w[w0 + even]!, p1 = w[w1 + even]!, p2 = w[w2 + even]!, p3 = w[w3 + even]!;
    a0 += u * p0;
    b0 += v * p0;
    a1 += u * p1;
    b1 += v * p1;
    a2 += u * p2;
    b2 += v * p2;
    a3 += u * p3;
    b3 += v * p3;
  }
  const at = r * outputs + n, below = at + outputs;
  y[at] = a0 + bias[n]!;
  y[at + 1] = a1 + bias[n + 1]!;
  y[at + 2] = a2 + bias[n + 2]!;
  y[at + 3] = a3 + bias[n + 3]!;
  y[below] = b0 + bias[n]!;
  y[below + 1] = b1 + bias[n + 1]!;
  y[below + 2] = b2 + bias[n + 2]!;
  y[below + 3] = b3 + bias[n + 3]!;
}

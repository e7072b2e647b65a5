/**
 * linear: y[r, n] = sum over k of x[r, k] * weight[n, k], plus bias[n].
 *
 * Order: each output is one chain of double-precision additions from k = 0 up, then bias, then one
 * rounding to f32. It depends on nothing but its own row of x and of weight.
 *
 * The one concession to speed in this backend (bench/kernels): four outputs are computed at a time,
 * for up to two rows, because separate chains of additions overlap in the processor. No chain
 * changes its order by that. Double accumulators are faster here than f32 ones, for which V8
 * converts back and forth.
 */
import { ShapeError } from "../../errors.ts";
import { type Alloc, type CpuTensor, matrix } from "./tensor.ts";

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
  const [rows, depth] = matrix("linear", x);
  const [outputs, inputs] = matrix("linear", weight);
  if (depth !== inputs) {
    throw new ShapeError("linear", `x has ${depth} columns, weight ${weight.label} ${inputs}`);
  }
  if (bias !== undefined && (bias.shape.length !== 1 || bias.shape[0] !== outputs)) {
    throw new ShapeError("linear", `bias is [${bias.shape.join(", ")}], should be [${outputs}]`);
  }
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

/** Outputs n to n + 3 of row r. */
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
  for (let k = 0; k < depth; k++) {
    const u = x[x0 + k]!;
    a0 += u * w[w0 + k]!;
    a1 += u * w[w1 + k]!;
    a2 += u * w[w2 + k]!;
    a3 += u * w[w3 + k]!;
  }
  const at = r * outputs + n;
  y[at] = a0 + bias[n]!;
  y[at + 1] = a1 + bias[n + 1]!;
  y[at + 2] = a2 + bias[n + 2]!;
  y[at + 3] = a3 + bias[n + 3]!;
}

/** Outputs n to n + 3 of rows r and r + 1. */
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
  for (let k = 0; k < depth; k++) {
    const u = x[x0 + k]!, v = x[x1 + k]!;
    const p = w[w0 + k]!, q = w[w1 + k]!, s = w[w2 + k]!, t = w[w3 + k]!;
    a0 += u * p;
    b0 += v * p;
    a1 += u * q;
    b1 += v * q;
    a2 += u * s;
    b2 += v * s;
    a3 += u * t;
    b3 += v * t;
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

/**
 * rms_norm: scales each row to unit root-mean-square, then multiplies by weight.
 *
 *   y[r, c] = x[r, c] / sqrt(mean(x[r, :]^2) + eps) * weight[c]
 *
 * Source: Zhang & Sennrich 2019, https://arxiv.org/abs/1910.07467, eq. 4; eps inside the root as in
 * Llama.
 * Order: squares are added in double precision from column 0 up; one rounding to f32 at the end.
 */
import { ShapeError } from "../../errors.ts";
import { type Alloc, type CpuTensor, matrix } from "./tensor.ts";

/**
 * @param x [rows, n * cols]; each run of `cols` columns is normalised by itself (per-head norms)
 * @param weight [cols]
 */
export function rmsNorm(alloc: Alloc, x: CpuTensor, weight: CpuTensor, eps: number): CpuTensor {
  const [, width] = matrix("rms_norm", x);
  const cols = weight.shape[0] ?? 0;
  if (weight.shape.length !== 1 || cols === 0 || width % cols !== 0) {
    throw new ShapeError(
      "rms_norm",
      `rows of ${width} columns do not divide into a weight of [${weight.shape.join(", ")}]`,
    );
  }
  const y = alloc("rms_norm", x.shape);
  const from = x.data, to = y.data, gain = weight.data;
  for (let base = 0; base < from.length; base += cols) {
    let sum = 0;
    for (let c = 0; c < cols; c++) {
      const value = from[base + c]!;
      sum += value * value;
    }
    const scale = 1 / Math.sqrt(sum / cols + eps);
    for (let c = 0; c < cols; c++) to[base + c] = from[base + c]! * scale * gain[c]!;
  }
  return y;
}

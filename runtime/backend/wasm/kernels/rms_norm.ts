import { f32, f32x4, f64, f64x2, i32, i8x16, v128 } from "../emit/expr.ts";
import { kernel } from "../emit/func.ts";
import { plus } from "./_exp.ts";

/** Lanes 2 and 3 moved to places 0 and 1. */
const high = [8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7];

/*
 * rms_norm: scales each row to unit root-mean-square, then multiplies by weight.
 *
 *   y[r, c] = x[r, c] / sqrt(mean(x[r, :]^2) + eps) * weight[c]
 *
 * Source   Zhang & Sennrich 2019, https://arxiv.org/abs/1910.07467, eq. 4; eps inside the root as in
 *          Llama
 * Shapes   x, y [rows, cols]; weight [cols]
 * Types    f32; squares are added as f64, the scale is rounded to f32 once
 * Order    columns 4i and 4i + 2 into one sum, 4i + 1 and 4i + 3 into another, from column 0 up;
 *          both sums; then the last cols % 4 columns
 * Limits   cols >= 1. y may be x.
 */
export const rmsNorm = kernel(
  "rms_norm",
  { x: "i32", weight: "i32", y: "i32", rows: "i32", cols: "i32", eps: "f64" },
  (f, { x, weight, y, rows, cols, eps }) => {
    const r = f.local("i32"), at = f.local("i32");
    const bytes = f.local("i32", i32.shl(cols, i32.const(2)));
    const whole = f.local("i32", i32.and(bytes, i32.const(-16)));
    const sums = f.local("v128"), v = f.local("v128"), scales = f.local("v128");
    const sum = f.local("f64"), value = f.local("f64"), scale = f.local("f32");
    f.loop(r, rows, 1, () => {
      f.set(sums, v128.zero);
      f.set(at, i32.const(0));
      f.loop(at, whole, 16, () => {
        for (const bytes of [undefined, high]) {
          const part = v128.load(plus(x, at));
          f.set(v, f64x2.promoteLowF32x4(bytes ? i8x16.shuffle(part, part, bytes) : part));
          f.set(sums, f64x2.add(sums, f64x2.mul(v, v)));
        }
      });
      f.set(sum, f64.add(f64x2.extractLane(sums, 0), f64x2.extractLane(sums, 1)));
      f.loop(at, bytes, 4, () => {
        f.set(value, f64.promoteF32(f32.load(plus(x, at))));
        f.set(sum, f64.add(sum, f64.mul(value, value)));
      });
      const mean = f64.div(sum, f64.convertI32U(cols));
      const root = f64.sqrt(f64.add(mean, eps));
      f.set(scale, f32.demoteF64(f64.div(f64.const(1), root)));
      f.set(scales, f32x4.splat(scale));
      f.set(at, i32.const(0));
      f.loop(at, whole, 16, () => {
        const scaled = f32x4.mul(v128.load(plus(x, at)), scales);
        f.store(plus(y, at), f32x4.mul(scaled, v128.load(plus(weight, at))));
      });
      f.loop(at, bytes, 4, () => {
        const scaled = f32.mul(f32.load(plus(x, at)), scale);
        f.store(plus(y, at), f32.mul(scaled, f32.load(plus(weight, at))));
      });
      f.advance(x, bytes);
      f.advance(y, bytes);
    });
  },
);

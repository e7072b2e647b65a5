import { f32x4, i32, v128 } from "../emit/expr.ts";
import { kernel } from "../emit/func.ts";
import { plus } from "./_exp.ts";

/*
 * linear: y[r, n] = sum over k of x[r, k] * weight[n, k], plus bias[n].
 *
 * Source   register tiles of 4 outputs by 1 or 4 rows
 * Shapes   x [rows, depth]; weight interleaved [groups, depth, 4]; bias, y as many columns as
 *          `outputs`; bias is padded to a multiple of 4
 * Types    f32, products rounded before they are added (no fused or relaxed instruction)
 * Order    columns in fours: ((p0 + p1) + (p2 + p3)) added to the sum, from column 0 up; then the
 *          last depth % 4 columns one by one; then the bias. The same for every row, whatever
 *          `rows` is.
 * Limits   bias = 0 means none
 */
export const linear = kernel(
  "linear",
  {
    x: "i32",
    weight: "i32",
    bias: "i32",
    y: "i32",
    rows: "i32",
    depth: "i32",
    outputs: "i32",
  },
  (f, { x, weight, bias, y, rows, depth, outputs }) => {
    const n = f.local("i32"), r = f.local("i32"), w = f.local("i32"), end = f.local("i32");
    const rowBytes = f.local("i32", i32.shl(depth, i32.const(2)));
    const yBytes = f.local("i32", i32.shl(outputs, i32.const(2)));
    const groupBytes = f.local("i32", i32.shl(depth, i32.const(4)));
    const wholeBytes = f.local("i32", i32.and(groupBytes, i32.const(-64)));
    const fours = f.local("i32", i32.and(rows, i32.const(-4)));
    const xs = [0, 1, 2, 3].map(() => f.local("i32"));
    const sums = [0, 1, 2, 3].map(() => f.local("v128"));
    const ws = [0, 1, 2, 3].map(() => f.local("v128"));
    const add = f.local("v128"), out = f.local("i32");

    const tile = (height: number): void => {
      f.set(w, weight);
      f.set(xs[0]!, plus(x, i32.mul(r, rowBytes)));
      for (let i = 0; i < height; i++) {
        if (i > 0) f.set(xs[i]!, plus(xs[i - 1]!, rowBytes));
        f.set(sums[i]!, v128.zero);
      }
      f.set(end, plus(weight, wholeBytes));
      f.loop(w, end, 64, () => {
        for (let k = 0; k < 4; k++) f.set(ws[k]!, v128.load(w, 16 * k));
        for (let i = 0; i < height; i++) {
          const p = (k: number) => f32x4.mul(v128.load32Splat(xs[i]!, 4 * k), ws[k]!);
          const four = f32x4.add(f32x4.add(p(0), p(1)), f32x4.add(p(2), p(3)));
          f.set(sums[i]!, f32x4.add(sums[i]!, four));
          f.advance(xs[i]!, 16);
        }
      });
      f.set(end, plus(weight, groupBytes));
      f.loop(w, end, 16, () => {
        for (let i = 0; i < height; i++) {
          const p = f32x4.mul(v128.load32Splat(xs[i]!), v128.load(w));
          f.set(sums[i]!, f32x4.add(sums[i]!, p));
          f.advance(xs[i]!, 4);
        }
      });
      f.set(out, plus(plus(y, i32.mul(r, yBytes)), i32.shl(n, i32.const(2))));
      for (let i = 0; i < height; i++) {
        f.set(sums[i]!, f32x4.add(sums[i]!, add));
        const left = i32.sub(outputs, n);
        f.if(
          i32.geU(left, i32.const(4)),
          () => f.store(out, sums[i]!),
          () => {
            for (let lane = 0; lane < 3; lane++) {
              f.if(i32.gtU(left, i32.const(lane)), () => {
                f.storeLane(out, sums[i]!, lane, 4 * lane);
              });
            }
          },
        );
        f.advance(out, yBytes);
      }
    };

    f.loop(n, outputs, 4, () => {
      f.if(
        bias,
        () => f.set(add, v128.load(plus(bias, i32.shl(n, i32.const(2))))),
      );
      f.set(r, i32.const(0));
      f.loop(r, fours, 4, () => tile(4));
      f.loop(r, rows, 1, () => tile(1));
      f.advance(weight, groupBytes);
    });
  },
);

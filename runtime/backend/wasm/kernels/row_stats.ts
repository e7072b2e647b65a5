import { type Expr, f32, f32x4, f64, f64x2, i32, v128 } from "../emit/expr.ts";
import { type Func, kernel, type Local } from "../emit/func.ts";
import { largestLane, plus } from "./_exp.ts";
import { highHalf, series } from "./_series.ts";

/** Where the results are in `out`. */
export const STATS = { bytes: 24, best: 0, max: 4, sum: 8, weighted: 16 } as const;

/*
 * row_stats: what can be read off a row of logits: its largest, and two sums over its distribution.
 *
 *   max = max x;  sum = sum over i of e^(x[i] - max);  weighted = sum of e^(x[i] - max) (x[i] - max)
 *
 * Source   runtime/sampling/rows.ts, whose results it gives to the bit: the same table and series for
 *          e^d, terms added in the same order
 * Shapes   x [count]; table [1569] f64, entry k is e^(-k / 32); out: best as i32, max f32, sum f64,
 *          weighted f64
 * Types    f64 from the difference on
 * Order    from index 0 up, one sum each
 * Limits   count >= 4. Rows that are no distribution (NaN, +Infinity, all -Infinity) give a sum that
 *          is not at least 1, or NaN.
 */
export const rowStats = kernel(
  "row_stats",
  { x: "i32", count: "i32", table: "i32", out: "i32" },
  (f, { x, count, table, out }) => {
    const end = f.local("i32", plus(x, i32.shl(count, i32.const(2))));
    const whole = f.local("i32", plus(x, i32.shl(i32.and(count, i32.const(-4)), i32.const(2))));
    const at = f.local("i32", x);
    const most = f.local("v128", f32x4.const(-Infinity)), max = f.local("f32");
    f.loop(at, whole, 16, () => f.set(most, f32x4.pmax(most, v128.load(at))));
    f.set(max, largestLane(most));
    f.loop(at, end, 4, () => {
      f.if(f32.gt(f32.load(at), max), () => f.set(max, f32.load(at)));
    });
    f.store(out, max, STATS.max);
    const sum = f.local("f64"), weighted = f.local("f64");
    const terms = series(f, max, table);
    const add = (e: Expr<"v128">, d: Expr<"v128">, lane: number) => {
      const one = f.local("f64", f64x2.extractLane(e, lane));
      f.set(sum, f64.add(sum, one));
      f.set(weighted, f64.add(weighted, f64.mul(one, f64x2.extractLane(d, lane))));
    };
    const e = f.local("v128"), four = f.local("v128");
    f.set(at, x);
    f.loop(at, whole, 16, () => {
      f.set(four, v128.load(at));
      for (const pair of [four, highHalf(four)]) {
        const d = terms(e, pair);
        add(e, d, 0);
        add(e, d, 1);
      }
    });
    f.loop(at, end, 4, () => add(e, terms(e, v128.load32Splat(at)), 0));
    f.store(out, sum, STATS.sum);
    f.store(out, weighted, STATS.weighted);
    storeBest(f, x, [whole, end], max, out);
  },
);

/** Stores the first index of the largest value, or 0 if none is equal to it, and ends. */
function storeBest(
  f: Func,
  x: Local<"i32">,
  [whole, end]: readonly [Local<"i32">, Local<"i32">],
  max: Local<"f32">,
  out: Local<"i32">,
): void {
  const at = f.local("i32", x), most = f.local("v128", f32x4.splat(max));
  f.store(out, i32.const(0), STATS.best);
  const check = (offset: number) => {
    f.if(f32.eq(f32.load(at, offset), max), () => {
      f.store(out, i32.shrU(i32.sub(plus(at, offset), x), i32.const(2)), STATS.best);
      f.return();
    });
  };
  f.loop(at, whole, 16, () => {
    f.if(v128.anyTrue(f32x4.eq(v128.load(at), most)), () => {
      for (let lane = 0; lane < 4; lane++) check(4 * lane);
    });
  });
  f.loop(at, end, 4, () => check(0));
}

/**
 * Kernels that select among the tokens of a row of logits: what top-k, top-p and min-p keep, and the
 * best few. The sampler's filters all keep the tokens from some logit up, so that a selection is a
 * search for that logit and then one pass that writes down what is not below it.
 */
import { type Expr, f32, f32x4, i32, i32x4, v128 } from "../emit/expr.ts";
import { kernel } from "../emit/func.ts";
import { largestLane, plus } from "./_exp.ts";

/** Values that are looked at together. */
const TOGETHER = 16;

/*
 * group_max: the largest value of each group of neighbours; the k-th largest of them is a bound that
 * at least k values reach.
 *
 *   out[g] = max of x[g * group .. min((g + 1) * group, count) - 1]
 *
 * Source   ours
 * Shapes   x [count]; out [ceil(count / group)]
 * Types    f32, exact
 * Order    none: nothing is added up
 * Limits   group in multiples of 16; no NaN
 */
export const groupMax = kernel(
  "group_max",
  { x: "i32", count: "i32", group: "i32", out: "i32" },
  (f, { x, count, group, out }) => {
    const bytes = f.local("i32", i32.shl(group, i32.const(2)));
    const end = f.local("i32", plus(x, i32.shl(count, i32.const(2))));
    const whole = f.local("i32"), stop = f.local("i32"), at = f.local("i32");
    const most = f.local("v128"), max = f.local("f32");
    f.loop(x, end, bytes, () => {
      f.set(stop, i32.sub(end, x));
      f.if(i32.gtU(stop, bytes), () => f.set(stop, bytes));
      f.set(whole, plus(x, i32.and(stop, i32.const(-4 * TOGETHER))));
      f.set(stop, plus(x, stop));
      f.set(at, x);
      f.set(most, f32x4.const(-Infinity));
      f.loop(at, whole, 4 * TOGETHER, () => {
        const four = (i: number) => v128.load(at, 16 * i);
        const larger = f32x4.pmax(f32x4.pmax(four(0), four(1)), f32x4.pmax(four(2), four(3)));
        f.set(most, f32x4.pmax(most, larger));
      });
      f.set(max, largestLane(most));
      f.loop(at, stop, 4, () => f.set(max, f32.max(max, f32.load(at))));
      f.store(out, max);
      f.advance(out, 4);
    });
  },
);

/*
 * collect: the values from `lowest` up, in their order, and where they are.
 *
 * Source   ours
 * Shapes   x [count]; ids i32 [count], values f32 [count], filled up to their number; out: it, i32
 * Types    f32, exact
 * Order    by index
 * Limits   no NaN
 */
export const collect = kernel(
  "collect",
  { x: "i32", count: "i32", lowest: "f32", ids: "i32", values: "i32", out: "i32" },
  (f, { x, count, lowest, ids, values, out }) => {
    const whole = f.local("i32", i32.and(count, i32.const(-TOGETHER)));
    const bound = f.local("v128", f32x4.splat(lowest));
    const at = f.local("i32"), from = f.local("i32"), kept = f.local("i32"), bits = f.local("i32");
    const four = Array.from({ length: TOGETHER / 4 }, () => f.local("v128"));
    const above = four.map(() => f.local("v128"));
    f.loop(at, whole, TOGETHER, () => {
      f.set(from, plus(x, i32.shl(at, i32.const(2))));
      for (const [i, values] of four.entries()) {
        f.set(values, v128.load(from, 16 * i));
        f.set(above[i]!, f32x4.ge(values, bound));
      }
      f.if(v128.anyTrue(above.reduce<Expr<"v128">>((a, b) => v128.or(a, b), v128.zero)), () => {
        for (const [i, mask] of above.entries()) {
          f.set(bits, i32x4.bitmask(mask));
          f.if(bits, () => {
            // Every lane is written to the next free place, which it takes only if it is kept.
            for (let lane = 0; lane < 4; lane++) {
              f.storeLane(plus(values, kept), four[i]!, lane);
              f.store(plus(ids, kept), plus(at, 4 * i + lane));
              const bit = i32.and(i32.shrU(bits, i32.const(lane)), i32.const(1));
              f.advance(kept, i32.shl(bit, i32.const(2)));
            }
          });
        }
      });
    });
    f.set(from, plus(x, i32.shl(at, i32.const(2))));
    f.loop(at, count, 1, () => {
      f.if(f32.ge(f32.load(from), lowest), () => {
        f.store(plus(values, kept), f32.load(from));
        f.store(plus(ids, kept), at);
        f.advance(kept, 4);
      });
      f.advance(from, 4);
    });
    f.store(out, i32.shrU(kept, i32.const(2)));
  },
);

/*
 * mask_row: a row with -Infinity where its mask has no bit.
 *
 * Source   runtime/sampling/adjust.ts
 * Shapes   x [count], y [count]; mask [ceil(count / 32)] words, one bit per value, lowest first
 * Types    f32, exact
 * Order    none
 * Limits   x and y do not overlap
 */
export const maskRow = kernel(
  "mask_row",
  { x: "i32", count: "i32", mask: "i32", y: "i32" },
  (f, { x, count, mask, y }) => {
    const whole = f.local("i32", i32.and(count, i32.const(-4)));
    const at = f.local("i32"), bits = f.local("i32"), from = f.local("i32");
    const none = f.local("v128", f32x4.const(-Infinity));
    const lanes = f.local("v128", v128.bytes([1, 2, 4, 8].flatMap((bit) => [bit, 0, 0, 0])));
    /** The mask's bits from `at` on. */
    const next = () => {
      const word = i32.load(plus(mask, i32.shl(i32.shrU(at, i32.const(5)), i32.const(2))));
      f.set(bits, i32.shrU(word, i32.and(at, i32.const(31))));
      f.set(from, i32.shl(at, i32.const(2)));
    };
    f.loop(at, whole, 4, () => {
      next();
      const kept = i32x4.eq(v128.and(i32x4.splat(bits), lanes), lanes);
      f.store(plus(y, from), v128.bitselect(v128.load(plus(x, from)), none, kept));
    });
    f.loop(at, count, 1, () => {
      next();
      f.if(
        i32.and(bits, i32.const(1)),
        () => f.store(plus(y, from), f32.load(plus(x, from))),
        () => f.store(plus(y, from), f32.const(-Infinity)),
      );
    });
  },
);

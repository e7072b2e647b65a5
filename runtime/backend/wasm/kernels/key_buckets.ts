/**
 * Kernels over the weights e^((x - max) / T) of a row: their sum, and how many values or how much
 * weight lie in stretches of logits. They find the logit from which on a share of the whole lies.
 */
import { type Expr, f32, f32x4, f64, f64x2, i32, i32x4, v128 } from "../emit/expr.ts";
import { type Func, kernel, type Local } from "../emit/func.ts";
import { plus } from "./_exp.ts";
import { highHalf, series } from "./_series.ts";

/*
 * weight_sum: the sum of e^((x[i] - max) inverse) over values from `lowest` up.
 *
 * Source   runtime/sampling/rows.ts for e^d
 * Shapes   x [count]; table as in row_stats; out f64
 * Types    f64 from the difference on
 * Order    even and odd indices of whole groups of four apart, then the rest
 * Limits   terms below e^-49 are left out
 */
export const weightSum = kernel(
  "weight_sum",
  {
    x: "i32",
    count: "i32",
    max: "f32",
    inverse: "f64",
    lowest: "f32",
    table: "i32",
    out: "i32",
  },
  (f, { x, count, max, inverse, lowest, table, out }) => {
    const end = f.local("i32", plus(x, i32.shl(count, i32.const(2))));
    const whole = f.local("i32", plus(x, i32.shl(i32.and(count, i32.const(-4)), i32.const(2))));
    const terms = series(f, max, table, inverse);
    const bound = f.local("v128", f32x4.splat(lowest));
    const e = f.local("v128"), four = f.local("v128"), kept = f.local("v128");
    const sum = f.local("v128"), total = f.local("f64");
    f.loop(x, whole, 16, () => {
      f.set(four, v128.load(x));
      f.set(kept, f32x4.ge(four, bound));
      f.if(v128.anyTrue(kept), () => {
        // What is left out becomes so low that its term is 0.
        f.set(four, v128.bitselect(four, f32x4.const(-Infinity), kept));
        for (const pair of [four, highHalf(four)]) {
          terms(e, pair);
          f.set(sum, f64x2.add(sum, e));
        }
      });
    });
    f.set(total, f64.add(f64x2.extractLane(sum, 0), f64x2.extractLane(sum, 1)));
    f.loop(x, end, 4, () => {
      f.if(f32.ge(f32.load(x), lowest), () => {
        terms(e, v128.load32Splat(x));
        f.set(total, f64.add(total, f64x2.extractLane(e, 0)));
      });
    });
    f.store(out, total);
  },
);

/**
 * Numbers of 32 bits in the order of the floats whose bits they are, -0 below 0: the other bits are
 * flipped where the sign is set.
 */
function sortable(f: Func, bits: Expr<"v128">): Local<"v128"> {
  const x = f.local("v128", bits);
  return f.local(
    "v128",
    v128.xor(x, i32x4.shrU(i32x4.shrS(x, i32.const(31)), i32.const(1))),
  );
}

const keyRange = { x: "i32", count: "i32", low: "i32", high: "i32", shift: "i32", out: "i32" };

/** Calls `add` with the bucket of each value whose key is from `low` to `high`. */
function forKeys(
  f: Func,
  p: { readonly [K in keyof typeof keyRange]: Local<"i32"> },
  /** @param four the four values, for what they have in common */
  begin: (four: Expr<"v128">) => void,
  add: (bucket: Expr<"i32">, lane: number) => void,
): void {
  const low = f.local("v128", i32x4.splat(p.low)), high = f.local("v128", i32x4.splat(p.high));
  const whole = f.local("i32", plus(p.x, i32.shl(i32.and(p.count, i32.const(-4)), i32.const(2))));
  const end = f.local("i32", plus(p.x, i32.shl(p.count, i32.const(2))));
  const four = f.local("v128"), bits = f.local("i32"), place = f.local("v128");
  const step = (values: Expr<"v128">, lanes: number) => {
    f.set(four, values);
    const key = sortable(f, four);
    f.set(bits, i32x4.bitmask(v128.and(i32x4.geS(key, low), i32x4.leS(key, high))));
    f.if(bits, () => {
      begin(four);
      f.set(place, i32x4.sub(key, low));
      for (let lane = 0; lane < lanes; lane++) {
        f.if(i32.and(bits, i32.const(1 << lane)), () => {
          add(i32.shrU(i32x4.extractLane(place, lane), p.shift), lane);
        });
      }
    });
  };
  f.loop(p.x, whole, 16, () => step(v128.load(p.x), 4));
  f.loop(p.x, end, 4, () => step(v128.load32Splat(p.x), 1));
}

/*
 * key_counts: how many values there are in each of some equal stretches of keys.
 *
 *   out[(key(x[i]) - low) >> shift] += 1  where low <= key(x[i]) <= high
 *
 * Source   ours; keys as in {@link sortable}, a radix selection from the highest digit down
 * Shapes   x [count]; out u32 [((high - low) >> shift) + 1], zero before
 * Types    exact
 * Order    none
 * Limits   low <= high, as signed numbers
 */
export const keyCounts = kernel("key_counts", keyRange as KeyRange, (f, p) => {
  const at = f.local("i32");
  forKeys(f, p, () => {}, (bucket) => {
    f.set(at, plus(p.out, i32.shl(bucket, i32.const(2))));
    f.store(at, plus(i32.load(at), 1));
  });
});

/*
 * key_masses: as key_counts, adding the weight e^((x[i] - max) inverse) instead of 1.
 *
 * Source   as key_counts; runtime/sampling/rows.ts for e^d
 * Shapes   x [count]; table as in row_stats; out f64 [((high - low) >> shift) + 1], zero before
 * Types    f64 from the difference on
 * Order    per bucket from index 0 up
 * Limits   as key_counts; terms below e^-49 are 0
 */
export const keyMasses = kernel(
  "key_masses",
  { ...keyRange as KeyRange, max: "f32", inverse: "f64", table: "i32" },
  (f, p) => {
    const at = f.local("i32"), first = f.local("v128"), second = f.local("v128");
    const terms = series(f, p.max, p.table, p.inverse);
    const begin = (four: Expr<"v128">) => {
      terms(first, four);
      terms(second, highHalf(four));
    };
    forKeys(f, p, begin, (bucket, lane) => {
      f.set(at, plus(p.out, i32.shl(bucket, i32.const(3))));
      const e = f64x2.extractLane(lane < 2 ? first : second, lane & 1);
      f.store(at, f64.add(f64.load(at), e));
    });
  },
);

type KeyRange = { readonly [K in keyof typeof keyRange]: "i32" };

/** Shared piece of kernels: the sampler's exponential function in double precision. */
import { type Expr, f64, f64x2, i32, i32x4, i8x16, v128 } from "../emit/expr.ts";
import type { Func, Local } from "../emit/func.ts";
import { plus } from "./_exp.ts";

/** Parts of a unit in the table of the exponential function, and its lowest argument. */
export const EXP_STEPS = 32, EXP_LOWEST = -49;

/** Lanes 2 and 3 moved to places 0 and 1. */
export const highHalf = (x: Expr<"v128">): Expr<"v128"> =>
  i8x16.shuffle(x, x, [8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7]);

/**
 * Code that sets e to e^d in two lanes, 0 below {@link EXP_LOWEST}, and returns d = value - max, or
 * where that is lower EXP_LOWEST, for the low lanes of `values`. To the bit what `expNonPositive` of
 * runtime/sampling/rows.ts gives.
 *
 * @param table address of `expTable`
 * @param inverse d is multiplied by it first. @default 1
 */
export function series(
  f: Func,
  max: Expr<"f32">,
  table: Local<"i32">,
  inverse?: Expr<"f64">,
): (e: Local<"v128">, values: Expr<"v128">) => Local<"v128"> {
  const constant = (value: number) => f.local("v128", f64x2.const(value));
  const most = f.local("v128", f64x2.splat(f64.promoteF32(max)));
  const factor = inverse && f.local("v128", f64x2.splat(inverse));
  const lowest = constant(EXP_LOWEST), steps = constant(-EXP_STEPS), part = constant(1 / EXP_STEPS);
  const [one, half, six, twentyFourth, n120, n720] = [1, 1 / 2, 6, 1 / 24, 120, 720].map(constant);
  const d = f.local("v128"), k = f.local("v128"), r = f.local("v128"), square = f.local("v128");
  const base = f.local("v128"), clamped = f.local("v128");
  return (e, values) => {
    f.set(d, f64x2.sub(f64x2.promoteLowF32x4(values), most));
    if (factor !== undefined) f.set(d, f64x2.mul(d, factor));
    f.set(clamped, f64x2.pmax(d, lowest));
    f.set(k, i32x4.truncSatF64x2SZero(f64x2.mul(clamped, steps)));
    f.set(r, f64x2.add(clamped, f64x2.mul(f64x2.convertLowI32x4S(k), part)));
    f.set(square, f64x2.mul(r, r));
    const entry = (lane: number) => plus(table, i32.shl(i32x4.extractLane(k, lane), i32.const(3)));
    f.set(base, f64x2.loadLane(entry(0), base, 0));
    f.set(base, f64x2.loadLane(entry(1), base, 1));
    const inner = f64x2.add(
      f64x2.add(twentyFourth!, f64x2.div(r, n120!)),
      f64x2.div(square, n720!),
    );
    const outer = f64x2.add(f64x2.add(half!, f64x2.div(r, six!)), f64x2.mul(square, inner));
    f.set(e, f64x2.mul(base, f64x2.add(f64x2.add(one!, r), f64x2.mul(square, outer))));
    f.set(e, v128.andnot(e, f64x2.lt(d, lowest)));
    return clamped; // where it is not d, e is 0
  };
}

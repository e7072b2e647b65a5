/** Shared pieces of kernels: the exponential function and sums over lanes. */
import { type Expr, f32, f32x4, i32, i32x4, v128 } from "../emit/expr.ts";
import type { Func, Local } from "../emit/func.ts";

/** Above it e^x is above the largest f32, below the other it is subnormal. */
const LARGEST = 88.72283, SMALLEST = -87.33654;

/** Coefficients of r^7 down to r^2 of the polynomial for e^r. */
const polynomial = [
  1.9875691500e-4,
  1.3981999507e-3,
  8.3334519073e-3,
  4.1665795894e-2,
  1.6666665459e-1,
  5.0000001201e-1,
];

/**
 * e^x in four lanes, within 2 units in the last place; infinite above the largest f32, 0 where the
 * result would be subnormal, NaN for NaN.
 *
 *   x = n ln 2 + r, |r| <= ln 2 / 2;  e^x = 2^n (1 + r + r^2 P(r))
 *
 * Source: Cephes `expf` (S. Moshier), https://www.netlib.org/cephes/, for P and the split of ln 2.
 *
 * @returns the variable that holds the result
 */
export function exponential(f: Func, x: Expr<"v128">): Local<"v128"> {
  const from = f.local("v128", x);
  const clamped = f32x4.pmin(f32x4.pmax(from, f32x4.const(-88)), f32x4.const(88.8));
  const r = f.local("v128", clamped);
  const n = f.local("v128", f32x4.nearest(f32x4.mul(r, f32x4.const(Math.LOG2E))));
  f.set(r, f32x4.sub(r, f32x4.mul(n, f32x4.const(0.693359375))));
  f.set(r, f32x4.sub(r, f32x4.mul(n, f32x4.const(-2.12194440e-4))));
  const y = f.local("v128", f32x4.const(polynomial[0]!));
  for (const c of polynomial.slice(1)) {
    f.set(y, f32x4.add(f32x4.mul(y, r), f32x4.const(c)));
  }
  f.set(y, f32x4.mul(y, f32x4.mul(r, r)));
  f.set(y, f32x4.add(f32x4.add(y, r), f32x4.const(1)));
  // 2^n in two factors, because n may be 128.
  const whole = f.local("v128", i32x4.truncSatF32x4S(n));
  const half = f.local("v128", i32x4.shrS(whole, i32.const(1)));
  f.set(y, f32x4.mul(y, powerOfTwo(half)));
  f.set(y, f32x4.mul(y, powerOfTwo(i32x4.sub(whole, half))));
  const infinite = f32x4.gt(from, f32x4.const(LARGEST));
  f.set(y, v128.bitselect(f32x4.const(Infinity), y, infinite));
  f.set(y, v128.andnot(y, f32x4.lt(from, f32x4.const(SMALLEST))));
  return y;
}

function powerOfTwo(n: Expr<"v128">): Expr<"v128"> {
  return i32x4.shl(i32x4.add(n, i32x4.splat(i32.const(127))), i32.const(23));
}

/** (lane 0 + lane 1) + (lane 2 + lane 3) */
export function sumOfLanes(x: Expr<"v128">): Expr<"f32"> {
  const lane = (index: number) => f32x4.extractLane(x, index);
  return f32.add(f32.add(lane(0), lane(1)), f32.add(lane(2), lane(3)));
}

/** `address + offset` */
export const plus = (address: Expr<"i32">, offset: Expr<"i32"> | number): Expr<"i32"> =>
  i32.add(address, typeof offset === "number" ? i32.const(offset) : offset);

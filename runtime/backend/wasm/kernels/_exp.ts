/** Shared pieces of kernels: the exponential function and sums over lanes. */
import { type Expr, f32, f32x4, i32, i32x4, v128 } from "../emit/expr.ts";
import type { Func, Local } from "../emit/func.ts";

/** Above it e^x is above the largest f32, below the other it is subnormal. */
const LARGEST = 88.72283, SMALLEST = -87.33654;
/** Added to a number below 2^22, it leaves no place for a fraction: the sum is rounded to an integer. */
const ROUNDER = 1.5 * 2 ** 23;

/** Coefficients of r^7 down to r^2 of the polynomial for e^r. */
const polynomial = [
  1.9875691500e-4,
  1.3981999507e-3,
  8.3334519073e-3,
  4.1665795894e-2,
  1.6666665459e-1,
  5.0000001201e-1,
] as const;

/** What {@link exponential} needs, made once before a loop: in the loop it would be made each time. */
export interface ExpConstants {
  readonly of: ReadonlyMap<number, Local<"v128">>;
  /** 127 in the place of the exponent. */
  readonly bias: Local<"v128">;
}

/** Sets the variables that {@link exponential} uses. */
export function expConstants(f: Func): ExpConstants {
  const numbers = [
    ...polynomial,
    ...[
      -88,
      88.8,
      LARGEST,
      SMALLEST,
      ROUNDER,
      Math.LOG2E,
      0.693359375,
      -2.12194440e-4,
      1,
      Infinity,
    ],
  ];
  return {
    of: new Map(numbers.map((x) => [x, f.local("v128", f32x4.const(x))])),
    bias: f.local("v128", i32x4.splat(i32.const(127 << 23))),
  };
}

/**
 * e^x in four lanes, within 2 units in the last place; infinite above the largest f32, 0 where the
 * result would be subnormal, NaN for NaN.
 *
 *   x = n ln 2 + r, |r| <= ln 2 / 2;  e^x = 2^n (1 + r + r^2 P(r))
 *
 * Source: Cephes `expf` (S. Moshier), https://www.netlib.org/cephes/, for P and the split of ln 2.
 *
 * @param range "negative": for x up to 0 only, which saves the steps that large results need; the
 * results are the same
 * @returns the variable that holds the result
 */
export function exponential(
  f: Func,
  x: Expr<"v128">,
  { of, bias }: ExpConstants,
  range: "any" | "negative" = "any",
): Local<"v128"> {
  const c = (value: number): Local<"v128"> => of.get(value)!;
  const from = f.local("v128", x);
  const above = f32x4.pmax(from, c(-88));
  const r = f.local("v128", range === "any" ? f32x4.pmin(above, c(88.8)) : above);
  const n = f.local("v128", f32x4.add(f32x4.mul(r, c(Math.LOG2E)), c(ROUNDER)));
  const exponent = f.local("v128", i32x4.shl(n, i32.const(23))); // the bits of ROUNDER go
  f.set(n, f32x4.sub(n, c(ROUNDER)));
  f.set(r, f32x4.sub(r, f32x4.mul(n, c(0.693359375))));
  f.set(r, f32x4.sub(r, f32x4.mul(n, c(-2.12194440e-4))));
  const y = f.local("v128", c(polynomial[0]));
  for (const coefficient of polynomial.slice(1)) {
    f.set(y, f32x4.add(f32x4.mul(y, r), c(coefficient)));
  }
  f.set(y, f32x4.mul(y, f32x4.mul(r, r)));
  f.set(y, f32x4.add(f32x4.add(y, r), c(1)));
  if (range === "negative") f.set(y, f32x4.mul(y, i32x4.add(exponent, bias)));
  else {
    // 2^n in two factors, because n may be 128.
    const half = f.local("v128", i32x4.shl(i32x4.shrS(exponent, i32.const(24)), i32.const(23)));
    f.set(y, f32x4.mul(y, i32x4.add(half, bias)));
    f.set(y, f32x4.mul(y, i32x4.add(i32x4.sub(exponent, half), bias)));
    f.set(y, v128.bitselect(c(Infinity), y, f32x4.gt(from, c(LARGEST))));
  }
  f.set(y, v128.andnot(y, f32x4.lt(from, c(SMALLEST))));
  return y;
}

/** (lane 0 + lane 1) + (lane 2 + lane 3) */
export function sumOfLanes(x: Expr<"v128">): Expr<"f32"> {
  const lane = (index: number) => f32x4.extractLane(x, index);
  return f32.add(f32.add(lane(0), lane(1)), f32.add(lane(2), lane(3)));
}

/** The largest lane. */
export function largestLane(x: Expr<"v128">): Expr<"f32"> {
  const lane = (index: number) => f32x4.extractLane(x, index);
  return f32.max(f32.max(lane(0), lane(1)), f32.max(lane(2), lane(3)));
}

/** `address + offset` */
export const plus = (address: Expr<"i32">, offset: Expr<"i32"> | number): Expr<"i32"> =>
  i32.add(address, typeof offset === "number" ? i32.const(offset) : offset);

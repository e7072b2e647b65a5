import { f32x4, i32, v128 } from "../emit/expr.ts";
import { type Func, kernel, type Local, type Params } from "../emit/func.ts";
import { plus } from "./_exp.ts";

const signature = {
  x: "i32",
  weight: "i32",
  bias: "i32",
  y: "i32",
  rows: "i32",
  depth: "i32",
  outputs: "i32",
  columns: "i32",
} as const;

/** Groups of four outputs that a single row takes at a time (bench/kernels). */
const WIDE = 4;

/*
 * linear: y[r, n] = sum over k of x[r, k] * weight[n, k], plus bias[n].
 *
 * Source   register tiles of 4 rows by 4 outputs, or of 1 row by 16 outputs for the rows left over
 * Shapes   x [rows, depth]; weight interleaved [groups, depth, 4]; bias [outputs], padded to a
 *          multiple of 4; y [rows, columns], of which the first `outputs` columns are written
 * Types    f32, products rounded before they are added (no fused or relaxed instruction)
 * Order    columns in fours: ((p0 + p1) + (p2 + p3)) added to the sum, from column 0 up; then the
 *          last depth % 4 columns one by one; then the bias. The same for every row, whatever
 *          `rows` is.
 * Limits   bias = 0 means none
 */
export const linear = kernel("linear", signature, (f, params) => {
  const { weight, rows, depth, outputs, columns } = params;
  const parts: Parts = {
    ...params,
    n: f.local("i32"),
    r: f.local("i32"),
    rowBytes: f.local("i32", i32.shl(depth, i32.const(2))),
    yBytes: f.local("i32", i32.shl(columns, i32.const(2))),
    groupBytes: f.local("i32", i32.shl(depth, i32.const(4))),
    wholeBytes: f.local("i32", i32.and(i32.shl(depth, i32.const(4)), i32.const(-64))),
    add: f.local("v128"),
    xs: locals(f, "i32", 4),
    ws: locals(f, "i32", 4),
    sums: locals(f, "v128", 4),
    loaded: locals(f, "v128", 4),
  };
  const { n, r, groupBytes } = parts;
  const fours = f.local("i32", i32.and(rows, i32.const(-4)));
  const wide = f.local("i32");
  // Outputs in blocks of WIDE groups, as long as they are whole.
  f.set(wide, i32.mul(i32.divU(outputs, i32.const(4 * WIDE)), i32.const(4 * WIDE)));
  const block = (groups: number): void => {
    for (let g = 0; g < groups; g++) {
      f.set(r, i32.const(0));
      f.loop(r, fours, 4, () => tile(f, parts, 4, 1));
      if (g < groups - 1) {
        f.advance(weight, groupBytes);
        f.advance(n, 4);
      }
    }
    if (groups > 1) {
      f.set(weight, i32.sub(weight, i32.mul(groupBytes, i32.const(groups - 1))));
      f.set(n, i32.sub(n, i32.const(4 * (groups - 1))));
    }
    f.set(r, fours);
    f.loop(r, rows, 1, () => tile(f, parts, 1, groups));
    f.advance(weight, i32.mul(groupBytes, i32.const(groups)));
  };
  f.loop(n, wide, 4 * WIDE, () => block(WIDE));
  f.loop(n, outputs, 4, () => block(1));
});

interface Parts extends Params<typeof signature> {
  /** First output and first row of the tile. */
  readonly n: Local<"i32">;
  readonly r: Local<"i32">;
  readonly rowBytes: Local<"i32">;
  readonly yBytes: Local<"i32">;
  readonly groupBytes: Local<"i32">;
  /** Bytes of a group's columns that come in fours. */
  readonly wholeBytes: Local<"i32">;
  readonly add: Local<"v128">;
  readonly xs: readonly Local<"i32">[];
  readonly ws: readonly Local<"i32">[];
  readonly sums: readonly Local<"v128">[];
  readonly loaded: readonly Local<"v128">[];
}

function locals<T extends "i32" | "v128">(f: Func, type: T, count: number): Local<T>[] {
  return Array.from({ length: count }, () => f.local(type));
}

/** `height` rows by `groups` groups of outputs; one of both is 1. `weight` is at the first group. */
function tile(f: Func, parts: Parts, height: number, groups: number): void {
  const { x, weight, r, rowBytes, groupBytes, wholeBytes, loaded } = parts;
  const xs = parts.xs.slice(0, height), ws = parts.ws.slice(0, groups);
  const sums = parts.sums.slice(0, height * groups);
  f.set(xs[0]!, plus(x, i32.mul(r, rowBytes)));
  for (let i = 1; i < height; i++) f.set(xs[i]!, plus(xs[i - 1]!, rowBytes));
  f.set(ws[0]!, weight);
  for (let g = 1; g < groups; g++) f.set(ws[g]!, plus(ws[g - 1]!, groupBytes));
  for (const sum of sums) f.set(sum, v128.zero);
  const end = f.local("i32", plus(weight, wholeBytes));
  // The operand that a tile uses several times is loaded first: columns of weights or values of x.
  f.loop(ws[0]!, end, 64, () => {
    for (const [k, operand] of loaded.entries()) {
      const value = height > 1 ? v128.load(ws[0]!, 16 * k) : v128.load32Splat(xs[0]!, 4 * k);
      f.set(operand, value);
    }
    for (const [i, sum] of sums.entries()) {
      const p = (k: number) =>
        height > 1
          ? f32x4.mul(v128.load32Splat(xs[i]!, 4 * k), loaded[k]!)
          : f32x4.mul(loaded[k]!, v128.load(ws[i]!, 16 * k));
      const four = f32x4.add(f32x4.add(p(0), p(1)), f32x4.add(p(2), p(3)));
      f.set(sum, f32x4.add(sum, four));
    }
    for (const pointer of xs) f.advance(pointer, 16);
    for (const pointer of ws.slice(1)) f.advance(pointer, 64);
  });
  f.set(end, plus(weight, groupBytes));
  f.loop(ws[0]!, end, 16, () => {
    for (const [i, sum] of sums.entries()) {
      const value = v128.load32Splat(xs[height > 1 ? i : 0]!);
      const p = f32x4.mul(value, v128.load(ws[height > 1 ? 0 : i]!));
      f.set(sum, f32x4.add(sum, p));
    }
    for (const pointer of xs) f.advance(pointer, 4);
    for (const pointer of ws.slice(1)) f.advance(pointer, 16);
  });
  store(f, parts, sums, groups);
}

/** Adds the bias and writes the outputs that exist. */
function store(f: Func, parts: Parts, sums: readonly Local<"v128">[], groups: number): void {
  const { bias, y, n, r, yBytes, outputs, add } = parts;
  const out = f.local("i32", plus(plus(y, i32.mul(r, yBytes)), i32.shl(n, i32.const(2))));
  const left = f.local("i32", i32.sub(outputs, n));
  for (const [i, sum] of sums.entries()) {
    const at = groups > 1 ? 16 * i : 0;
    f.if(bias, () => f.set(add, v128.load(plus(bias, i32.shl(n, i32.const(2))), at)));
    f.set(sum, f32x4.add(sum, add));
    f.if(
      i32.geU(left, i32.const(4)),
      () => f.store(out, sum, at),
      () => {
        for (let lane = 0; lane < 3; lane++) {
          f.if(i32.gtU(left, i32.const(lane)), () => f.storeLane(out, sum, lane, 4 * lane));
        }
      },
    );
    if (groups === 1) f.advance(out, yBytes);
  }
}

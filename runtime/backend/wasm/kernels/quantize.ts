/** Activations as integers of 8 or 7 bits: as bytes and, with the same values, as 16-bit numbers. */
import { type Expr, f32, f32x4, i16x8, i32, i32x4, i8x16, v128 } from "../emit/expr.ts";
import { type Func, type Kernel, kernel, type Local, type Params } from "../emit/func.ts";

/** Bytes of one block of activations as bytes, and where its parts are. */
export const X8 = { bytes: 48, scale: 32, offsets: 36 } as const;
/** As X8, for integers of 7 bits. */
export const X7 = { bytes: 48, scale: 32, offsets: 36 } as const;
/** The same as 16-bit numbers, of either. */
export const X16 = { bytes: 72, scale: 64 } as const;

const signature = { x: "i32", out: "i32", blocks: "i32" } as const;

/*
 * quantize8: rows of x in blocks of 32 values as integers times a scale.
 *
 *   scale = max |x| / 127;  q = round(x / scale), ties to even
 *
 * Source   ggml's Q8_0 (block size, scale), https://github.com/ggml-org/ggml; there ties go away
 *          from zero
 * Shapes   x [blocks, 32] -> blocks of 48 bytes: 32 x i8, scale f32, 2 x i16, 8 unused. The two i16
 *          are -8 times the sums of q over columns 0, 1 and 2, 3 of every four: what 4-bit weights
 *          that are stored 8 too large add too much.
 * Types    f32 to i8 in -127 .. 127
 * Order    each block by itself
 * Limits   not finite values give a block that means nothing, and hurt no other
 */
const quantize8: Kernel = build("quantize8", 127, X8.bytes, (f, { out, scale }, q) => {
  const sum = f.local("v128", v128.zero);
  for (const half of [0, 1]) {
    for (const part of storeHalf(f, out, half, q)) accumulate(f, sum, part);
  }
  f.store(out, scale, X8.scale);
  f.store(out, pairSums(f, sum, -8), X8.offsets);
});

/*
 * quantize7: as quantize8, with one bit less.
 *
 *   scale = max |x| / 63
 *
 * Source   as quantize8
 * Shapes   x [blocks, 32] -> blocks of 48 bytes: 32 x i8, scale f32, 4 x i16, 4 unused. The i16 are -64
 *          times the sums of q over columns 0, 1 and 2, 3 of every four, for either half of a block:
 *          what 7-bit weights that are stored 64 too large add too much.
 * Types    f32 to i8 in -63 .. 63
 * Order    each block by itself
 * Limits   as quantize8
 */
const quantize7: Kernel = build("quantize7", 63, X7.bytes, (f, { out, scale }, q) => {
  const sum = f.local("v128");
  for (const half of [0, 1]) {
    f.set(sum, v128.zero);
    for (const part of storeHalf(f, out, half, q)) accumulate(f, sum, part);
    f.store(out, pairSums(f, sum, -64), X7.offsets + 4 * half);
  }
  f.store(out, scale, X7.scale);
});

/*
 * quantize8_strict, quantize7_strict: as quantize8 and quantize7, each integer in 16 bits; for kernels
 * without relaxed SIMD.
 *
 * Source   as quantize8
 * Shapes   x [blocks, 32] -> blocks of 72 bytes: 32 x i16, scale f32, 4 unused
 * Types    f32 to i16 in -127 .. 127 or -63 .. 63
 * Order    each block by itself
 * Limits   as quantize8
 */
const quantizeStrict = ([["quantize8_strict", 127], ["quantize7_strict", 63]] as const)
  .map(([name, most]) =>
    build(name, most, X16.bytes, (f, { out, scale }, q) => {
      for (let i = 0; i < 4; i++) f.store(out, narrow(q(2 * i), q(2 * i + 1)), 16 * i);
      f.store(out, scale, X16.scale);
    })
  );

/** The kernels that kernels with or without relaxed SIMD take their operands from. */
export function quantizers(relaxed: boolean): readonly Kernel[] {
  return relaxed ? [quantize8, quantize7] : quantizeStrict;
}

/** Integers 16 * half to 16 * half + 15 of a block, at `out` as bytes; they are returned by fours. */
function storeHalf(
  f: Func,
  out: Expr<"i32">,
  half: number,
  q: (i: number) => Expr<"v128">,
): readonly Local<"v128">[] {
  const parts = [0, 1, 2, 3].map((i) => f.local("v128", q(4 * half + i)));
  const [a, b, c, d] = parts;
  f.store(out, i8x16.narrowI16x8S(narrow(a!, b!), narrow(c!, d!)), 16 * half);
  return parts;
}

function accumulate(f: Func, sum: Local<"v128">, part: Expr<"v128">): void {
  f.set(sum, i32x4.add(sum, part));
}

/** `factor` times the sums of lanes 0 and 1 and of lanes 2 and 3, as two i16. */
function pairSums(f: Func, sums: Local<"v128">, factor: number): Expr<"i32"> {
  const [low, high] = [0, 2].map((l) =>
    f.local(
      "i32",
      i32.mul(
        i32.add(i32x4.extractLane(sums, l), i32x4.extractLane(sums, l + 1)),
        i32.const(factor),
      ),
    )
  );
  return i32.or(i32.and(low!, i32.const(0xffff)), i32.shl(high!, i32.const(16)));
}

/** Eight i32 as i16. */
function narrow(a: Expr<"v128">, b: Expr<"v128">): Expr<"v128"> {
  return i16x8.narrowI32x4S(a, b);
}

interface Block extends Params<typeof signature> {
  readonly scale: Expr<"f32">;
}

/**
 * @param most the largest integer
 * @param write stores a block at `out`; `q(i)` are its integers 4i to 4i + 3 as i32
 */
function build(
  name: string,
  most: number,
  bytes: number,
  write: (f: Func, block: Block, q: (i: number) => Expr<"v128">) => void,
): Kernel {
  return kernel(name, signature, (f, params) => {
    const { x, out, blocks } = params;
    const b = f.local("i32");
    const inverse = f.local("v128"), largest = f.local("f32");
    f.loop(b, blocks, 1, () => {
      f.set(largest, largestOf(f, x));
      f.set(inverse, v128.zero);
      // The smallest scales have no finite inverse; such blocks count as zeros.
      f.if(f32.gt(largest, f32.const(2 ** -120)), () => {
        f.set(inverse, f32x4.splat(f32.div(f32.const(most), largest)));
      });
      const q = (i: number) => {
        const value = f32x4.mul(v128.load(x, 16 * i), inverse);
        return i32x4.truncSatF32x4S(f32x4.nearest(value));
      };
      write(f, { ...params, scale: f32.div(largest, f32.const(most)) }, q);
      f.advance(x, 128);
      f.advance(out, bytes);
    });
  });
}

/** The largest absolute value of 32 at `x`. */
function largestOf(f: Func, x: Local<"i32">): Expr<"f32"> {
  const most = f.local("v128", v128.zero);
  f.set(most, v128.zero);
  for (let i = 0; i < 8; i++) f.set(most, f32x4.pmax(most, f32x4.abs(v128.load(x, 16 * i))));
  const lane = (l: number) => f32x4.extractLane(most, l);
  return f32.max(f32.max(lane(0), lane(1)), f32.max(lane(2), lane(3)));
}

/** linear over quantised weights. All kernels come from one description of a tile. */
import { type Expr, f32x4, i16x8, i32, i32x4, i8x16, v128 } from "../emit/expr.ts";
import { type Func, type Kernel, kernel, type Local, type Params } from "../emit/func.ts";
import { plus } from "./_exp.ts";
import { X16, X8 } from "./quantize.ts";

/** Bytes of four rows of 32 weights: 4 x f16 scale, then the integers. */
export const WEIGHT_BYTES = { q8: 136, q4: 72 } as const;
const SCALES = 8;

/** Rows of x that a tile takes at most; fewer when fewer are left. */
const HEIGHTS = [4, 2, 1] as const;

/** Integers of one word of weights, ready to be multiplied; shared by the rows of a tile. */
interface Operand {
  readonly value: Local<"v128">;
  /** Byte in the block of x of what it meets. */
  readonly x: number;
  /** Which of a row's accumulators takes the products. */
  readonly sum: number;
}

/** How a kernel multiplies one block. */
interface Format {
  readonly name: string;
  readonly x: { readonly bytes: number; readonly scale: number };
  readonly weightBytes: number;
  /** Accumulators per row. */
  readonly sums: number;
  /** Steps of loading weights. */
  readonly words: readonly ((f: Func, weight: Local<"i32">, c: Constants) => readonly Operand[])[];
  /** What an accumulator starts with; undefined: its first products. */
  start?(x: Local<"i32">): Expr<"v128">;
  products(x: Local<"i32">, operand: Operand): Expr<"v128">;
  add(a: Expr<"v128">, b: Expr<"v128">): Expr<"v128">;
  /** Sums of the four outputs as i32. */
  total(sums: readonly Local<"v128">[]): Expr<"v128">;
}

/** Kept in variables: constants in a loop are made again at every turn. */
interface Constants {
  readonly nibbles: Local<"v128">;
  readonly eights: Local<"v128">;
}

const range = (count: number): number[] => Array.from({ length: count }, (_, i) => i);

/*
 * linear_q8: y[r, n] = sum over k of x[r, k] * weight[n, k], plus bias[n], with 8-bit integers.
 *
 * Source   blocks of 32 as in ggml's Q8_0; four rows side by side, so that most of a dot product
 *          needs no sum over lanes
 * Shapes   x [rows, blocks] from `quantize16`; weight [groups, blocks] of 136 bytes: 4 x f16 scale, 8
 *          words of 16 x i8, whose byte 4r + j belongs to row r and to column j of the word; bias, y
 *          as in `linear`
 * Types    i16 products of pairs, added in i32, exact; scales and sums over blocks in f32
 * Order    blocks from column 0 up: float(sum of products) * (scale of weight * scale of x) added to
 *          the sum; then the bias. The same for every row, whatever `rows` is.
 * Limits   columns in multiples of 32; bias = 0 means none
 */
const q8: Format = {
  name: "linear_q8",
  x: X16,
  weightBytes: WEIGHT_BYTES.q8,
  ...wide(
    range(8).map((u) => (f, weight) =>
      range(2).map((sum) => ({
        value: f.local("v128", v128.load8x8S(weight, SCALES + 16 * u + 8 * sum)),
        x: 8 * u,
        sum,
      }))
    ),
  ),
};

/*
 * linear_q4_strict: as linear_q8, with 4-bit weights; for engines without relaxed SIMD.
 *
 * Source   blocks of 32 as in ggml's Q4_0
 * Shapes   weight [groups, blocks] of 72 bytes: 4 x f16 scale, 4 words of weights + 8, word u with
 *          columns 8u to 8u + 3 in its low and 8u + 4 to 8u + 7 in its high halves of bytes
 * Types    as linear_q8
 * Order    as linear_q8
 * Limits   as linear_q8
 */
const q4Strict: Format = {
  name: "linear_q4_strict",
  x: X16,
  weightBytes: WEIGHT_BYTES.q4,
  ...wide(
    range(4).flatMap((u) => [
      (f, weight, c) =>
        wideNibbles(f, 16 * u, v128.and(v128.load(weight, SCALES + 16 * u), c.nibbles), c),
      (f, weight, c) =>
        wideNibbles(
          f,
          16 * u + 8,
          v128.and(i16x8.shrU(v128.load(weight, SCALES + 16 * u), i32.const(4)), c.nibbles),
          c,
        ),
    ]),
  ),
};

/*
 * linear_q4: the same numbers as linear_q4_strict, through relaxed SIMD.
 *
 * Source   as linear_q4_strict
 * Shapes   x from `quantize8`; weight as in linear_q4_strict
 * Types    i8 times 0 .. 15, which is below the 2^7 up to which the relaxed dot product has one
 *          defined result. Sums of a block start at -8 times the sum of x; their end is at most
 *          16 * 8 * 127, so that i16, which wraps, holds it exactly.
 * Order    as linear_q8
 * Limits   as linear_q8
 */
const q4: Format = {
  name: "linear_q4",
  x: X8,
  weightBytes: WEIGHT_BYTES.q4,
  sums: 1,
  words: range(4).map((u) => (f, weight, c) => {
    const word = f.local("v128", v128.load(weight, SCALES + 16 * u));
    const high = v128.and(i16x8.shrU(word, i32.const(4)), c.nibbles);
    return [
      { value: f.local("v128", v128.and(word, c.nibbles)), x: 8 * u, sum: 0 },
      { value: f.local("v128", high), x: 8 * u + 4, sum: 0 },
    ];
  }),
  start: (x) => v128.load32Splat(x, X8.offsets),
  products: (x, { value, x: at }) => i16x8.relaxedDot(v128.load32Splat(x, at), value),
  add: i16x8.add,
  total: ([sum]) => i32x4.extaddPairwiseI16x8S(sum!),
};

/** i16 operands: rows 0 and 1 in one accumulator, 2 and 3 in another, two lanes each. */
function wide(words: Format["words"]): Omit<Format, "name" | "x" | "weightBytes"> {
  const lanes = (...from: number[]) =>
    from.flatMap((l) => [0, 1, 2, 3].map((byte) => 4 * l + byte));
  return {
    sums: 2,
    words,
    products: (x, { value, x: at }) => i32x4.dotI16x8S(v128.load64Splat(x, at), value),
    add: i32x4.add,
    total: ([a, b]) =>
      i32x4.add(
        i8x16.shuffle(a!, b!, lanes(0, 2, 4, 6)),
        i8x16.shuffle(a!, b!, lanes(1, 3, 5, 7)),
      ),
  };
}

function wideNibbles(f: Func, x: number, nibbles: Expr<"v128">, c: Constants): readonly Operand[] {
  const bytes = f.local("v128", i8x16.sub(nibbles, c.eights));
  return [
    { value: f.local("v128", i16x8.extendLowI8x16S(bytes)), x, sum: 0 },
    { value: f.local("v128", i16x8.extendHighI8x16S(bytes)), x, sum: 1 },
  ];
}

/** The kernels of a module. @param relaxed whether the engine has relaxed SIMD; same results */
export function linearBlocks(relaxed: boolean): readonly Kernel[] {
  return [build(q8), build(relaxed ? q4 : q4Strict)];
}

const signature = {
  x: "i32",
  weight: "i32",
  bias: "i32",
  y: "i32",
  rows: "i32",
  blocks: "i32",
  outputs: "i32",
  columns: "i32",
} as const;

interface Parts extends Params<typeof signature>, Constants {
  readonly format: Format;
  readonly n: Local<"i32">;
  readonly r: Local<"i32">;
  readonly rowBytes: Local<"i32">;
  readonly yBytes: Local<"i32">;
  readonly add: Local<"v128">;
  /** For f16 scales: their bits in f32, and 2^112. */
  readonly halfBits: Local<"v128">;
  readonly halfUnit: Local<"v128">;
}

function build(format: Format): Kernel {
  return kernel(format.name, signature, (f, params) => {
    const { weight, rows, blocks, outputs, columns } = params;
    const parts: Parts = {
      ...params,
      format,
      n: f.local("i32"),
      r: f.local("i32"),
      rowBytes: f.local("i32", i32.mul(blocks, i32.const(format.x.bytes))),
      yBytes: f.local("i32", i32.shl(columns, i32.const(2))),
      add: f.local("v128"),
      nibbles: f.local("v128", i8x16.splat(i32.const(15))),
      eights: f.local("v128", i8x16.splat(i32.const(8))),
      halfBits: f.local("v128", i32x4.splat(i32.const(0x8fffe000))),
      halfUnit: f.local("v128", f32x4.const(2 ** 112)),
    };
    const { n, r } = parts;
    const groupBytes = f.local("i32", i32.mul(blocks, i32.const(format.weightBytes)));
    f.loop(n, outputs, 4, () => {
      f.set(r, i32.const(0));
      for (const height of HEIGHTS) {
        const end = f.local("i32", i32.and(rows, i32.const(-height)));
        f.loop(r, end, height, () => tile(f, parts, height));
      }
      f.advance(weight, groupBytes);
    });
  });
}

/** `height` rows by the four outputs at `weight`. */
function tile(f: Func, parts: Parts, height: number): void {
  const { format, x, r, rowBytes, blocks } = parts;
  const xs = range(height).map((i) => f.local("i32", plus(x, i32.mul(plus(r, i), rowBytes))));
  const w = f.local("i32", parts.weight);
  const sums = xs.map(() => f.local("v128", v128.zero));
  const integers = xs.map(() => range(format.sums).map(() => f.local("v128")));
  const b = f.local("i32", i32.const(0));
  f.loop(b, blocks, 1, () => {
    const isFresh = new Set(integers.flat());
    if (format.start) {
      isFresh.clear();
      for (const [i, row] of xs.entries()) f.set(integers[i]![0]!, format.start(row));
    }
    for (const load of format.words) {
      for (const operand of load(f, w, parts)) {
        for (const [i, row] of xs.entries()) {
          const sum = integers[i]![operand.sum]!;
          const products = format.products(row, operand);
          f.set(sum, isFresh.delete(sum) ? products : format.add(sum, products));
        }
      }
    }
    const scales = f.local("v128", scalesAt(w, parts));
    for (const [i, row] of xs.entries()) {
      const exact = f32x4.convertI32x4S(format.total(integers[i]!));
      const scale = f32x4.mul(scales, v128.load32Splat(row, format.x.scale));
      f.set(sums[i]!, f32x4.add(sums[i]!, f32x4.mul(exact, scale)));
    }
    for (const pointer of xs) f.advance(pointer, format.x.bytes);
    f.advance(w, format.weightBytes);
  });
  store(f, parts, sums);
}

/** Four f16 as f32, exact: exponent and fraction in place, then times 2^(127 - 15). */
function scalesAt(weight: Local<"i32">, { halfBits, halfUnit }: Parts): Expr<"v128"> {
  const shifted = i32x4.shl(v128.load16x4S(weight), i32.const(13));
  return f32x4.mul(v128.and(shifted, halfBits), halfUnit);
}

/** Adds the bias and writes the outputs that exist. */
function store(
  f: Func,
  { bias, y, n, r, yBytes, outputs, add }: Parts,
  sums: readonly Local<"v128">[],
): void {
  const left = f.local("i32", i32.sub(outputs, n));
  const offset = f.local("i32", i32.shl(n, i32.const(2)));
  const out = f.local("i32", plus(plus(y, i32.mul(r, yBytes)), offset));
  f.if(bias, () => f.set(add, v128.load(plus(bias, offset))));
  for (const sum of sums) {
    f.set(sum, f32x4.add(sum, add));
    f.if(
      i32.geU(left, i32.const(4)),
      () => f.store(out, sum),
      () => {
        for (let lane = 0; lane < 3; lane++) {
          f.if(i32.gtU(left, i32.const(lane)), () => f.storeLane(out, sum, lane, 4 * lane));
        }
      },
    );
    f.advance(out, yBytes);
  }
}

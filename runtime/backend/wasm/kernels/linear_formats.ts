/** How quantised blocks are multiplied, one description per kernel; linear_blocks.ts builds them. */
import { type Expr, i16x8, i32, i32x4, i8x16, v128 } from "../emit/expr.ts";
import type { Func, Local } from "../emit/func.ts";
import { X16, X7, X8 } from "./quantize.ts";

/**
 * Rows whose blocks follow each other in turn, four rows at a time: however many of them a tile takes,
 * weights are read as one stream. Several streams are many times slower out of memory.
 */
export const PANEL_ROWS = 16;
/** Groups of four rows of a panel. */
export const GROUPS = PANEL_ROWS / 4;

/** Bytes of four rows of 32 weights: 4 x f16 scale, then the integers. */
export const WEIGHT_BYTES = { q8: 136, q4: 72 } as const;
const SCALES = 8;

/** Rows of x that a tile takes at most; fewer when fewer are left. */
export const HEIGHTS = [8, 4, 2, 1] as const;
type Height = (typeof HEIGHTS)[number];

/** How a kernel multiplies one block. */
export interface Format {
  readonly name: string;
  /** Bytes of a block of x and of four rows' weights. */
  readonly xBytes: number;
  readonly weightBytes: number;
  /**
   * Groups of four outputs that a tile of so many rows takes; x is loaded once for all of them.
   * More need more registers than there are (bench/kernels).
   */
  readonly groups: Readonly<Partial<Record<Height, number>>>;
  /** Accumulators per row and group. */
  readonly sums: number;
  /** Whether weights are read a page ahead: pays where memory limits the kernel (bench/cpu). */
  readonly readsAhead?: boolean;
  /** Parts of a block, in order. */
  readonly steps: readonly BlockStep[];
  /** Sums of the four outputs as i32. */
  total(x: Local<"i32">, sums: readonly Local<"v128">[]): Expr<"v128">;
  /** Byte of x's scale in its block. */
  readonly scale: number;
}

/** A few columns of a block. */
interface BlockStep {
  /**
   * Integers of four outputs' weights, ready to be multiplied; shared by the rows of a tile.
   *
   * @param at byte of the group's block from `weight` on
   */
  weights(f: Func, weight: Local<"i32">, at: number, c: Constants): readonly Local<"v128">[];
  /** Vectors of one row of x; shared by the groups of a tile. */
  x(f: Func, row: Local<"i32">): readonly Local<"v128">[];
  /** Adds the products of both to the accumulators of a row and group. */
  add(f: Func, sums: Vectors, x: Vectors, weights: Vectors, c: Constants): void;
}

type Vectors = readonly Local<"v128">[];

/** Kept in variables: constants in a loop are made again at every turn. */
export interface Constants {
  /** Bytes of 15, 8 and 64. */
  readonly nibbles: Local<"v128">;
  readonly eights: Local<"v128">;
  readonly offsets: Local<"v128">;
  /** i16 of 1. */
  readonly ones: Local<"v128">;
}

/** 0 to count - 1. */
export const range = (count: number): number[] => Array.from({ length: count }, (_, i) => i);

/*
 * linear_q8_strict: y[r, n] = sum over k of x[r, k] * weight[n, k], plus bias[n], with 7-bit integers;
 * for engines without relaxed SIMD.
 *
 * Source   blocks of 32 as in ggml's Q8_0, the integers rounded to 7 bits (pack.ts); four rows side by
 *          side, so that most of a dot product needs no sum over lanes
 * Shapes   x [rows, blocks] from `quantize7_strict`; weight [panels, blocks, 4] of 136 bytes: 4 x f16
 *          scale, 8 words of 16 bytes, whose byte 4r + j is 64 plus the integer of row r and column j
 *          of the word; bias, y as in `linear`
 * Types    i16 products of pairs, added in i32, exact; scales and sums over blocks in f32
 * Order    blocks from column 0 up: float(sum of products) * (scale of weight * scale of x) added to
 *          the sum; then the bias. The same for every row, whatever `rows` is.
 * Limits   columns in multiples of 32; bias = 0 means none
 */
export const q8Strict: Format = {
  name: "linear_q8_strict",
  weightBytes: WEIGHT_BYTES.q8,
  ...wide(
    range(8).map((u) => ({
      weights(f, weight, at, c) {
        const word = v128.load(weight, at + SCALES + 16 * u);
        const bytes = f.local("v128", i8x16.sub(word, c.offsets));
        return halves(f, bytes);
      },
      x: (f, row) => [f.local("v128", v128.load64Splat(row, 8 * u))],
      add: addWide(u === 0),
    })),
  ),
};

/*
 * linear_q8: the same numbers as linear_q8_strict, through relaxed SIMD.
 *
 * Source   as linear_q8_strict
 * Shapes   x from `quantize7`; weight as in linear_q8_strict
 * Types    i8 in -63 .. 63 times 1 .. 127, which is below the 2^7 up to which the relaxed dot product has
 *          one defined result. Sums of 16 columns start at -64 times the sum of x; their end is at most
 *          8 * 63 * 63 per lane, so that i16, which wraps, holds it exactly. That is why x has 7 bits:
 *          with 8, every 8 columns would have to be widened to i32, and products limit the speed.
 * Order    as linear_q8_strict
 * Limits   as linear_q8_strict
 */
export const q8: Format = {
  name: "linear_q8",
  xBytes: X7.bytes,
  weightBytes: WEIGHT_BYTES.q8,
  groups: { 4: 4, 2: 4, 1: 4 },
  readsAhead: true,
  sums: 2,
  steps: range(4).map((u) => ({
    weights: (f, weight, at) =>
      range(2).map((part) => f.local("v128", v128.load(weight, at + SCALES + 32 * u + 16 * part))),
    x(f, row) {
      const columns = eightColumns(f, row, u);
      if (u % 2 === 1) return columns;
      return [...columns, f.local("v128", v128.load32Splat(row, X7.offsets + 2 * u))];
    },
    add(f, [half, sum], [x0, x1, offsets], [w0, w1], { ones }) {
      const first = i16x8.relaxedDot(x0!, w0!), second = i16x8.relaxedDot(x1!, w1!);
      if (u % 2 === 0) {
        f.set(half!, i16x8.add(i16x8.add(first, offsets!), second));
        return;
      }
      const pairs = i32x4.dotI16x8S(i16x8.add(half!, i16x8.add(first, second)), ones);
      f.set(sum!, u === 1 ? pairs : i32x4.add(sum!, pairs));
    },
  })),
  total: (_x, [, sum]) => sum!,
  scale: X7.scale,
};

/*
 * linear_q4_strict: as linear_q8_strict, with 4-bit weights and 8-bit activations.
 *
 * Source   blocks of 32 as in ggml's Q4_0
 * Shapes   x from `quantize8_strict`; weight [panels, blocks, 4] of 72 bytes: 4 x f16 scale, 4 words of
 *          weights + 8, word u with columns 8u to 8u + 3 in its low and 8u + 4 to 8u + 7 in its high
 *          halves of bytes
 * Types    as linear_q8_strict
 * Order    as linear_q8_strict
 * Limits   as linear_q8_strict
 */
export const q4Strict: Format = {
  name: "linear_q4_strict",
  weightBytes: WEIGHT_BYTES.q4,
  ...wide(
    range(4).map((u) => ({
      weights: (f, weight, at, c) =>
        nibblesAt(f, weight, at + SCALES + 16 * u, c).flatMap((nibbles) =>
          halves(f, f.local("v128", i8x16.sub(nibbles, c.eights)))
        ),
      x: (f, row) =>
        range(2).map((part) => f.local("v128", v128.load64Splat(row, 16 * u + 8 * part))),
      add: addWide(u === 0),
    })),
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
 * Order    as linear_q8_strict
 * Limits   as linear_q8_strict
 */
export const q4: Format = {
  name: "linear_q4",
  xBytes: X8.bytes,
  weightBytes: WEIGHT_BYTES.q4,
  groups: { 8: 4, 4: 4, 2: 4, 1: 4 },
  sums: 1,
  steps: range(4).map((u) => ({
    weights: (f, weight, at, c) => nibblesAt(f, weight, at + SCALES + 16 * u, c),
    x: (f, row) => eightColumns(f, row, u),
    add(f, [sum], x, weights) {
      for (const [part, value] of x.entries()) {
        const products = i16x8.relaxedDot(value, weights[part]!);
        f.set(sum!, u === 0 && part === 0 ? products : i16x8.add(sum!, products));
      }
    },
  })),
  total: (x, [sum]) => i32x4.extaddPairwiseI16x8S(i16x8.add(sum!, v128.load32Splat(x, X8.offsets))),
  scale: X8.scale,
};

/** Columns 8u to 8u + 3 of a row of bytes in every lane of 32 bits, and those after them. */
function eightColumns(f: Func, row: Local<"i32">, u: number): Local<"v128">[] {
  // Engines may check the bounds of every access (Deno does): one load and two shuffles are less.
  const both = f.local("v128", v128.load64Splat(row, 8 * u));
  return range(2).map((lane) => f.local("v128", spread(both, lane)));
}

/** Lanes of 32 bits by number: 0 to 3 of the first vector, 4 to 7 of the second. */
function lanes(...from: readonly number[]): number[] {
  return from.flatMap((l) => [0, 1, 2, 3].map((byte) => 4 * l + byte));
}

/** One lane of 32 bits in all of them. */
function spread(x: Local<"v128">, lane: number): Expr<"v128"> {
  return i8x16.shuffle(x, x, lanes(lane, lane, lane, lane));
}

/** Low and high halves of the bytes of a word. */
function nibblesAt(
  f: Func,
  weight: Local<"i32">,
  at: number,
  { nibbles }: Constants,
): readonly Local<"v128">[] {
  const word = f.local("v128", v128.load(weight, at));
  return [word, i16x8.shrU(word, i32.const(4))].map((x) => f.local("v128", v128.and(x, nibbles)));
}

/** Bytes as i16: those of rows 0 and 1, those of rows 2 and 3. */
function halves(f: Func, bytes: Local<"v128">): Local<"v128">[] {
  return [i16x8.extendLowI8x16S(bytes), i16x8.extendHighI8x16S(bytes)].map((x) =>
    f.local("v128", x)
  );
}

/** Adds i16 products; weights are two vectors for each of x. @param isFirst sets the sums */
function addWide(isFirst: boolean): BlockStep["add"] {
  return (f, sums, x, weights) => {
    for (const [i, weight] of weights.entries()) {
      const products = i32x4.dotI16x8S(x[i >> 1]!, weight), sum = sums[i % 2]!;
      f.set(sum, isFirst && i < 2 ? products : i32x4.add(sum, products));
    }
  };
}

/** i16 operands: rows 0 and 1 in one accumulator, 2 and 3 in another, two lanes each. */
function wide(steps: Format["steps"]): Omit<Format, "name" | "weightBytes"> {
  return {
    xBytes: X16.bytes,
    groups: { 4: 1, 2: 2, 1: 4 },
    sums: 2,
    steps,
    total: (_x, [a, b]) =>
      i32x4.add(
        i8x16.shuffle(a!, b!, lanes(0, 2, 4, 6)),
        i8x16.shuffle(a!, b!, lanes(1, 3, 5, 7)),
      ),
    scale: X16.scale,
  };
}

/** Weight blocks of a GGUF file brought into the layout of linear_blocks.ts. */
import { type Expr, f32x4, i16x8, i32, i32x4, i8x16, v128 } from "../emit/expr.ts";
import { type Func, type Kernel, kernel, type Local } from "../emit/func.ts";
import { plus } from "./_exp.ts";
import { PANEL_ROWS, WEIGHT_BYTES } from "./linear_formats.ts";

/** Bytes of 32 weights of one row in a file: f16 scale, then the integers. */
export const FILE_BYTES = { q8: 34, q4: 18 } as const;

const NIBBLES = 0x0f0f0f0f;

interface Packer {
  /** Stores what four rows' blocks at `from` become, at `to`. */
  block(to: Local<"i32">, from: readonly Local<"i32">[]): void;
  /** @param start the first byte that was read */
  end?(start: Local<"i32">): void;
}

const range = (count: number): number[] => Array.from({ length: count }, (_, i) => i);

/** The largest integer of packed 8-bit weights, and what is added to store them. */
export const Q8_MOST = 63, Q8_OFFSET = 64;

/*
 * pack_q8: Q8_0 blocks rounded to 7 bits, four rows side by side and four such groups in turn, as
 * linear_q8 reads them.
 *
 *   byte 4r + j of word u = 64 + integer of row r of the group, column 4u + j
 *
 * Source   Q8_0 of https://github.com/ggml-org/ggml: 2 bytes f16 scale, 32 x i8
 * Shapes   from [16 * panels, blocks] of 34 bytes; to [panels, blocks, 4] of 136 bytes
 * Types    a block whose integers are -63 .. 63 keeps them and its scale. Others get the scale times
 *          their largest integer / 63, rounded to f16, and integers times old scale / new scale,
 *          rounded, ties to even
 * Order    none: every block by itself
 * Limits   from and to do not overlap. The first word of `from` becomes the largest new scale, as f32:
 *          above 65504 no f16 holds it, and what was written means nothing
 */
export const packQ8: Kernel = build("pack_q8", "q8", (f) => {
  const largest = f.local("v128", v128.zero);
  return {
    block(to, from) {
      for (const [r, row] of from.entries()) packRow(f, to, { r, row, largest });
    },
    end: (start) => f.store(start, f32x4.extractLane(largest, 0)),
  };
});

interface Row {
  readonly r: number;
  readonly row: Local<"i32">;
  readonly largest: Local<"v128">;
}

/** One row's block of 8-bit integers in 7 bits. */
function packRow(f: Func, to: Local<"i32">, { r, row, largest }: Row): void {
  const vector = (value: Expr<"v128">) => f.local("v128", value);
  const values = range(4).flatMap((i) => {
    const wide = vector(v128.load8x8S(row, 2 + 8 * i));
    return [i32x4.extendLowI16x8S(wide), i32x4.extendHighI16x8S(wide)].map((x) =>
      vector(f32x4.convertI32x4S(x))
    );
  });
  const most = vector(v128.zero);
  f.set(most, v128.zero);
  for (const x of values) f.set(most, f32x4.pmax(most, f32x4.abs(x)));
  for (const order of [[2, 3, 0, 1], [1, 0, 3, 2]]) {
    f.set(most, f32x4.pmax(most, i8x16.shuffle(most, most, lanes(order))));
  }
  const bits = f.local("i32", i32.load16U(row));
  const old = vector(f16ToF32(i32x4.splat(i32.and(bits, i32.const(0x7fff)))));
  const limit = f32x4.const(Q8_MOST);
  const scaled = vector(f32x4.div(f32x4.mul(old, most), limit));
  const mask = vector(f32x4.gt(most, limit)); // others stay as they are
  const half = vector(f32ToF16(f, scaled));
  const kept = vector(v128.bitselect(half, i32x4.splat(i32.and(bits, i32.const(0x7fff))), mask));
  f.set(largest, f32x4.pmax(largest, v128.and(scaled, mask)));
  const sign = i32.and(bits, i32.const(0x8000));
  f.store16(to, i32.or(i32x4.extractLane(kept, 0), sign), 2 * r);
  const ratio = vector(v128.bitselect(f32x4.div(old, f16ToF32(half)), f32x4.const(1), mask));
  const integers = values.map((x) => {
    const near = f32x4.pmin(f32x4.pmax(f32x4.mul(x, ratio), f32x4.neg(limit)), limit);
    return vector(i32x4.truncSatF32x4S(f32x4.nearest(near)));
  });
  for (const part of [0, 1]) {
    const [a, b, c, d] = integers.slice(4 * part);
    const bytes = i8x16.narrowI16x8S(i16x8.narrowI32x4S(a!, b!), i16x8.narrowI32x4S(c!, d!));
    const word = vector(i8x16.add(bytes, i8x16.splat(i32.const(Q8_OFFSET))));
    for (const u of range(4)) f.storeLane(to, word, u, 8 + 16 * (4 * part + u) + 4 * r);
  }
}

/** Positive f16 in the low halves of lanes as f32, exact: exponent and fraction in place. */
function f16ToF32(halves: Expr<"v128">): Expr<"v128"> {
  return f32x4.mul(i32x4.shl(halves, i32.const(13)), f32x4.const(2 ** 112));
}

/** Not negative f32 as f16, ties to even. */
function f32ToF16(f: Func, value: Expr<"v128">): Expr<"v128"> {
  const bits = f.local("v128", f32x4.mul(value, f32x4.const(2 ** -112)));
  const odd = v128.and(i32x4.shrU(bits, i32.const(13)), i32x4.splat(i32.const(1)));
  const rounded = i32x4.add(i32x4.add(bits, i32x4.splat(i32.const(0x0fff))), odd);
  return i32x4.shrU(rounded, i32.const(13));
}

/** Lanes of 32 bits in an order, as bytes. */
function lanes(order: readonly number[]): number[] {
  return order.flatMap((lane) => [0, 1, 2, 3].map((byte) => 4 * lane + byte));
}

/*
 * pack_q4: as pack_q8, of Q4_0 blocks, as linear_q4 reads them.
 *
 *   byte 4r + j of word u = integer of row r of the group, column 8u + j, and 16 times that of column
 *   8u + 4 + j
 *
 * Source   Q4_0 of https://github.com/ggml-org/ggml: 2 bytes f16 scale, 16 bytes with columns 0 to 15
 *          in their low and 16 to 31 in their high halves
 * Shapes   from [16 * panels, blocks] of 18 bytes; to [panels, blocks, 4] of 72 bytes
 * Types    bytes are moved, nothing is rounded
 * Order    as pack_q8
 * Limits   from and to do not overlap
 */
export const packQ4: Kernel = build("pack_q4", "q4", (f) => ({
  block: (to, from) => packNibbles(f, to, from),
}));

function packNibbles(f: Func, to: Local<"i32">, from: readonly Local<"i32">[]): void {
  for (const [r, row] of from.entries()) {
    f.store16(to, i32.load16U(row), 2 * r);
    for (const u of range(2)) {
      const first = f.local("i32", i32.load(row, 2 + 8 * u));
      const second = f.local("i32", i32.load(row, 6 + 8 * u));
      const mask = i32.const(NIBBLES), four = i32.const(4);
      const low = i32.or(i32.and(first, mask), i32.shl(i32.and(second, mask), four));
      const high = i32.or(
        i32.and(i32.shrU(first, four), mask),
        i32.shl(i32.and(i32.shrU(second, four), mask), four),
      );
      f.store(to, low, 8 + 16 * u + 4 * r);
      f.store(to, high, 8 + 16 * (u + 2) + 4 * r);
    }
  }
}

function build(
  name: string,
  format: keyof typeof FILE_BYTES,
  packer: (f: Func) => Packer,
): Kernel {
  const signature = { from: "i32", to: "i32", panels: "i32", blocks: "i32" } as const;
  return kernel(name, signature, (f, { from, to, panels, blocks }) => {
    const { block, end } = packer(f);
    const start = f.local("i32", from);
    const p = f.local("i32"), b = f.local("i32"), g = f.local("i32");
    const rowBytes = f.local("i32", i32.mul(blocks, i32.const(FILE_BYTES[format])));
    const rows = range(4).map(() => f.local("i32"));
    f.loop(p, panels, 1, () => {
      f.set(b, i32.const(0));
      f.loop(b, blocks, 1, () => {
        f.set(g, i32.const(0));
        f.loop(g, i32.const(PANEL_ROWS), 4, () => {
          for (const [r, row] of rows.entries()) {
            f.set(row, plus(from, i32.mul(rowBytes, plus(g, r))));
          }
          block(to, rows);
          f.advance(to, WEIGHT_BYTES[format]);
        });
        f.advance(from, FILE_BYTES[format]);
      });
      f.advance(from, i32.mul(rowBytes, i32.const(PANEL_ROWS - 1)));
    });
    end?.(start);
  });
}

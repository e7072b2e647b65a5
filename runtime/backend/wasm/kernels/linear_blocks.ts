/** linear over quantised weights. Kernels for both formats come from one description. */
import { type Expr, f32x4, i16x8, i32, i32x4, i8x16, v128 } from "../emit/expr.ts";
import { type Func, type Kernel, kernel, type Local, type Params } from "../emit/func.ts";
import { plus } from "./_exp.ts";
import { X_BLOCK_BYTES } from "./quantize.ts";

/** Products of signed bytes x and bytes w in 0 .. 15, added up over pairs to 16 bits. */
type Dot = (x: Expr<"v128">, w: Expr<"v128">) => Expr<"v128">;

/**
 * How four rows of 32 weights are stored: 4 scales, then 16-byte words whose byte 4r + j belongs to
 * row r and to column j of the word.
 */
interface Format {
  readonly name: string;
  /** Bytes of one block. */
  readonly bytes: number;
  /** The stored numbers are 2^offset above the weights'. */
  readonly offset: number;
  /** Sets of sums per tile: more of them need more registers than there are. */
  readonly height: number;
  readonly wide: number;
  /** Factors (as powers of two) of the sums that `parts` adds to. */
  readonly shifts: readonly number[];
  /** Splits a word: which bytes of x (from 4 * column) meet which bytes in 0 .. 15 for which sum. */
  readonly words: readonly {
    readonly at: number;
    readonly parts: (word: Expr<"v128">) => readonly {
      readonly column: number;
      readonly bytes: Expr<"v128">;
      readonly sum: number;
    }[];
  }[];
}

const bytesOf = (value: number): Expr<"v128"> => i8x16.splat(i32.const(value));
const range = (count: number): number[] => Array.from({ length: count }, (_, i) => i);

/*
 * linear_q8: y[r, n] = sum over k of x[r, k] * weight[n, k], plus bias[n], with 8-bit integers.
 *
 * Source   blocks of 32 as in ggml's Q8_0; four rows side by side, so that a dot product over bytes
 *          adds to four outputs and no sum over lanes is needed
 * Shapes   x [rows, blocks] from `quantize`; weight [groups, blocks] of 144 bytes: 4 x f32 scale, 8
 *          words of weights + 128; bias, y as in `linear`
 * Types    i8 times u8, exact: a byte is split into halves of 4 bits, which are below the 2^7 up to
 *          which the relaxed dot product has one defined result, and for which the sums of a block
 *          (at most 16 * 127 * 15) fit i16. Scales and sums over blocks in f32.
 * Order    blocks from column 0 up: float(sum of products) * (scale of weight * scale of x) added to
 *          the sum; then the bias. The same for every row, whatever `rows` is, and with or without
 *          relaxed instructions.
 * Limits   columns in multiples of 32; bias = 0 means none. `streaming` is for weights that come from
 *          memory and not from a cache: one group at a time, so that they are one stream.
 */
const q8: Format = {
  name: "linear_q8",
  bytes: 144,
  offset: 7,
  height: 4,
  wide: 4,
  shifts: [0, 4],
  words: range(8).map((u) => ({
    at: 16 + 16 * u,
    parts: (word) => [
      { column: u, bytes: v128.and(word, bytesOf(15)), sum: 0 },
      { column: u, bytes: i8x16.shrU(word, i32.const(4)), sum: 1 },
    ],
  })),
};

/*
 * linear_q4: as linear_q8, with 4-bit weights.
 *
 * Source   blocks of 32 as in ggml's Q4_0
 * Shapes   weight [groups, blocks] of 80 bytes: 4 x f32 scale, 4 words of weights + 8, word u with
 *          columns 8u to 8u + 3 in its low and 8u + 4 to 8u + 7 in its high halves of bytes
 * Types    i8 times 0 .. 15 in i16, exact
 * Order    as linear_q8
 * Limits   as linear_q8
 */
const q4: Format = {
  name: "linear_q4",
  bytes: 80,
  offset: 3,
  height: 4,
  wide: 4,
  shifts: [0],
  words: range(4).map((u) => ({
    at: 16 + 16 * u,
    parts: (word) => [
      { column: 2 * u, bytes: v128.and(word, bytesOf(15)), sum: 0 },
      { column: 2 * u + 1, bytes: i8x16.shrU(word, i32.const(4)), sum: 0 },
    ],
  })),
};

/** The same sums without relaxed SIMD. */
const strictDot: Dot = (x, w) => {
  const low = i16x8.extmulLowI8x16S(x, w), high = i16x8.extmulHighI8x16S(x, w);
  const pick = (first: number) =>
    range(8).flatMap((lane) => [2 * (2 * lane + first), 2 * (2 * lane + first) + 1]);
  return i16x8.add(i8x16.shuffle(low, high, pick(0)), i8x16.shuffle(low, high, pick(1)));
};

/** Both kernels. @param relaxed whether the engine has relaxed SIMD; the results are the same */
export function linearBlocks(relaxed: boolean): readonly Kernel[] {
  const dot = relaxed ? i16x8.relaxedDot : strictDot;
  return [q8, q4].map((format) => build(format, dot));
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
  streaming: "i32",
} as const;

interface Parts extends Params<typeof signature> {
  readonly format: Format;
  readonly dot: Dot;
  readonly n: Local<"i32">;
  readonly r: Local<"i32">;
  readonly rowBytes: Local<"i32">;
  readonly yBytes: Local<"i32">;
  readonly groupBytes: Local<"i32">;
  readonly add: Local<"v128">;
}

function build(format: Format, dot: Dot): Kernel {
  return kernel(format.name, signature, (f, params) => {
    const { weight, rows, blocks, outputs, columns } = params;
    const parts: Parts = {
      ...params,
      format,
      dot,
      n: f.local("i32"),
      r: f.local("i32"),
      rowBytes: f.local("i32", i32.mul(blocks, i32.const(X_BLOCK_BYTES))),
      yBytes: f.local("i32", i32.shl(columns, i32.const(2))),
      groupBytes: f.local("i32", i32.mul(blocks, i32.const(format.bytes))),
      add: f.local("v128"),
    };
    const { n, r, groupBytes } = parts;
    const { height, wide } = format;
    const tall = f.local("i32", i32.and(rows, i32.const(-height)));
    const step = i32.const(4 * wide);
    const whole = f.local("i32");
    f.if(i32.eqz(params.streaming), () => {
      f.set(whole, i32.mul(i32.divU(outputs, step), step));
    });
    const block = (groups: number): void => {
      for (let g = 0; g < groups; g++) {
        f.set(r, i32.const(0));
        f.loop(r, tall, height, () => tile(f, parts, height, [g]));
      }
      f.loop(r, rows, 1, () => tile(f, parts, 1, range(groups)));
      f.advance(weight, i32.mul(groupBytes, i32.const(groups)));
    };
    f.loop(n, whole, 4 * wide, () => block(wide));
    f.loop(n, outputs, 4, () => block(1));
  });
}

/** `height` rows by some groups of outputs, counted from the one at `weight`; one of both is one. */
function tile(f: Func, parts: Parts, height: number, groups: readonly number[]): void {
  const { format, x, weight, r, rowBytes, groupBytes, blocks } = parts;
  const xs = range(height).map((i) => {
    return f.local("i32", plus(x, i32.mul(plus(r, i), rowBytes)));
  });
  const ws = groups.map((g) => f.local("i32", plus(weight, i32.mul(groupBytes, i32.const(g)))));
  const pairs = xs.flatMap((row) => ws.map((w) => ({ row, w })));
  const sums = pairs.map(() => f.local("v128"));
  for (const sum of sums) f.set(sum, v128.zero);
  const integers = pairs.map(() => format.shifts.map(() => f.local("v128")));
  const word = f.local("v128"), b = f.local("i32");
  f.set(b, i32.const(0));
  f.loop(b, blocks, 1, () => {
    for (const sum of integers.flat()) f.set(sum, v128.zero);
    for (const { at, parts: split } of format.words) {
      for (const [g, w] of ws.entries()) {
        f.set(word, v128.load(w, at));
        for (const { column, bytes, sum } of split(word)) {
          const shared = f.local("v128", bytes);
          for (const [i, row] of xs.entries()) {
            const acc = integers[i * ws.length + g]![sum]!;
            const products = parts.dot(v128.load32Splat(row, 4 * column), shared);
            f.set(acc, i16x8.add(acc, products));
          }
        }
      }
    }
    for (const [i, { row, w }] of pairs.entries()) {
      // Stored weights are 2^offset too large: take that times the sum of x off again.
      const offset = i32x4.shl(v128.load32Splat(row, 36), i32.const(format.offset));
      const exact = format.shifts.reduce((total: Expr<"v128">, shift, s) => {
        const sum = i32x4.extaddPairwiseI16x8S(integers[i]![s]!);
        return i32x4.add(total, shift === 0 ? sum : i32x4.shl(sum, i32.const(shift)));
      }, offset);
      const scale = f32x4.mul(v128.load(w), v128.load32Splat(row, 32));
      f.set(sums[i]!, f32x4.add(sums[i]!, f32x4.mul(f32x4.convertI32x4S(exact), scale)));
    }
    for (const pointer of xs) f.advance(pointer, X_BLOCK_BYTES);
    for (const pointer of ws) f.advance(pointer, format.bytes);
  });
  store(f, parts, sums, height, groups);
}

/** Adds the bias and writes the outputs that exist. */
function store(
  f: Func,
  { bias, y, n, r, yBytes, outputs, add }: Parts,
  sums: readonly Local<"v128">[],
  height: number,
  groups: readonly number[],
): void {
  for (let i = 0; i < height; i++) {
    for (const [j, g] of groups.entries()) {
      const first = f.local("i32", plus(n, 4 * g));
      const row = plus(y, i32.mul(plus(r, i), yBytes));
      const out = f.local("i32", plus(row, i32.shl(first, i32.const(2))));
      const sum = sums[i * groups.length + j]!;
      const left = f.local("i32", i32.sub(outputs, first));
      f.if(bias, () => f.set(add, v128.load(plus(bias, i32.shl(first, i32.const(2))))));
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
    }
  }
}

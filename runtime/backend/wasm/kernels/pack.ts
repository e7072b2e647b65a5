/** Weight blocks of a GGUF file brought into the layout of linear_blocks.ts. */
import { type Expr, i32 } from "../emit/expr.ts";
import { type Func, type Kernel, kernel, type Local } from "../emit/func.ts";
import { plus } from "./_exp.ts";
import { PANEL_ROWS, WEIGHT_BYTES } from "./linear_formats.ts";

/** Bytes of 32 weights of one row in a file: f16 scale, then the integers. */
export const FILE_BYTES = { q8: 34, q4: 18 } as const;

const NIBBLES = 0x0f0f0f0f;

/** Stores what four rows' blocks at `from` become, at `to`. */
type Block = (f: Func, to: Local<"i32">, from: readonly Expr<"i32">[]) => void;

const range = (count: number): number[] => Array.from({ length: count }, (_, i) => i);

/*
 * pack_q8: Q8_0 blocks of four rows side by side and four such groups in turn, as linear_q8 reads them.
 *
 *   byte 4r + j of word u = integer of row r of the group, column 4u + j
 *
 * Source   Q8_0 of https://github.com/ggml-org/ggml: 2 bytes f16 scale, 32 x i8
 * Shapes   from [16 * panels, blocks] of 34 bytes; to [panels, blocks, 4] of 136 bytes
 * Types    bytes are moved, nothing is rounded
 * Order    none: every byte by itself
 * Limits   from and to do not overlap
 */
export const packQ8: Kernel = build("pack_q8", "q8", (f, to, from) => {
  for (const [r, row] of from.entries()) {
    f.store16(to, i32.load16U(row), 2 * r);
    for (const u of range(8)) f.store(to, i32.load(row, 2 + 4 * u), 8 + 16 * u + 4 * r);
  }
});

/*
 * pack_q4: as pack_q8, of Q4_0 blocks, as linear_q4 reads them.
 *
 *   byte 4r + j of word u = integer of row r of the group, column 8u + j, and 16 times that of column
 *   8u + 4 + j
 *
 * Source   Q4_0 of https://github.com/ggml-org/ggml: 2 bytes f16 scale, 16 bytes with columns 0 to 15
 *          in their low and 16 to 31 in their high halves
 * Shapes   from [16 * panels, blocks] of 18 bytes; to [panels, blocks, 4] of 72 bytes
 * Types    as pack_q8
 * Order    as pack_q8
 * Limits   as pack_q8
 */
export const packQ4: Kernel = build("pack_q4", "q4", (f, to, from) => {
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
});

function build(name: string, format: keyof typeof FILE_BYTES, block: Block): Kernel {
  const signature = { from: "i32", to: "i32", panels: "i32", blocks: "i32" } as const;
  return kernel(name, signature, (f, { from, to, panels, blocks }) => {
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
          block(f, to, rows);
          f.advance(to, WEIGHT_BYTES[format]);
        });
        f.advance(from, FILE_BYTES[format]);
      });
      f.advance(from, i32.mul(rowBytes, i32.const(PANEL_ROWS - 1)));
    });
  });
}

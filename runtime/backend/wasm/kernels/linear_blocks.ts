/** linear over quantised weights. All kernels are tiles of one shape over the formats. */
import { type Expr, f32x4, i32, i32x4, i8x16, v128 } from "../emit/expr.ts";
import { type Func, type Kernel, kernel, type Local, type Params } from "../emit/func.ts";
import { plus } from "./_exp.ts";
import {
  type Constants,
  type Format,
  GROUPS,
  HEIGHTS,
  PANEL_ROWS,
  q4,
  q4Strict,
  q8,
  q8Strict,
  range,
} from "./linear_formats.ts";

/** The kernels of a module. @param relaxed whether the engine has relaxed SIMD; same results */
export function linearBlocks(relaxed: boolean): readonly Kernel[] {
  return (relaxed ? [q8, q4] : [q8Strict, q4Strict]).map(build);
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
  /** The last line of cache of the weights. */
  readonly last: Local<"i32">;
  /** What was read ahead, so that engines do not leave it out. */
  readonly touched: Local<"i32">;
  /** For f16 scales: their bits in f32, and 2^112. */
  readonly halfBits: Local<"v128">;
  readonly halfUnit: Local<"v128">;
}

/** Bytes of a line of cache and of a page of memory, as most processors have them. */
const LINE = 64, PAGE = 4096;

function build(format: Format): Kernel {
  return kernel(format.name, signature, (f, params) => {
    const { weight, rows, blocks, outputs, columns, y } = params;
    const parts: Parts = {
      ...params,
      format,
      n: f.local("i32"),
      r: f.local("i32"),
      rowBytes: f.local("i32", i32.mul(blocks, i32.const(format.xBytes))),
      yBytes: f.local("i32", i32.shl(columns, i32.const(2))),
      add: f.local("v128"),
      last: f.local("i32"),
      touched: f.local("i32"),
      nibbles: f.local("v128", i8x16.splat(i32.const(15))),
      eights: f.local("v128", i8x16.splat(i32.const(8))),
      offsets: f.local("v128", i8x16.splat(i32.const(64))),
      ones: f.local("v128", i32x4.splat(i32.const(0x00010001))),
      halfBits: f.local("v128", i32x4.splat(i32.const(0x8fffe000))),
      halfUnit: f.local("v128", f32x4.const(2 ** 112)),
    };
    const { n, r, last, touched } = parts;
    const panelBytes = f.local("i32", i32.mul(blocks, i32.const(GROUPS * format.weightBytes)));
    const panels = i32.divU(plus(outputs, PANEL_ROWS - 1), i32.const(PANEL_ROWS));
    f.set(last, plus(plus(weight, i32.mul(panels, panelBytes)), -LINE));
    f.loop(n, outputs, PANEL_ROWS, () => {
      f.set(r, i32.const(0));
      for (const height of HEIGHTS) {
        const groups = format.groups[height];
        if (groups === undefined) continue;
        const start = f.local("i32", r), end = f.local("i32", i32.and(rows, i32.const(-height)));
        for (let first = 0; first < GROUPS; first += groups) {
          f.set(r, start);
          f.loop(r, end, height, () => tile(f, parts, { height, first, groups }));
        }
      }
      f.advance(weight, panelBytes);
    });
    // Writes what is there: nothing but a use of what was read.
    f.if(i32.eq(touched, i32.const(0x7fc00001)), () => f.store(y, i32.load(y)));
  });
}

/**
 * Reads one word a page ahead of the weights. Processors fetch ahead of a stream by themselves, but
 * only within a page of 4 KiB; without this a stream out of memory stands still at each.
 */
function touchAhead(
  f: Func,
  { format, last, touched }: Parts,
  w: Local<"i32">,
  b: Local<"i32">,
): void {
  const every = 2 ** Math.floor(Math.log2(PAGE / (GROUPS * format.weightBytes)));
  f.if(i32.eqz(i32.and(b, i32.const(every - 1))), () => {
    const at = f.local("i32", plus(w, PAGE));
    f.if(i32.gtU(at, last), () => f.set(at, last));
    f.set(touched, i32.or(touched, i32.load(at)));
  });
}

/** `height` rows by `groups` groups of four outputs of a panel, from number `first` on. */
function tile(
  f: Func,
  parts: Parts,
  { height, first, groups }: Readonly<Record<"height" | "first" | "groups", number>>,
): void {
  const { format, x, r, rowBytes, blocks } = parts;
  const xs = range(height).map((i) => f.local("i32", plus(x, i32.mul(plus(r, i), rowBytes))));
  const w = f.local("i32", parts.weight);
  const ats = range(groups).map((g) => (first + g) * format.weightBytes);
  const cells = xs.flatMap((row, i) =>
    ats.map((_, g) => ({
      row,
      g,
      i,
      total: f.local("v128", v128.zero),
      sums: range(format.sums).map(() => f.local("v128")),
    }))
  );
  const b = f.local("i32", i32.const(0));
  f.loop(b, blocks, 1, () => {
    if (format.readsAhead) touchAhead(f, parts, w, b);
    for (const step of format.steps) {
      const weights = ats.map((at) => step.weights(f, w, at, parts));
      for (const [i, row] of xs.entries()) {
        const values = step.x(f, row);
        for (const { g, sums } of cells.filter((cell) => cell.i === i)) {
          step.add(f, sums, values, weights[g]!, parts);
        }
      }
    }
    const scales = ats.map((at) => f.local("v128", scalesAt(w, at, parts)));
    for (const { row, g, total, sums } of cells) {
      const exact = f32x4.convertI32x4S(format.total(row, sums));
      const scale = f32x4.mul(scales[g]!, v128.load32Splat(row, format.scale));
      f.set(total, f32x4.add(total, f32x4.mul(exact, scale)));
    }
    for (const pointer of xs) f.advance(pointer, format.xBytes);
    f.advance(w, GROUPS * format.weightBytes);
  });
  for (const g of range(groups)) {
    store(f, parts, first + g, cells.filter((cell) => cell.g === g).map((cell) => cell.total));
  }
}

/** Four f16 as f32, exact: exponent and fraction in place, then times 2^(127 - 15). */
function scalesAt(weight: Local<"i32">, at: number, { halfBits, halfUnit }: Parts): Expr<"v128"> {
  const shifted = i32x4.shl(v128.load16x4S(weight, at), i32.const(13));
  return f32x4.mul(v128.and(shifted, halfBits), halfUnit);
}

/** Adds the bias and writes the outputs that exist. */
function store(
  f: Func,
  { bias, y, n, r, yBytes, outputs, add }: Parts,
  group: number,
  sums: readonly Local<"v128">[],
): void {
  const first = f.local("i32", plus(n, 4 * group));
  const left = f.local("i32", i32.sub(outputs, first));
  const offset = f.local("i32", i32.shl(first, i32.const(2)));
  const out = f.local("i32", plus(plus(y, i32.mul(r, yBytes)), offset));
  f.if(i32.ltU(first, outputs), () => {
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
  });
}

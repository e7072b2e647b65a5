/**
 * Quantised weights in memory: panels of 16 rows as kernels/linear_blocks.ts reads
 * them, made from the blocks of a GGUF file or from f32 values, which become such blocks first. 4-bit
 * integers and scales are kept, 8-bit ones are rounded to 7 bits (kernels/pack.ts).
 */
import { ShapeError } from "../../errors.ts";
import { f16Values } from "../../formats/floats.ts";
import type { QuantizedDType, RowSource } from "../backend.ts";
import type { Heap } from "./heap.ts";
import { PANEL_ROWS, WEIGHT_BYTES } from "./kernels/linear_formats.ts";
import type { Kernels } from "./kernels/mod.ts";
import { FILE_BYTES, Q8_MOST, Q8_OFFSET } from "./kernels/pack.ts";

/** Columns of a block. */
export const BLOCK = 32;
/** Files are copied so many bytes at a time. */
const CHUNK_BYTES = 1 << 20;

interface Format {
  readonly pack: "packQ8" | "packQ4";
  /** Writes the 32 values from index `from` as a block of a file. */
  encode(values: Float32Array, from: number, into: DataView, at: number): void;
  /** One integer of row `lane`, column k of the packed block at `at`. */
  get(bytes: Uint8Array, at: number, lane: number, k: number): number;
}

/** -63 .. 63 in 7 bits of 8: the largest value becomes 63. As ggml's Q8_0 but for that. */
const q8: Format = {
  pack: "packQ8",
  encode(values, from, into, at) {
    let most = 0;
    for (let k = 0; k < BLOCK; k++) most = Math.max(most, Math.abs(values[from + k]!));
    const scale = writeScale(into, at, most / Q8_MOST);
    for (let k = 0; k < BLOCK; k++) {
      into.setInt8(at + 2 + k, divide(values[from + k]!, scale, -Q8_MOST, Q8_MOST));
    }
  },
  get: (bytes, at, lane, k) => bytes[at + 8 + 16 * (k >> 2) + 4 * lane + (k & 3)]! - Q8_OFFSET,
};

/** -8 .. 7 in 4 bits: the value farthest from 0 becomes -8. As ggml's Q4_0. */
const q4: Format = {
  pack: "packQ4",
  encode(values, from, into, at) {
    let extreme = 0;
    for (let k = from; k < from + BLOCK; k++) {
      if (Math.abs(values[k]!) > Math.abs(extreme)) extreme = values[k]!;
    }
    const scale = writeScale(into, at, extreme / -8);
    for (let k = 0; k < BLOCK / 2; k++) {
      const low = divide(values[from + k]!, scale, -8, 7) + 8;
      const high = divide(values[from + k + BLOCK / 2]!, scale, -8, 7) + 8;
      into.setUint8(at + 2 + k, low | (high << 4));
    }
  },
  get: (bytes, at, lane, k) =>
    ((bytes[at + 8 + 16 * (k >> 3) + 4 * lane + (k & 3)]! >> (k & 4)) & 15) - 8,
};

const formats: Readonly<Record<QuantizedDType, Format>> = { q8, q4 };

/** Stores a scale in half precision and returns what was stored. @throws {RangeError} above its range */
function writeScale(into: DataView, at: number, scale: number): number {
  into.setFloat16(at, scale, true);
  const stored = into.getFloat16(at, true);
  if (!Number.isFinite(stored)) requireHalf(Math.abs(scale));
  return stored;
}

/** @throws {RangeError} if a scale is above the range of half precision */
function requireHalf(scale: number): void {
  if (scale < 65520) return; // rounded to 65504
  throw new RangeError(`Cannot quantise weights: a scale of ${scale} is above 65504`);
}

function divide(value: number, scale: number, least: number, most: number): number {
  const q = scale === 0 ? 0 : Math.round(value / scale);
  return Math.min(most, Math.max(least, q));
}

const panelBytes = (dtype: QuantizedDType, cols: number): number =>
  PANEL_ROWS / 4 * (cols / BLOCK) * WEIGHT_BYTES[dtype];

/** @throws {ShapeError} if a row is not a whole number of blocks */
export function blockBytes(dtype: QuantizedDType, shape: readonly number[]): number {
  const [rows, cols] = shape;
  if (shape.length !== 2 || rows === undefined || cols === undefined || cols % BLOCK !== 0) {
    throw new ShapeError(
      dtype,
      `weights need a multiple of ${BLOCK} columns, shape is [${shape.join(", ")}]`,
    );
  }
  return Math.ceil(rows / PANEL_ROWS) * panelBytes(dtype, cols);
}

/**
 * Rows of a whole matrix in memory.
 *
 * @throws {RangeError} if they are not as many values as the shape says
 */
export function rowsInMemory(
  dtype: QuantizedDType,
  [rows, cols]: readonly [rows: number, cols: number],
  given: Float32Array | Uint8Array,
): RowSource {
  const isFloat = given instanceof Float32Array;
  const size = isFloat ? given.length : given.length / FILE_BYTES[dtype] * BLOCK;
  if (size !== rows * cols) {
    throw new RangeError(`Cannot make a tensor of [${rows}, ${cols}] from ${size} values`);
  }
  const part =
    <T>(array: { subarray(from: number, to: number): T }, row: number) =>
    (first: number, count: number): T => array.subarray(first * row, (first + count) * row);
  if (isFloat) return { kind: "f32", rows: part(given, cols) };
  return { kind: "gguf", rows: part(given, cols / BLOCK * FILE_BYTES[dtype]) };
}

/** Writes [rows, cols] at `address`, where there is room for {@link blockBytes}. */
export function packBlocks(
  { heap, kernels }: { readonly heap: Heap; readonly kernels: Kernels },
  address: number,
  dtype: QuantizedDType,
  [rows, cols]: readonly [rows: number, cols: number],
  source: RowSource,
): void {
  if (rows * cols === 0) return;
  const perRow = cols / BLOCK, rowBytes = perRow * FILE_BYTES[dtype];
  const whole = (count: number) => Math.ceil(count / PANEL_ROWS) * PANEL_ROWS;
  const each = whole(CHUNK_BYTES / rowBytes);
  const room = Math.min(each, whole(rows)) * rowBytes;
  const scratch = heap.take("weights being packed", room);
  try {
    for (let row = 0; row < rows; row += each) {
      const count = Math.min(each, rows - row), size = count * rowBytes;
      const bytes = source.kind === "gguf"
        ? source.rows(row, count)
        : encode(dtype, source.rows(row, count));
      heap.bytes.set(bytes, scratch);
      heap.bytes.fill(0, scratch + size, scratch + whole(count) * rowBytes); // what fills up a panel
      const to = address + row / PANEL_ROWS * panelBytes(dtype, cols);
      kernels[formats[dtype].pack](scratch, to, whole(count) / PANEL_ROWS, perRow);
      if (dtype === "q8") requireHalf(heap.floats[scratch / 4]!);
    }
  } finally {
    heap.give(scratch, room);
  }
}

function encode(dtype: QuantizedDType, values: Float32Array): Uint8Array {
  const blocks = values.length / BLOCK, bytes = new Uint8Array(blocks * FILE_BYTES[dtype]);
  const view = new DataView(bytes.buffer);
  for (let b = 0; b < blocks; b++) {
    formats[dtype].encode(values, b * BLOCK, view, b * FILE_BYTES[dtype]);
  }
  return bytes;
}

/** Dequantises one row into floats from index `to`. */
export function unpackRow(
  heap: Heap,
  address: number,
  dtype: QuantizedDType,
  { row, cols, to }: { readonly row: number; readonly cols: number; readonly to: number },
): void {
  const { bytes, floats } = heap;
  const perRow = cols / BLOCK, lane = row & 3;
  const panel = address + Math.floor(row / PANEL_ROWS) * panelBytes(dtype, cols);
  const groups = PANEL_ROWS / 4, group = (row >>> 2) % groups;
  for (let b = 0; b < perRow; b++) {
    const at = panel + (groups * b + group) * WEIGHT_BYTES[dtype];
    const scale = f16Values[bytes[at + 2 * lane]! | (bytes[at + 2 * lane + 1]! << 8)]!;
    for (let k = 0; k < BLOCK; k++) {
      floats[to + b * BLOCK + k] = scale * formats[dtype].get(bytes, at, lane, k);
    }
  }
}

/**
 * Quantised weights in memory: blocks of four rows by 32 columns as kernels/linear_blocks.ts reads
 * them, made from f32 values or from the blocks of a GGUF file, whose integers and scales are kept.
 */
import { ShapeError } from "../../errors.ts";
import { f16Values } from "../../formats/floats.ts";
import type { QuantizedDType } from "../backend.ts";
import type { Heap } from "./heap.ts";

/** Columns of a block. */
export const BLOCK = 32;

interface Format {
  /** Bytes of four rows by 32 columns. */
  readonly bytes: number;
  /** Bytes of one row of a block in a GGUF file. */
  readonly fileBytes: number;
  /** Scale and integers of 32 values. */
  quantize(values: Float32Array, into: Int8Array): number;
  /** The same of a block of the file. */
  unpack(file: Uint8Array, at: number, into: Int8Array): number;
  /** Writes or reads one integer of row `lane`, column k of the block at `at`. */
  put(bytes: Uint8Array, at: number, lane: number, k: number, value: number): void;
  get(bytes: Uint8Array, at: number, lane: number, k: number): number;
}

const half = (bytes: Uint8Array, at: number): number =>
  f16Values[bytes[at]! | (bytes[at + 1]! << 8)]!;

const byteAt8 = (at: number, lane: number, k: number): number =>
  at + 16 + 16 * (k >> 2) + 4 * lane + (k & 3);
const byteAt4 = (at: number, lane: number, k: number): number =>
  at + 16 + 16 * (k >> 3) + 4 * lane + (k & 3);

/** -128 .. 127 in 8 bits: the largest value becomes 127. As ggml's Q8_0, with the scale in f32. */
const q8: Format = {
  bytes: 144,
  fileBytes: 34,
  quantize(values, into) {
    let most = 0;
    for (let k = 0; k < BLOCK; k++) most = Math.max(most, Math.abs(values[k]!));
    return divide(values, Math.fround(most / 127), -127, 127, into);
  },
  unpack(file, at, into) {
    for (let k = 0; k < BLOCK; k++) into[k] = file[at + 2 + k]!;
    return half(file, at);
  },
  put: (bytes, at, lane, k, value) => void (bytes[byteAt8(at, lane, k)] = value + 128),
  get: (bytes, at, lane, k) => bytes[byteAt8(at, lane, k)]! - 128,
};

/** -8 .. 7 in 4 bits: the value farthest from 0 becomes -8. As ggml's Q4_0, with the scale in f32. */
const q4: Format = {
  bytes: 80,
  fileBytes: 18,
  quantize(values, into) {
    let extreme = 0;
    for (let k = 0; k < BLOCK; k++) {
      if (Math.abs(values[k]!) > Math.abs(extreme)) extreme = values[k]!;
    }
    return divide(values, Math.fround(extreme / -8), -8, 7, into);
  },
  unpack(file, at, into) {
    for (let k = 0; k < BLOCK; k++) {
      const byte = file[at + 2 + (k & 15)]!;
      into[k] = (k < 16 ? byte & 15 : byte >> 4) - 8;
    }
    return half(file, at);
  },
  put: (bytes, at, lane, k, value) => void (bytes[byteAt4(at, lane, k)]! |= (value + 8) << (k & 4)),
  get: (bytes, at, lane, k) => ((bytes[byteAt4(at, lane, k)]! >> (k & 4)) & 15) - 8,
};

const formats: Readonly<Record<QuantizedDType, Format>> = { q8, q4 };

function divide(
  values: Float32Array,
  scale: number,
  least: number,
  most: number,
  into: Int8Array,
): number {
  for (let k = 0; k < BLOCK; k++) {
    const q = scale === 0 ? 0 : Math.round(values[k]! / scale);
    into[k] = Math.min(most, Math.max(least, q));
  }
  return scale;
}

/** @throws {ShapeError} if a row is not a whole number of blocks */
export function blockBytes(dtype: QuantizedDType, shape: readonly number[]): number {
  const [rows, cols] = shape;
  if (shape.length !== 2 || rows === undefined || cols === undefined || cols % BLOCK !== 0) {
    throw new ShapeError(
      dtype,
      `weights need a multiple of ${BLOCK} columns, shape is [${shape.join(", ")}]`,
    );
  }
  return Math.ceil(rows / 4) * (cols / BLOCK) * formats[dtype].bytes;
}

/** Where the weights come from. */
export type BlockSource =
  | { readonly kind: "f32"; readonly values: Float32Array }
  /** Q8_0 for q8, Q4_0 for q4. */
  | { readonly kind: "gguf"; readonly bytes: Uint8Array };

/**
 * Writes [rows, cols] at `address`, where there is room for {@link blockBytes}.
 *
 * @throws {RangeError} if the source is not as long as the shape says
 */
export function packBlocks(
  heap: Heap,
  address: number,
  dtype: QuantizedDType,
  [rows, cols]: readonly [rows: number, cols: number],
  source: BlockSource,
): void {
  const format = formats[dtype];
  const perRow = cols / BLOCK;
  const got = source.kind === "f32"
    ? source.values.length
    : source.bytes.length / format.fileBytes * BLOCK;
  if (got !== rows * cols) {
    throw new RangeError(`Cannot make a tensor of [${rows}, ${cols}] from ${got} values`);
  }
  const { bytes, floats } = heap;
  bytes.fill(0, address, address + blockBytes(dtype, [rows, cols]));
  const integers = new Int8Array(BLOCK);
  for (let row = 0; row < rows; row++) {
    const lane = row & 3;
    for (let b = 0; b < perRow; b++) {
      const block = row * perRow + b;
      const at = address + ((row >>> 2) * perRow + b) * format.bytes;
      const scale = source.kind === "f32"
        ? format.quantize(source.values.subarray(block * BLOCK, (block + 1) * BLOCK), integers)
        : format.unpack(source.bytes, block * format.fileBytes, integers);
      floats[at / 4 + lane] = scale;
      for (let k = 0; k < BLOCK; k++) format.put(bytes, at, lane, k, integers[k]!);
    }
  }
}

/** Dequantises one row into floats from index `to`. */
export function unpackRow(
  heap: Heap,
  address: number,
  dtype: QuantizedDType,
  { row, cols, to }: { readonly row: number; readonly cols: number; readonly to: number },
): void {
  const format = formats[dtype];
  const { bytes, floats } = heap;
  const perRow = cols / BLOCK, lane = row & 3;
  for (let b = 0; b < perRow; b++) {
    const at = address + ((row >>> 2) * perRow + b) * format.bytes;
    const scale = floats[at / 4 + lane]!;
    for (let k = 0; k < BLOCK; k++) {
      floats[to + b * BLOCK + k] = scale * format.get(bytes, at, lane, k);
    }
  }
}

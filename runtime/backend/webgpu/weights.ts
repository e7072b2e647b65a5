/**
 * Uploads tensors in the layouts the kernels read, cut by rows where one binding is too small.
 *
 * f16: pairs in words. q8: four integers per word; q4: eight integers plus 8 per word, columns 0 to
 * 3 in the low and 4 to 7 in the high halves of its bytes. Scales of quantised rows, f32, one per 32
 * columns, follow the integers of all rows of a shard.
 */
import { ShapeError } from "../../errors.ts";
import { f16Values } from "../../formats/floats.ts";
import type { DType, RowSource } from "../backend.ts";
import { elements } from "../cpu/tensor.ts";
import type { Memory } from "./memory.ts";
import { aligned } from "./memory.ts";
import type { Shard } from "./tensor.ts";

/** Columns that share a scale. */
export const BLOCK = 32;
/** Bytes of 32 values in a GGUF file. */
const Q8_0_BYTES = 34, Q4_0_BYTES = 18;
/** Values are packed and sent about so many bytes at a time; the queue copies what it is given. */
const PIECE_BYTES = 16 << 20;

/** Where values come from; GGUF blocks are Q8_0 for q8, Q4_0 for q4. */
export type Source = { readonly kind: "zeros" } | RowSource;

/** Some rows: f32 values or GGUF blocks. */
type Piece = { readonly values: Float32Array } | { readonly blocks: Uint8Array };

/** Packed rows, zero at first. */
interface Packed {
  readonly bytes: Uint8Array;
  readonly scales: Float32Array;
}

interface Packing {
  /** Bytes of one row without scales. */
  rowBytes(cols: number): number;
  /** Writes `count` values. */
  pack(piece: Piece, count: number, into: Packed): void;
  /** Whether rows have scales. */
  readonly hasScales: boolean;
}

const q8: Packing = {
  hasScales: true,
  rowBytes: (cols) => cols,
  pack(piece, count, { bytes, scales }) {
    const integers = new Int8Array(bytes.buffer, bytes.byteOffset, bytes.length);
    for (let b = 0, at = 0; at < count; b++, at += BLOCK) {
      if ("blocks" in piece) {
        scales[b] = half(piece.blocks, b * Q8_0_BYTES);
        bytes.set(piece.blocks.subarray(b * Q8_0_BYTES + 2, (b + 1) * Q8_0_BYTES), at);
        continue;
      }
      const { values } = piece;
      let most = 0;
      for (let k = at; k < at + BLOCK; k++) most = Math.max(most, Math.abs(values[k]!));
      const scale = scales[b] = Math.fround(most / 127);
      if (scale === 0) continue;
      for (let k = at; k < at + BLOCK; k++) {
        integers[k] = clip(Math.round(values[k]! / scale), -127, 127);
      }
    }
  },
};

const q4: Packing = {
  hasScales: true,
  rowBytes: (cols) => cols / 2,
  pack(piece, count, { bytes, scales }) {
    const put = (b: number, k: number, q: number) => {
      bytes[b * 16 + (k >> 3) * 4 + (k & 3)]! |= q << (k & 4);
    };
    for (let b = 0, at = 0; at < count; b++, at += BLOCK) {
      if ("blocks" in piece) {
        scales[b] = half(piece.blocks, b * Q4_0_BYTES);
        for (let k = 0; k < BLOCK; k++) {
          const byte = piece.blocks[b * Q4_0_BYTES + 2 + (k & 15)]!;
          put(b, k, k < 16 ? byte & 15 : byte >> 4);
        }
        continue;
      }
      const { values } = piece;
      let extreme = 0;
      for (let k = at; k < at + BLOCK; k++) {
        if (Math.abs(values[k]!) > Math.abs(extreme)) extreme = values[k]!;
      }
      const scale = scales[b] = Math.fround(extreme / -8);
      for (let k = 0; k < BLOCK; k++) {
        put(b, k, clip(scale === 0 ? 0 : Math.round(values[at + k]! / scale), -8, 7) + 8);
      }
    }
  },
};

const f16: Packing = {
  hasScales: false,
  rowBytes: (cols) => 2 * cols,
  pack(piece, count, { bytes }) {
    const { values } = floatsOf(piece);
    new Float16Array(bytes.buffer, bytes.byteOffset, count).set(values.subarray(0, count));
  },
};

const f32: Packing = {
  hasScales: false,
  rowBytes: (cols) => 4 * cols,
  pack(piece, count, { bytes }) {
    const { values } = floatsOf(piece);
    new Float32Array(bytes.buffer, bytes.byteOffset, count).set(values.subarray(0, count));
  },
};

function floatsOf(piece: Piece) {
  if ("values" in piece) return piece;
  throw new TypeError("GGUF blocks are for weights in q8 and q4");
}

const packings: Readonly<Partial<Record<DType, Packing>>> = { f32, f16, q8, q4 };

function half(bytes: Uint8Array, at: number): number {
  return f16Values[bytes[at]! | (bytes[at + 1]! << 8)]!;
}

function clip(value: number, least: number, most: number): number {
  return Math.min(most, Math.max(least, value));
}

/** Bytes of a tensor on the GPU, scales and alignment included. */
export function tensorBytes(shape: readonly number[], dtype: DType): number {
  const packing = packings[dtype] ?? f32;
  const cols = shape.at(-1) ?? 1;
  const rows = cols === 0 ? 0 : elements("tensor", shape) / cols;
  const scales = packing.hasScales ? 4 * rows * cols / BLOCK : 0;
  return aligned(rows * packing.rowBytes(cols)) + (packing.hasScales ? aligned(scales) : 0);
}

/** What an upload needs. */
export interface UploadTarget {
  readonly memory: Memory;
  readonly device: GPUDevice;
  readonly bindingBytes: number;
}

/**
 * @throws {ShapeError} if the type needs another number of columns
 * @throws {RangeError} if the source is not as long as the shape says, or does not fit the budget
 */
export function uploadShards(
  { memory, device, bindingBytes }: UploadTarget,
  label: string,
  shape: readonly number[],
  dtype: DType,
  source: Source,
): Shard[] {
  const packing = packings[dtype];
  if (packing === undefined) {
    throw new TypeError(`Cannot make tensor ${label}: the backend has no weights in ${dtype}`);
  }
  const [rows, cols] = asMatrix(label, shape, dtype);
  const rowBytes = packing.rowBytes(cols) + (packing.hasScales ? 4 * cols / BLOCK : 0);
  const most = Math.max(1, Math.floor((bindingBytes - 256) / Math.max(1, rowBytes)));
  const shards: Shard[] = [];
  try {
    for (let first = 0; first < rows; first += most) {
      const count = Math.min(most, rows - first);
      const body = aligned(count * packing.rowBytes(cols));
      const scales = packing.hasScales ? body : 0;
      const bytes = packing.hasScales ? body + 4 * count * cols / BLOCK : body;
      const range = memory.range(label, bytes);
      const shard = { first, rows: count, range, scales };
      shards.push(shard);
      if (source.kind === "zeros") clear(device, shard);
      else send(device.queue, packing, shard, { cols, dtype, source });
    }
  } catch (error) {
    for (const { range } of shards) range[Symbol.dispose]();
    throw error;
  }
  return shards;
}

/** Zeros: memory of a chunk may have been used before. */
function clear(device: GPUDevice, { range: { buffer, offset, size } }: Shard): void {
  const encoder = device.createCommandEncoder({ label: "zeros" });
  encoder.clearBuffer(buffer.raw, offset, size);
  device.queue.submit([encoder.finish()]);
}

function send(
  queue: GPUQueue,
  packing: Packing,
  { first, rows, range, scales }: Shard,
  { cols, dtype, source }: {
    readonly cols: number;
    readonly dtype: DType;
    readonly source: RowSource;
  },
): void {
  const write = (offset: number, data: Uint8Array<ArrayBuffer>) => {
    if (data.length === 0) return;
    queue.writeBuffer(range.buffer.raw, range.offset + offset, data);
  };
  const rowBytes = packing.rowBytes(cols), rowScales = packing.hasScales ? 4 * cols / BLOCK : 0;
  // A piece begins and ends at a multiple of 4 bytes: four rows always do.
  const step = Math.max(4, Math.floor(PIECE_BYTES / Math.max(1, rowBytes) / 4) * 4);
  for (let from = 0; from < rows; from += step) {
    const to = Math.min(rows, from + step);
    const bytes = new Uint8Array(Math.ceil((to - from) * rowBytes / 4) * 4);
    const scaleBytes = new Uint8Array((to - from) * rowScales);
    const piece = source.kind === "f32"
      ? { values: source.rows(first + from, to - from) }
      : { blocks: source.rows(first + from, to - from) };
    requireLength(piece, (to - from) * cols, dtype);
    packing.pack(piece, (to - from) * cols, {
      bytes: bytes.subarray(0, (to - from) * rowBytes),
      scales: new Float32Array(scaleBytes.buffer),
    });
    write(from * rowBytes, bytes);
    write(scales + from * rowScales, scaleBytes);
    queue.submit([]); // lets the copy begin; in one piece an upload takes nearly three times as long
  }
}

/** Vectors count as one row. */
function asMatrix(label: string, shape: readonly number[], dtype: DType) {
  const cols = shape.at(-1) ?? 1;
  const rows = cols === 0 ? 0 : elements(label, shape) / cols;
  const step = dtype === "f16" ? 4 : dtype === "q8" || dtype === "q4" ? BLOCK : 1;
  if (step > 1 && (shape.length !== 2 || cols % step !== 0)) {
    throw new ShapeError(
      dtype,
      `weights need a multiple of ${step} columns, shape is [${shape.join(", ")}]`,
    );
  }
  return [rows, cols] as const;
}

/** A source of whole arrays. @throws {RangeError} if the array is not as long as the shape says */
export function sourceOf(
  label: string,
  shape: readonly number[],
  dtype: DType,
  data: Float32Array | Uint8Array,
): RowSource {
  const size = elements(label, shape);
  const blockBytes = dtype === "q8" ? Q8_0_BYTES : Q4_0_BYTES;
  const got = data instanceof Float32Array ? data.length : data.length / blockBytes * BLOCK;
  if (got !== size) {
    throw new RangeError(
      `Cannot make tensor ${label}: [${shape.join(", ")}] is ${size} values, got ${got}`,
    );
  }
  const cols = shape.at(-1) ?? 1;
  if (data instanceof Float32Array) {
    return {
      kind: "f32",
      rows: (first, count) => data.subarray(first * cols, (first + count) * cols),
    };
  }
  const rowBytes = cols / BLOCK * blockBytes;
  return {
    kind: "gguf",
    rows: (first, count) => data.subarray(first * rowBytes, (first + count) * rowBytes),
  };
}

function requireLength(piece: Piece, size: number, dtype: DType): void {
  const blockBytes = dtype === "q8" ? Q8_0_BYTES : Q4_0_BYTES;
  const got = "values" in piece ? piece.values.length : piece.blocks.length / blockBytes * BLOCK;
  if (got !== size) throw new RangeError(`Cannot upload ${got} values where ${size} belong`);
}

/**
 * Uploads tensors in the layouts the kernels read, cut by rows where one binding is too small.
 *
 * f16: pairs in words. q8: four integers per word; q4: eight integers plus 8 per word, columns 0 to
 * 3 in the low and 4 to 7 in the high halves of its bytes. Scales of quantised rows, f32, one per 32
 * columns, follow the integers of all rows of a shard.
 */
import { ShapeError } from "../../errors.ts";
import { f16Values } from "../../formats/floats.ts";
import type { DType } from "../backend.ts";
import { elements } from "../cpu/tensor.ts";
import type { Memory } from "./memory.ts";
import { aligned } from "./memory.ts";
import type { Shard } from "./tensor.ts";

/** Columns that share a scale. */
export const BLOCK = 32;
/** Values are packed and sent about so many bytes at a time; the queue copies what it is given. */
const PIECE_BYTES = 16 << 20;

/** Where values come from. */
export type Source =
  | { readonly kind: "zeros" }
  | { readonly kind: "f32"; readonly values: Float32Array }
  /** Q8_0 for q8, Q4_0 for q4. */
  | { readonly kind: "gguf"; readonly bytes: Uint8Array };

interface Packing {
  /** Bytes of one row without scales. */
  rowBytes(cols: number): number;
  /** Writes rows [from, to) and their scales; both arrays are zero at first. */
  pack(
    source: Exclude<Source, { kind: "zeros" }>,
    cols: number,
    from: number,
    to: number,
    into: { readonly bytes: Uint8Array; readonly scales: Float32Array },
  ): void;
  /** Whether rows have scales. */
  readonly hasScales: boolean;
}

const q8: Packing = {
  hasScales: true,
  rowBytes: (cols) => cols,
  pack(source, cols, from, to, { bytes, scales }) {
    const integers = new Int8Array(bytes.buffer, bytes.byteOffset, bytes.length);
    const first = from * cols / BLOCK, count = (to - from) * cols / BLOCK;
    for (let b = 0; b < count; b++) {
      const at = b * BLOCK;
      if (source.kind === "gguf") {
        const file = (first + b) * 34;
        scales[b] = half(source.bytes, file);
        for (let k = 0; k < BLOCK; k++) bytes[at + k] = source.bytes[file + 2 + k]!;
        continue;
      }
      const values = source.values, start = (first + b) * BLOCK;
      let most = 0;
      for (let k = 0; k < BLOCK; k++) most = Math.max(most, Math.abs(values[start + k]!));
      const scale = Math.fround(most / 127);
      scales[b] = scale;
      if (scale === 0) continue;
      for (let k = 0; k < BLOCK; k++) {
        integers[at + k] = clip(Math.round(values[start + k]! / scale), -127, 127);
      }
    }
  },
};

const q4: Packing = {
  hasScales: true,
  rowBytes: (cols) => cols / 2,
  pack(source, cols, from, to, { bytes, scales }) {
    const first = from * cols / BLOCK, count = (to - from) * cols / BLOCK;
    const put = (b: number, k: number, q: number) => {
      bytes[b * 16 + (k >> 3) * 4 + (k & 3)]! |= q << (k & 4);
    };
    for (let b = 0; b < count; b++) {
      if (source.kind === "gguf") {
        const file = (first + b) * 18;
        scales[b] = half(source.bytes, file);
        for (let k = 0; k < BLOCK; k++) {
          const byte = source.bytes[file + 2 + (k & 15)]!;
          put(b, k, k < 16 ? byte & 15 : byte >> 4);
        }
        continue;
      }
      const values = source.values, start = (first + b) * BLOCK;
      let extreme = 0;
      for (let k = 0; k < BLOCK; k++) {
        if (Math.abs(values[start + k]!) > Math.abs(extreme)) extreme = values[start + k]!;
      }
      const scale = Math.fround(extreme / -8);
      scales[b] = scale;
      for (let k = 0; k < BLOCK; k++) {
        const q = scale === 0 ? 0 : Math.round(values[start + k]! / scale);
        put(b, k, clip(q, -8, 7) + 8);
      }
    }
  },
};

const f16: Packing = {
  hasScales: false,
  rowBytes: (cols) => 2 * cols,
  pack(source, cols, from, to, { bytes }) {
    if (source.kind === "gguf") throw new TypeError("GGUF blocks are not f16");
    new Float16Array(bytes.buffer, bytes.byteOffset, bytes.length / 2)
      .set(source.values.subarray(from * cols, to * cols));
  },
};

const f32: Packing = {
  hasScales: false,
  rowBytes: (cols) => 4 * cols,
  pack(source, cols, from, to, { bytes }) {
    if (source.kind === "gguf") throw new TypeError("GGUF blocks are not f32");
    new Float32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4)
      .set(source.values.subarray(from * cols, to * cols));
  },
};

const packings: Readonly<Partial<Record<DType, Packing>>> = { f32, f16, q8, q4 };

function half(bytes: Uint8Array, at: number): number {
  return f16Values[bytes[at]! | (bytes[at + 1]! << 8)]!;
}

function clip(value: number, least: number, most: number): number {
  return Math.min(most, Math.max(least, value));
}

/** What an upload needs. */
export interface UploadTarget {
  readonly memory: Memory;
  readonly queue: GPUQueue;
  readonly bindingBytes: number;
}

/**
 * @throws {ShapeError} if the type needs another number of columns
 * @throws {RangeError} if the source is not as long as the shape says, or does not fit the budget
 */
export function uploadShards(
  { memory, queue, bindingBytes }: UploadTarget,
  label: string,
  shape: readonly number[],
  dtype: DType,
  source: Source,
): Shard[] {
  const packing = packings[dtype];
  if (packing === undefined) {
    throw new TypeError(`Cannot make tensor ${label}: the backend has no weights in ${dtype}`);
  }
  requireLength(label, shape, dtype, source);
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
      send(queue, packing, shard, cols, source);
    }
  } catch (error) {
    for (const { range } of shards) range[Symbol.dispose]();
    throw error;
  }
  return shards;
}

function send(
  queue: GPUQueue,
  packing: Packing,
  { first, rows, range, scales }: Shard,
  cols: number,
  source: Source,
): void {
  const write = (offset: number, data: Uint8Array<ArrayBuffer>) => {
    if (data.length === 0) return;
    queue.writeBuffer(range.buffer.raw, range.offset + offset, data);
  };
  if (source.kind === "zeros") return write(0, new Uint8Array(range.size));
  const rowBytes = packing.rowBytes(cols), rowScales = packing.hasScales ? 4 * cols / BLOCK : 0;
  // A piece begins and ends at a multiple of 4 bytes: four rows always do.
  const step = Math.max(4, Math.floor(PIECE_BYTES / Math.max(1, rowBytes) / 4) * 4);
  for (let from = 0; from < rows; from += step) {
    const to = Math.min(rows, from + step);
    const bytes = new Uint8Array(Math.ceil((to - from) * rowBytes / 4) * 4);
    const scaleBytes = new Uint8Array((to - from) * rowScales);
    packing.pack(source, cols, first + from, first + to, {
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

function requireLength(label: string, shape: readonly number[], dtype: DType, source: Source) {
  if (source.kind === "zeros") return;
  const size = elements(label, shape);
  const got = source.kind === "f32"
    ? source.values.length
    : source.bytes.length / (dtype === "q8" ? 34 : 18) * BLOCK;
  if (got === size) return;
  throw new RangeError(
    `Cannot make tensor ${label}: [${shape.join(", ")}] is ${size} values, got ${got}`,
  );
}

/** Reads matrices a few rows at a time, so that they are never in memory twice. */
import { rowFormat } from "./quants.ts";
import type { WeightSource } from "./weights.ts";

/** Rows of one matrix. What a method returns is overwritten by the next call of either. */
export interface RowReader {
  /** As stored. */
  stored(first: number, count: number): Uint8Array<ArrayBuffer>;
  /** Dequantised, row-major. */
  f32(first: number, count: number): Float32Array<ArrayBuffer>;
}

/**
 * Readers of the matrices of one file, which share their buffers: what one returned is overwritten by
 * the next call of any. Sources that only have whole tensors give them whole at the first call.
 */
export function createRowReaders(
  weights: WeightSource,
): (name: string, shape: readonly [rows: number, cols: number]) => RowReader {
  const buffers = { bytes: new Uint8Array(0), values: new Float32Array(0) };
  return (name, [rows, cols]) => {
    const { rawInto } = weights;
    if (rawInto === undefined) return wholeReader(weights, name, rows, cols);
    const format = rowFormat(weights.dtype(name), name);
    const rowBytes = format.bytes(cols);
    if (!Number.isInteger(rowBytes)) return wholeReader(weights, name, rows, cols);
    const stored = (first: number, count: number): Uint8Array<ArrayBuffer> => {
      const length = count * rowBytes;
      if (buffers.bytes.length < length) buffers.bytes = new Uint8Array(length);
      const out = buffers.bytes.subarray(0, length);
      rawInto(name, first * rowBytes, out);
      return out;
    };
    return {
      stored,
      f32(first, count) {
        if (buffers.values.length < count * cols) buffers.values = new Float32Array(count * cols);
        const out = buffers.values.subarray(0, count * cols);
        format.decode(stored(first, count), out);
        return out;
      },
    };
  };
}

function wholeReader(weights: WeightSource, name: string, rows: number, cols: number): RowReader {
  let bytes: Uint8Array<ArrayBuffer> | undefined, values: Float32Array<ArrayBuffer> | undefined;
  return {
    stored(first, count) {
      bytes ??= weights.raw(name);
      const rowBytes = bytes.length / rows;
      return bytes.subarray(first * rowBytes, (first + count) * rowBytes);
    },
    f32(first, count) {
      values ??= weights.f32(name);
      return values.subarray(first * cols, (first + count) * cols);
    },
  };
}

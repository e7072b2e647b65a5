/** From values and file blocks to tensors in WebAssembly memory. */
import type { DType, QuantizedDType, RowSource } from "../backend.ts";
import { elements } from "../cpu/tensor.ts";
import { blockBytes, packBlocks, rowsInMemory } from "./blocks.ts";
import type { Heap } from "./heap.ts";
import type { Step } from "./step.ts";
import { f32Bytes, WasmTensor } from "./tensor.ts";

/** An f32 tensor; zeros without data. @throws {RangeError} if the data have another length */
export function upload(
  heap: Heap,
  label: string,
  shape: readonly number[],
  data: Float32Array | undefined,
): WasmTensor {
  const size = elements(label, shape);
  if (data !== undefined && data.length !== size) {
    throw new RangeError(
      `Cannot make tensor ${label}: [${shape.join(", ")}] is ${size} values, got ${data.length}`,
    );
  }
  const bytes = f32Bytes(shape, size);
  const address = heap.take(`tensor ${label}`, bytes);
  if (data === undefined) heap.floats.fill(0, address / 4, address / 4 + size);
  else heap.floats.set(data, address / 4);
  return new WasmTensor(heap, label, [...shape], "f32", address, bytes);
}

/** Values are asked for about so many bytes at a time. */
const PIECE_BYTES = 1 << 20;

/** An f32 matrix, read piece by piece. */
export function uploadRows(
  heap: Heap,
  label: string,
  shape: readonly [rows: number, cols: number],
  read: (first: number, count: number) => Float32Array,
): WasmTensor {
  const [rows, cols] = shape;
  const bytes = f32Bytes(shape, rows * cols);
  const address = heap.take(`tensor ${label}`, bytes);
  const each = Math.max(1, Math.floor(PIECE_BYTES / (4 * Math.max(1, cols))));
  try {
    for (let row = 0; row < rows; row += each) {
      heap.floats.set(read(row, Math.min(each, rows - row)), address / 4 + row * cols);
    }
  } catch (error) {
    heap.give(address, bytes);
    throw error;
  }
  return new WasmTensor(heap, label, [...shape], "f32", address, bytes);
}

/**
 * A quantised matrix from rows, or from all of its values or file blocks.
 *
 * @throws {ShapeError} if its rows are not whole blocks
 * @throws {RangeError} if what is given has another length than the shape says
 */
export function uploadBlocks(
  step: Step,
  label: string,
  shape: readonly number[],
  dtype: QuantizedDType,
  source: RowSource | Float32Array | Uint8Array,
): WasmTensor {
  const { heap } = step;
  const bytes = blockBytes(dtype, shape);
  const size = [shape[0]!, shape[1]!] as const;
  const rows = "kind" in source ? source : rowsInMemory(dtype, size, source);
  const address = heap.take(`tensor ${label}`, bytes);
  try {
    packBlocks(step, address, dtype, size, rows);
  } catch (error) {
    heap.give(address, bytes);
    throw error;
  }
  return new WasmTensor(heap, label, [...shape], dtype, address, bytes);
}

/** Bytes of a tensor in memory. @throws {ShapeError} if rows of a quantised one are not whole blocks */
export function tensorBytes(shape: readonly number[], dtype: DType): number {
  if (dtype === "q8" || dtype === "q4") return blockBytes(dtype, shape);
  return f32Bytes(shape, shape.reduce((a, b) => a * b, 1));
}

/** Picking rows of matrices: embed, gather_rows, and undoing the layouts of weights. */
import { matrix } from "../cpu/tensor.ts";
import { unpackRow } from "./blocks.ts";
import type { Step } from "./step.ts";
import type { WasmTensor } from "./tensor.ts";

/**
 * y[i, :] = x[rows[i], :]
 *
 * @param what names a row in messages: "Token", "Row"
 * @throws {RangeError} if a row is not in x
 */
export function pickRows(
  { heap, scope }: Step,
  op: string,
  x: WasmTensor,
  rows: Uint32Array,
  what: string,
): WasmTensor {
  const [height, cols] = matrix(op, x);
  const y = scope.alloc(op, [rows.length, cols]);
  const { floats } = heap;
  const from = x.address / 4, to = y.address / 4;
  for (let i = 0; i < rows.length; i++) {
    const row = rows[i]!;
    if (row >= height) throw new RangeError(`${what} ${row} is not below ${height}`);
    if (x.dtype !== "f32") {
      unpackRow(heap, x.address, x.dtype, { row, cols, to: to + i * cols });
      continue;
    }
    if (x.layout === "rows") {
      floats.copyWithin(to + i * cols, from + row * cols, from + (row + 1) * cols);
      continue;
    }
    const first = from + (row >>> 2) * 4 * cols + (row & 3), target = to + i * cols;
    for (let c = 0; c < cols; c++) floats[target + c] = floats[first + 4 * c]!;
  }
  return y;
}

/** The tensor itself, or a copy row by row in f32 where it is interleaved or quantised. */
export function asRows(step: Step, op: string, x: WasmTensor): WasmTensor {
  if (x.layout === "rows") return x;
  const [height] = matrix(op, x);
  return pickRows(step, op, x, Uint32Array.from({ length: height }, (_, r) => r), "Row");
}

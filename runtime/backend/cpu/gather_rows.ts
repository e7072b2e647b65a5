/** gather_rows: y[i, :] = x[rows[i], :]. */
import { type Alloc, type CpuTensor, matrix } from "./tensor.ts";

/** @throws {RangeError} if a row is not in x */
export function gatherRows(alloc: Alloc, x: CpuTensor, rows: Uint32Array): CpuTensor {
  const [height, cols] = matrix("gather_rows", x);
  const y = alloc("gather_rows", [rows.length, cols]);
  for (let i = 0; i < rows.length; i++) {
    const row = rows[i]!;
    if (row >= height) throw new RangeError(`Row ${row} is not below ${height}`);
    y.data.set(x.data.subarray(row * cols, (row + 1) * cols), i * cols);
  }
  return y;
}

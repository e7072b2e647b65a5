/** kv_write: stores the K and V of new tokens in the slots chosen for them. */
import { ShapeError } from "../../errors.ts";
import type { AttentionRow } from "../backend.ts";
import { type CpuKvPool, groupIndex } from "./kv_pool.ts";
import { type CpuTensor, matrix } from "./tensor.ts";

/**
 * What was recorded about the slots' former tokens is forgotten.
 *
 * @param k [tokens, kvHeads * headDim], as is v
 * @param slots per row and group, one slot per token of the row
 * @throws {RangeError} if a slot is not in the pool
 */
export function kvWrite(
  pool: CpuKvPool,
  layer: number,
  k: CpuTensor,
  v: CpuTensor,
  rows: readonly AttentionRow[],
  slots: readonly (readonly Uint32Array[])[],
): void {
  const { kvHeads, headDim } = pool.layout;
  const width = kvHeads * headDim;
  if (matrix("kv_write", k)[1] !== width || matrix("kv_write", v)[1] !== width) {
    throw new ShapeError("kv_write", `k [${k.shape.join(", ")}] must have ${width} columns`);
  }
  const keys = pool.keys[layer], values = pool.values[layer];
  if (keys === undefined || values === undefined) {
    throw new RangeError(`Layer ${layer} is not in the pool`);
  }
  const records = pool.records(layer);
  for (const [r, row] of rows.entries()) {
    for (let head = 0; head < kvHeads; head++) {
      const places = slots[r]?.[groupIndex(row, pool.layout, layer, head)];
      if (places?.length !== row.length) {
        throw new ShapeError("kv_write", `row ${r} needs ${row.length} slots for every group`);
      }
      for (let t = 0; t < row.length; t++) {
        const slot = places[t]!;
        if (slot >= pool.slots) throw new RangeError(`Slot ${slot} is not below ${pool.slots}`);
        const from = (row.start + t) * width + head * headDim;
        const to = head * pool.slots + slot;
        keys.set(k.data.subarray(from, from + headDim), to * headDim);
        values.set(v.data.subarray(from, from + headDim), to * headDim);
        for (const record of records) record[to] = 0;
      }
    }
  }
}

/** kv_write: stores the K and V of new tokens in the slots chosen for them. */
import { ShapeError } from "../../errors.ts";
import { groupOf, unitBase, unitOffset } from "../../kv/units.ts";
import type { AttentionRow } from "../backend.ts";
import { type CpuKvPool, requireUnit, type SlotPool } from "./kv_pool.ts";
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
  pool.requireLayer(layer);
  eachNewSlot(pool, layer, rows, slots, (token, head, unit, offset) => {
    const from = token * width + head * headDim;
    const to = pool.indexOf(unit, offset);
    pool.keys.set(k.data.subarray(from, from + headDim), to);
    pool.values.set(v.data.subarray(from, from + headDim), to);
    pool.records.forget(unit, offset);
  });
}

/**
 * kv_record: stores what an adapter computed for new tokens.
 *
 * @param values [tokens, kvHeads * width]
 */
export function kvRecord(
  pool: CpuKvPool,
  layer: number,
  signal: `adapter:${string}`,
  values: CpuTensor,
  rows: readonly AttentionRow[],
  slots: readonly (readonly Uint32Array[])[],
): void {
  const width = matrix("kv_record", values)[1] / pool.layout.kvHeads;
  if (!Number.isInteger(width)) {
    throw new ShapeError("kv_record", `[${values.shape.join(", ")}] is not one run per head`);
  }
  pool.records.setWidth(signal, width);
  const record = pool.records.of(signal);
  eachNewSlot(pool, layer, rows, slots, (token, head, unit, offset) => {
    const from = (token * pool.layout.kvHeads + head) * width;
    const to = (unit * pool.layout.pageSize + offset) * width;
    record.set(values.data.subarray(from, from + width), to);
  });
}

/** Where each new token's slot of each head is. @throws {RangeError} if a slot is not in the pool */
export function eachNewSlot(
  pool: Pick<SlotPool, "layout" | "pages">,
  layer: number,
  rows: readonly AttentionRow[],
  slots: readonly (readonly Uint32Array[])[],
  visit: (token: number, head: number, unit: number, offset: number) => void,
): void {
  const { layout, pages } = pool, { kvHeads, pageSize } = layout;
  for (const [r, row] of rows.entries()) {
    const { granularity } = row;
    for (let head = 0; head < kvHeads; head++) {
      const places = slots[r]?.[groupOf(layout, granularity, layer, head)];
      if (places?.length !== row.length) {
        throw new ShapeError("kv_write", `row ${r} needs ${row.length} slots for every group`);
      }
      const base = unitBase(layout, pages, granularity, layer, head);
      for (let t = 0; t < row.length; t++) {
        const slot = places[t]!, offset = slot % pageSize, id = (slot - offset) / pageSize;
        requireUnit(pool, granularity, id);
        const unit = base + unitOffset(layout, pages, granularity, id);
        visit(row.start + t, head, unit, offset);
      }
    }
  }
}

/** kv_write and kv_copy: moves within WebAssembly memory. */
import { ShapeError } from "../../errors.ts";
import type { AttentionRow } from "../backend.ts";
import { groupIndex } from "../cpu/kv_pool.ts";
import { matrix } from "../cpu/tensor.ts";
import type { WasmKvPool } from "./kv_pool.ts";
import type { WasmTensor } from "./tensor.ts";

/**
 * Stores the K and V of new tokens. What was recorded about the slots' former tokens is forgotten.
 *
 * @param k [tokens, kvHeads * headDim], as is v
 * @param slots per row and group, one slot per token of the row
 * @throws {RangeError} if a slot is not in the pool
 */
export function kvWrite(
  pool: WasmKvPool,
  layer: number,
  k: WasmTensor,
  v: WasmTensor,
  rows: readonly AttentionRow[],
  slots: readonly (readonly Uint32Array[])[],
): void {
  const { kvHeads, headDim } = pool.layout;
  const width = kvHeads * headDim;
  if (matrix("kv_write", k)[1] !== width || matrix("kv_write", v)[1] !== width) {
    throw new ShapeError("kv_write", `k [${k.shape.join(", ")}] must have ${width} columns`);
  }
  pool.requireLayer(layer);
  const { floats } = pool.heap;
  const records = pool.records(layer), stride = pool.slotBytes / 4;
  const fromK = k.address / 4, fromV = v.address / 4;
  for (const [r, row] of rows.entries()) {
    for (let head = 0; head < kvHeads; head++) {
      const places = slots[r]?.[groupIndex(row, pool.layout, layer, head)];
      if (places?.length !== row.length) {
        throw new ShapeError("kv_write", `row ${r} needs ${row.length} slots for every group`);
      }
      const keys = pool.keys(layer, head) / 4, values = pool.values(layer, head) / 4;
      for (let t = 0; t < row.length; t++) {
        const slot = places[t]!;
        pool.requireSlot(slot);
        const from = (row.start + t) * width + head * headDim;
        floats.copyWithin(keys + slot * stride, fromK + from, fromK + from + headDim);
        floats.copyWithin(values + slot * stride, fromV + from, fromV + from + headDim);
        for (const record of records) record[head * pool.slots + slot] = 0;
      }
    }
  }
}

/**
 * Copies K, V and recorded signals of all layers and heads between slots.
 *
 * @throws {RangeError} if a slot is not in the pool, or a target is also a source or repeated
 */
export function kvCopy(pool: WasmKvPool, from: Uint32Array, to: Uint32Array): void {
  if (from.length !== to.length) {
    throw new ShapeError("kv_copy", `${from.length} sources, ${to.length} targets`);
  }
  const taken = new Set(from);
  for (const slot of to) {
    if (taken.has(slot)) throw new RangeError(`Slot ${slot} is copied to and is in use as well`);
    taken.add(slot);
  }
  for (const slot of taken) pool.requireSlot(slot);
  const { layers, kvHeads } = pool.layout;
  const { floats } = pool.heap;
  const stride = pool.slotBytes / 4;
  for (let layer = 0; layer < layers; layer++) {
    const records = pool.records(layer);
    for (let head = 0; head < kvHeads; head++) {
      for (const base of [pool.keys(layer, head) / 4, pool.values(layer, head) / 4]) {
        for (let i = 0; i < from.length; i++) {
          const source = base + from[i]! * stride;
          floats.copyWithin(base + to[i]! * stride, source, source + stride);
        }
      }
      for (const record of records) {
        const first = head * pool.slots;
        for (let i = 0; i < from.length; i++) record[first + to[i]!] = record[first + from[i]!]!;
      }
    }
  }
}

/** kv_copy: copies K, V and recorded signals of all layers and heads between slots. */
import { ShapeError } from "../../errors.ts";
import type { CpuKvPool } from "./kv_pool.ts";

/** @throws {RangeError} if a slot is not in the pool, or a target is also a source or repeated */
export function kvCopy(pool: CpuKvPool, from: Uint32Array, to: Uint32Array): void {
  if (from.length !== to.length) {
    throw new ShapeError("kv_copy", `${from.length} sources, ${to.length} targets`);
  }
  const taken = new Set(from);
  for (const slot of to) {
    if (taken.has(slot)) throw new RangeError(`Slot ${slot} is copied to and is in use as well`);
    taken.add(slot);
  }
  for (const slot of taken) {
    if (slot >= pool.slots) throw new RangeError(`Slot ${slot} is not below ${pool.slots}`);
  }
  const { layers, kvHeads, headDim } = pool.layout;
  for (let layer = 0; layer < layers; layer++) {
    const keys = pool.keys[layer]!, values = pool.values[layer]!;
    const records = pool.records(layer);
    for (let head = 0; head < kvHeads; head++) {
      for (let i = 0; i < from.length; i++) {
        const source = head * pool.slots + from[i]!, target = head * pool.slots + to[i]!;
        const start = source * headDim;
        keys.copyWithin(target * headDim, start, start + headDim);
        values.copyWithin(target * headDim, start, start + headDim);
        for (const record of records) record[target] = record[source]!;
      }
    }
  }
}

/**
 * The page pool of one model: K and V of every slot, and the signals recorded for policies.
 *
 * One array per layer for K and one for V, laid out [kvHeads, slots, headDim], so that a page is
 * one contiguous run per head. Slot = page * pageSize + offset.
 */
import { ShapeError } from "../../errors.ts";
import type { KvLayout, KvSignal } from "../../kv/policy.ts";
import type { AttentionRow, KvPool } from "../backend.ts";

/** See file comment. */
export class CpuKvPool implements KvPool {
  readonly slots: number;
  readonly pageBytes: number;
  /** Per layer, [kvHeads, slots, headDim]. */
  readonly keys: readonly Float32Array[];
  readonly values: readonly Float32Array[];
  /** Per signal and layer, [kvHeads, slots]; made when a signal is first asked for. */
  readonly #signals = new Map<KvSignal, readonly Float32Array[]>();

  constructor(readonly layout: KvLayout, readonly pages: number) {
    const { layers, kvHeads, headDim, pageSize } = layout;
    this.slots = pages * pageSize;
    this.pageBytes = 2 * 4 * layers * kvHeads * headDim * pageSize;
    const make = () => new Float32Array(kvHeads * this.slots * headDim);
    this.keys = Array.from({ length: layers }, make);
    this.values = Array.from({ length: layers }, make);
  }

  /** The record of one signal in one layer, [kvHeads, slots], made of zeros at first. */
  record(signal: KvSignal, layer: number): Float32Array {
    let layers = this.#signals.get(signal);
    if (layers === undefined) {
      const size = this.layout.kvHeads * this.slots;
      layers = Array.from({ length: this.layout.layers }, () => new Float32Array(size));
      this.#signals.set(signal, layers);
    }
    const record = layers[layer];
    if (record === undefined) throw new RangeError(`Layer ${layer} is not in the pool`);
    return record;
  }

  /** All records that exist for a layer. */
  records(layer: number): readonly Float32Array[] {
    return [...this.#signals.values()].map((layers) => layers[layer]!);
  }

  /** A copy of a signal at some slots, for tests and policies. */
  readSignal(signal: KvSignal, layer: number, kvHead: number, slots: Uint32Array): Float32Array {
    const record = this.record(signal, layer);
    return Float32Array.from(slots, (slot) => record[kvHead * this.slots + slot]!);
  }

  [Symbol.dispose](): void {}
}

/** The only check from "any pool" to "a pool of this backend". */
export function cpuPool(op: string, pool: KvPool): CpuKvPool {
  if (pool instanceof CpuKvPool) return pool;
  throw new ShapeError(op, "the KV pool belongs to another backend");
}

/** Which of a row's page tables serves a layer and head. */
export function groupIndex(
  row: AttentionRow,
  layout: KvLayout,
  layer: number,
  kvHead: number,
): number {
  switch (row.granularity) {
    case "sequence":
      return 0;
    case "layer":
      return layer;
    case "kv-head":
      return layer * layout.kvHeads + kvHead;
  }
}

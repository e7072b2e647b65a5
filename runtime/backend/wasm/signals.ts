/** What attention records about slots; see the CPU backend's signals.ts for their meaning. */
import type { KvSignal } from "../../kv/policy.ts";
import type { WasmKvPool } from "./kv_pool.ts";
import type { SlotTable } from "./slot_tables.ts";

/** Where one query head's weights are. */
export interface Weights {
  /** Address of the first one. */
  readonly address: number;
  readonly table: SlotTable;
  /** Whether the head is the first of its kv head. */
  readonly firstOfGroup: boolean;
}

/** Adds one query head's weights to the records. */
export function recordWeights(
  pool: WasmKvPool,
  layer: number,
  kvHead: number,
  { address, table, firstOfGroup }: Weights,
  signals: readonly KvSignal[],
): void {
  const { floats, words } = pool.heap;
  const first = kvHead * pool.slots;
  for (const signal of signals) {
    if (signal === "key-norm") continue;
    const record = pool.record(signal, layer);
    for (let s = 0; s < table.count; s++) {
      const at = first + words[table.address / 4 + s]! / pool.slotBytes;
      const weight = floats[address / 4 + s]!;
      if (signal === "attention-max") record[at] = Math.max(record[at]!, weight);
      else if (signal === "attention-last" && firstOfGroup) record[at] = weight;
      else record[at]! += weight;
    }
  }
}

/** Writes the lengths of the last `length` keys of a table. */
export function recordKeyNorms(
  pool: WasmKvPool,
  layer: number,
  kvHead: number,
  table: SlotTable,
  length: number,
): void {
  const { floats, words } = pool.heap;
  const record = pool.record("key-norm", layer);
  for (let s = table.count - length; s < table.count; s++) {
    const offset = words[table.address / 4 + s]!;
    const key = (pool.keys(layer, kvHead) + offset) / 4;
    let sum = 0;
    for (let d = 0; d < pool.layout.headDim; d++) sum += floats[key + d]! ** 2;
    record[kvHead * pool.slots + offset / pool.slotBytes] = Math.sqrt(sum);
  }
}

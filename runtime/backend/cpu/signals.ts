/**
 * What attention records about slots for KV policies, per layer and kv head:
 *
 * - attention-sum: weight the slot received, added over query heads of its kv head and over tokens
 * - attention-last: the same of the latest token only (unchanged where it did not look)
 * - attention-max: the largest single weight so far
 * - key-norm: Euclidean length of the key
 *
 * Records are f32 and take tokens in sequence order and, within a token, heads in order, so that
 * chunks do not matter. A slot's records start from 0 when a token is written into it.
 */
import type { KvSignal } from "../../kv/policy.ts";
import type { AttentionRow } from "../backend.ts";
import type { CpuKvPool } from "./kv_pool.ts";

/** Adds one query head's weights to the records. */
export function recordWeights(
  pool: CpuKvPool,
  layer: number,
  kvHead: number,
  visible: Uint32Array,
  weights: Float64Array,
  signals: readonly KvSignal[],
  options: { readonly firstOfGroup: boolean },
): void {
  const first = kvHead * pool.slots;
  for (const signal of signals) {
    if (signal === "key-norm") continue;
    const record = pool.record(signal, layer);
    for (let s = 0; s < visible.length; s++) {
      const at = first + visible[s]!;
      const weight = weights[s]!;
      if (signal === "attention-max") record[at] = Math.max(record[at]!, weight);
      else if (signal === "attention-last" && options.firstOfGroup) record[at] = weight;
      else record[at]! += weight;
    }
  }
}

/** Writes the lengths of a row's new keys. */
export function recordKeyNorms(
  pool: CpuKvPool,
  layer: number,
  kvHead: number,
  row: AttentionRow,
  slots: Uint32Array,
): void {
  const { headDim } = pool.layout;
  const keys = pool.keys[layer]!, record = pool.record("key-norm", layer);
  for (let s = slots.length - row.length; s < slots.length; s++) {
    const at = kvHead * pool.slots + slots[s]!;
    let sum = 0;
    for (let d = 0; d < headDim; d++) sum += keys[at * headDim + d]! ** 2;
    record[at] = Math.sqrt(sum);
  }
}

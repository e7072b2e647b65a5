/**
 * Recording for KV policies what attention finds; kv_records.ts says what each signal means. Records
 * take tokens in sequence order and, within a token, heads in order, so that chunks do not matter.
 */
import type { KvSignal } from "../../kv/policy.ts";
import type { KvRecords } from "./kv_records.ts";
import type { RowSlots } from "./row_slots.ts";

/**
 * Adds one query head's weights to the records.
 *
 * @param visible slot indices
 * @param weights one per visible slot, from `at` on
 */
export function recordWeights(
  records: KvRecords,
  slots: RowSlots,
  visible: Uint32Array,
  weights: ArrayLike<number>,
  at: number,
  signals: readonly KvSignal[],
  firstOfGroup: boolean,
): void {
  for (const signal of signals) {
    if (!signal.startsWith("attention-")) continue;
    const plain = records.of(signal);
    const other = slots.encoded > 0 ? records.of(signal, slots.format) : plain;
    for (let s = 0; s < visible.length; s++) {
      const index = visible[s]!, place = slots.places[index]!;
      const record = index < slots.encoded ? other : plain;
      const weight = weights[at + s]!;
      if (signal === "attention-max") record[place] = Math.max(record[place]!, weight);
      else if (signal === "attention-last" && firstOfGroup) record[place] = weight;
      else record[place]! += weight;
    }
  }
}

/**
 * What is recorded about a row's new slots themselves: lengths of keys, and queries.
 *
 * @param keyAt index in `keys` of the slot of a place
 * @param queryAt index in `q` of the first query of the kv head of the row's t-th token
 */
export function recordNew(
  records: KvRecords,
  slots: RowSlots,
  row: { readonly length: number },
  signals: readonly KvSignal[],
  from: {
    readonly headDim: number;
    readonly perGroup: number;
    readonly keys: Float32Array;
    keyAt(place: number): number;
    readonly q: Float32Array;
    queryAt(t: number): number;
  },
): void {
  const { headDim, keys, q } = from;
  const width = from.perGroup * headDim;
  if (signals.includes("query")) records.setWidth("query", width);
  for (let t = 0; t < row.length; t++) {
    const place = slots.places[slots.places.length - row.length + t]!;
    if (signals.includes("key-norm")) {
      const k = from.keyAt(place);
      let sum = 0;
      for (let d = 0; d < headDim; d++) sum += keys[k + d]! ** 2;
      records.of("key-norm")[place] = Math.sqrt(sum);
    }
    if (signals.includes("query")) {
      const at = from.queryAt(t);
      records.of("query").set(q.subarray(at, at + width), place * width);
    }
  }
}

/**
 * Scores of slots for a token's query, by which {@link ReadRule}s choose what is read. One value per
 * visible slot: the largest over the query heads of the kv head.
 *
 * - oracle: q . k, what attention itself would find
 * - bounds: Tang et al. 2024 (Quest), https://arxiv.org/abs/2406.10774, section 3: for the page of the
 *   slot, the sum over dimensions of max(q_d min_d, q_d max_d), which no q . k of the page exceeds.
 *   Differs: slots of one page share its score, and the last page chosen may be read in part, so that
 *   the budget is met exactly.
 * - adapter: product of the adapter's query and its record of the slot
 */
import type { KvRecords } from "./kv_records.ts";
import type { RowSlots } from "./row_slots.ts";

/** Keys of the row's slots, wherever they are. */
export interface ScoredHead {
  readonly keys: Float32Array;
  /** Index of a slot's first number in `keys`. */
  keyAt(index: number): number;
  readonly headDim: number;
}

/** A token's queries for one kv head: `heads` runs of `width` numbers. */
export interface Queries {
  readonly data: Float32Array;
  readonly at: number;
  readonly heads: number;
  readonly width: number;
}

/** See file comment. */
export function oracleScores(head: ScoredHead, q: Queries, visible: Uint32Array): Float64Array {
  return Float64Array.from(visible, (index) => {
    const k = head.keyAt(index);
    let best = -Infinity;
    for (let h = 0; h < q.heads; h++) {
      let sum = 0;
      for (let d = 0; d < head.headDim; d++) {
        sum += q.data[q.at + h * q.width + d]! * head.keys[k + d]!;
      }
      best = Math.max(best, sum);
    }
    return best;
  });
}

/** Bounds are kept per unit for pages that did not change since. */
export function boundScores(
  head: ScoredHead,
  q: Queries,
  visible: Uint32Array,
  slots: RowSlots,
  pageSize: number,
  records: KvRecords,
): Float64Array {
  const byPage = new Map<number, number>();
  const { encoded, places } = slots, last = visible.at(-1)! + 1;
  return Float64Array.from(visible, (index) => {
    // Slots in another format are taken in runs as long as a page.
    const start = index < encoded
      ? index - index % pageSize
      : encoded + (index - encoded - (index - encoded) % pageSize);
    const known = byPage.get(start);
    if (known !== undefined) return known;
    const end = Math.min(index < encoded ? encoded : last, start + pageSize);
    const isKept = index >= encoded && end - start === pageSize;
    const unit = Math.floor(places[start]! / pageSize);
    let bounds = isKept ? records.bounds.get(unit)?.values : undefined;
    if (bounds === undefined) {
      bounds = boundsOf(head, start, end);
      if (isKept) records.bounds.set(unit, { values: bounds, slots: pageSize });
    }
    const score = upperBound(bounds, q, head.headDim);
    byPage.set(start, score);
    return score;
  });
}

/** [minima, maxima] over the keys of slots `from` to `to - 1`. */
export function boundsOf(head: ScoredHead, from: number, to: number): Float32Array {
  const { headDim, keys } = head;
  const bounds = new Float32Array(2 * headDim).fill(Infinity, 0, headDim)
    .fill(-Infinity, headDim);
  for (let index = from; index < to; index++) {
    const k = head.keyAt(index);
    for (let d = 0; d < headDim; d++) {
      bounds[d] = Math.min(bounds[d]!, keys[k + d]!);
      bounds[headDim + d] = Math.max(bounds[headDim + d]!, keys[k + d]!);
    }
  }
  return bounds;
}

/** No q . k with k within the bounds is larger, but for rounding. */
export function upperBound(bounds: Float32Array, q: Queries, headDim: number): number {
  let best = -Infinity;
  for (let h = 0; h < q.heads; h++) {
    let sum = 0;
    for (let d = 0; d < headDim; d++) {
      const value = q.data[q.at + h * q.width + d]!;
      sum += Math.max(value * bounds[d]!, value * bounds[headDim + d]!);
    }
    best = Math.max(best, sum);
  }
  return best;
}

/** See file comment. */
export function adapterScores(
  q: Queries,
  visible: Uint32Array,
  slots: RowSlots,
  records: KvRecords,
  adapter: string,
): Float64Array {
  const signal = `adapter:${adapter}` as const;
  const plain = records.of(signal), other = records.of(signal, slots.format);
  return Float64Array.from(visible, (index) => {
    const record = index < slots.encoded ? other : plain;
    const at = slots.places[index]! * q.width;
    let best = -Infinity;
    for (let h = 0; h < q.heads; h++) {
      let sum = 0;
      for (let d = 0; d < q.width; d++) sum += q.data[q.at + h * q.width + d]! * record[at + d]!;
      best = Math.max(best, sum);
    }
    return best;
  });
}

/**
 * attention: causal grouped-query attention of new tokens over their rows' pages.
 *
 *   w[s] = softmax over visible slots s of (q . k[s] * scale)
 *   out  = sum over s of w[s] * v[s]
 *
 * Source: Vaswani et al. 2017, https://arxiv.org/abs/1706.03762, eq. 1; grouped queries after Ainslie
 * et al. 2023, https://arxiv.org/abs/2305.13245: query head h reads kv head floor(h / (heads / kvHeads)).
 * Order: two passes (largest score first). Dot products run from dimension 0 up; sums over slots run
 * in the order of the page table, which is the order of the sequence. All in double precision with
 * one rounding to f32 at the end. Where pages lie, how a prompt is cut into chunks and what other
 * rows do changes nothing.
 */
import { ShapeError } from "../../errors.ts";
import type { KvSignal } from "../../kv/policy.ts";
import type { AttentionRow } from "../backend.ts";
import { attendOne } from "./attend_one.ts";
import { type CpuKvPool, groupIndex } from "./kv_pool.ts";
import { recordKeyNorms, recordWeights } from "./signals.ts";
import { type Alloc, type CpuTensor, matrix } from "./tensor.ts";

/** As in `Ops.attention`. */
export interface AttentionOptions {
  readonly scale: number;
  readonly signals: readonly KvSignal[];
}

/**
 * @param q [tokens, heads * headDim]
 * @returns [tokens, heads * headDim]
 * @throws {RangeError} if a page is not in the pool, or counts and pages do not fit together
 */
export function attention(
  alloc: Alloc,
  q: CpuTensor,
  pool: CpuKvPool,
  layer: number,
  rows: readonly AttentionRow[],
  options: AttentionOptions,
): CpuTensor {
  const { kvHeads, headDim } = pool.layout;
  const width = matrix("attention", q)[1];
  const perGroup = width / headDim / kvHeads;
  if (!Number.isInteger(perGroup)) {
    throw new ShapeError(
      "attention",
      `q has ${width} columns, not a multiple of ${kvHeads} heads of ${headDim}`,
    );
  }
  const keys = pool.keys[layer], values = pool.values[layer];
  if (keys === undefined || values === undefined) {
    throw new RangeError(`Layer ${layer} is not in the pool`);
  }
  const out = alloc("attention", q.shape);
  for (const row of rows) {
    for (let kvHead = 0; kvHead < kvHeads; kvHead++) {
      const slots = slotsOf(row, pool, layer, kvHead);
      if (options.signals.includes("key-norm")) recordKeyNorms(pool, layer, kvHead, row, slots);
      for (let t = 0; t < row.length; t++) {
        const visible = visibleSlots(row, slots, t);
        const first = kvHead * pool.slots;
        for (let h = kvHead * perGroup; h < (kvHead + 1) * perGroup; h++) {
          const at = (row.start + t) * width + h * headDim;
          const weights = attendOne(out.data, q.data, at, {
            keys,
            values,
            first,
            visible,
            headDim,
            scale: options.scale,
          });
          if (options.signals.length > 0) {
            recordWeights(pool, layer, kvHead, visible, weights, options.signals, {
              firstOfGroup: h === kvHead * perGroup,
            });
          }
        }
      }
    }
  }
  return out;
}

/** Physical slots of a row's group in sequence order, new tokens last. */
function slotsOf(row: AttentionRow, pool: CpuKvPool, layer: number, kvHead: number): Uint32Array {
  const group = groupIndex(row, pool.layout, layer, kvHead);
  const pages = row.pages[group], count = row.counts[group];
  const { pageSize } = pool.layout;
  if (pages === undefined || count === undefined) {
    throw new ShapeError("attention", `there is no page table for group ${group}`);
  }
  if (count < row.length || count > pages.length * pageSize) {
    throw new RangeError(
      `Group ${group} counts ${count} slots, has ${pages.length} pages and ${row.length} new tokens`,
    );
  }
  const slots = new Uint32Array(count);
  for (let s = 0; s < count; s++) {
    const page = pages[Math.floor(s / pageSize)]!;
    if (page >= pool.pages) throw new RangeError(`Page ${page} is not below ${pool.pages}`);
    slots[s] = page * pageSize + s % pageSize;
  }
  return slots;
}

/** The slots token t of a row sees: everything before the row, and of the row what its mask says. */
function visibleSlots(row: AttentionRow, slots: Uint32Array, t: number): Uint32Array {
  const before = slots.length - row.length;
  if (row.treeMask === undefined) return slots.subarray(0, before + t + 1);
  const words = Math.ceil(row.length / 32);
  if (row.treeMask.length !== row.length * words) {
    throw new ShapeError(
      "attention",
      `tree mask of ${row.length} tokens needs ${words} words each`,
    );
  }
  const visible = new Uint32Array(slots.length);
  visible.set(slots.subarray(0, before));
  let count = before;
  for (let j = 0; j < row.length; j++) {
    const word = row.treeMask[t * words + (j >>> 5)]!;
    if ((word >>> (j & 31)) & 1) visible[count++] = slots[before + j]!;
  }
  return visible.subarray(0, count);
}

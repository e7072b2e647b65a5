/** attention on the host side: one kernel call per token and kv head. */
import { ShapeError } from "../../errors.ts";
import type { AttentionRow } from "../backend.ts";
import type { KvSignal } from "../../kv/policy.ts";
import { groupOf } from "../../kv/units.ts";
import { matrix } from "../cpu/tensor.ts";
import { attendHead, needsOwnTables } from "./attention_head.ts";
import type { WasmKvPool } from "./kv_pool.ts";
import { slotTables } from "./slot_tables.ts";
import type { Step } from "./step.ts";
import type { WasmTensor } from "./tensor.ts";

/** As in `Ops.attention`. */
export interface AttentionOptions {
  readonly scale: number;
  readonly signals: readonly KvSignal[];
  /** Queries of an adapter, [tokens, heads * width]. */
  readonly queries: (adapter: string) => WasmTensor | undefined;
}

/**
 * @param q [tokens, heads * headDim]
 * @returns [tokens, heads * headDim]
 * @throws {RangeError} if a page is not in the pool, or counts and pages do not fit together
 */
export function attention(
  step: Step,
  q: WasmTensor,
  pool: WasmKvPool,
  layer: number,
  rows: readonly AttentionRow[],
  { scale, signals, queries }: AttentionOptions,
): WasmTensor {
  const { kvHeads, headDim } = pool.layout;
  const width = matrix("attention", q)[1];
  const perGroup = width / headDim / kvHeads;
  if (!Number.isInteger(perGroup)) {
    throw new ShapeError(
      "attention",
      `q has ${width} columns, not a multiple of ${kvHeads} heads of ${headDim}`,
    );
  }
  pool.requireLayer(layer);
  const out = step.scope.alloc("attention", q.shape);
  const longest = Math.max(1, ...rows.flatMap(longestOf));
  const stride = Math.ceil(longest / 4) * 16;
  const weights = step.scope.block("attention weights", perGroup * stride);
  for (const row of rows) {
    const all = row.signals === undefined ? signals : [...signals, ...row.signals];
    const isSpecial = needsOwnTables(row, layer, all);
    for (let kvHead = 0; kvHead < kvHeads; kvHead++) {
      if (isSpecial) {
        const shared = { q, out, pool, layer, perGroup, scale, weights, stride, queries };
        attendHead(step, { ...shared, row, kvHead, signals: all });
        continue;
      }
      const group = groupOf(pool.layout, row.granularity, layer, kvHead);
      const tables = slotTables(step, row, pool, group);
      const keys = pool.keys(row.granularity, layer, kvHead);
      const values = pool.values(row.granularity, layer, kvHead);
      for (let t = 0; t < row.length; t++) {
        const at = 4 * ((row.start + t) * width + kvHead * perGroup * headDim);
        const table = tables[t]!;
        step.kernels.attention(
          q.address + at,
          out.address + at,
          perGroup,
          4 * headDim,
          pool.slotBytes,
          keys,
          values,
          table.address,
          table.count,
          weights,
          stride,
          pool.scratch,
          scale,
        );
      }
    }
  }
  return out;
}

/** Slots of the row's longest group. */
function longestOf({ counts, encoded }: AttentionRow): number[] {
  return Array.from(counts, (count, group) => count + (encoded?.counts[group] ?? 0));
}

/** attention on the host side: one kernel call per token and kv head. */
import { ShapeError } from "../../errors.ts";
import type { AttentionRow } from "../backend.ts";
import type { AttentionOptions } from "../cpu/attention.ts";
import { groupIndex } from "../cpu/kv_pool.ts";
import { matrix } from "../cpu/tensor.ts";
import type { WasmKvPool } from "./kv_pool.ts";
import { recordKeyNorms, recordWeights } from "./signals.ts";
import { slotTables } from "./slot_tables.ts";
import type { Step } from "./step.ts";
import type { WasmTensor } from "./tensor.ts";

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
  { scale, signals }: AttentionOptions,
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
  const longest = Math.max(1, ...rows.flatMap((row) => [...row.counts]));
  const stride = Math.ceil(longest / 4) * 16;
  const weights = step.scope.block("attention weights", perGroup * stride);
  for (const row of rows) {
    for (let kvHead = 0; kvHead < kvHeads; kvHead++) {
      const tables = slotTables(step, row, pool, groupIndex(row, pool.layout, layer, kvHead));
      if (signals.includes("key-norm")) {
        recordKeyNorms(pool, layer, kvHead, tables.at(-1)!, row.length);
      }
      const keys = pool.keys(layer, kvHead), values = pool.values(layer, kvHead);
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
        if (signals.length === 0) continue;
        for (let h = 0; h < perGroup; h++) {
          const address = weights + h * stride;
          const seen = { address, table, firstOfGroup: h === 0 };
          recordWeights(pool, layer, kvHead, seen, signals);
        }
      }
    }
  }
  return out;
}

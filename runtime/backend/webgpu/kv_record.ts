/** kv_record on the host side: what adapters (and the "query" signal) say about new tokens. */
import * as kernels from "../../../shaders/mod.ts";
import { ShapeError } from "../../errors.ts";
import type { KvSignal } from "../../kv/policy.ts";
import type { AttentionRow } from "../backend.ts";
import { matrix } from "../cpu/tensor.ts";
import type { GpuKvPool } from "./kv_pool.ts";
import { stepData, type Target, target } from "./recorder.ts";
import type { Stage } from "./stage.ts";
import type { GpuTensor } from "./tensor.ts";

/**
 * As `Ops.kvRecord`. New tokens are the last ones of their row's slots, so the page table says where
 * they are.
 *
 * @param values [tokens, kvHeads * width]
 */
export function kvRecord(
  stage: Stage,
  pool: GpuKvPool,
  layer: number,
  signal: `adapter:${string}`,
  values: GpuTensor,
  rows: readonly AttentionRow[],
): void {
  const width = matrix("kv_record", values)[1] / pool.layout.kvHeads;
  if (!Number.isInteger(width)) {
    throw new ShapeError("kv_record", `[${values.shape.join(", ")}] is not one run per head`);
  }
  pool.setWidth(signal, width);
  recordValues(stage, pool, layer, signal, values.target, rows);
}

/** Stores values as wide as the signal is; `values` may hold more tokens than the rows have. */
export function recordValues(
  stage: Stage,
  pool: GpuKvPool,
  layer: number,
  signal: KvSignal,
  values: Target,
  rows: readonly AttentionRow[],
): void {
  const { kvHeads, pageSize } = pool.layout;
  const width = pool.widthOf(signal), record = pool.record(signal, layer);
  const table = stage.tables.of(rows, pool, "kv_record");
  stage.dispatch(
    kernels.kvRecord,
    [
      kvHeads,
      width,
      pageSize,
      pool.slots,
      layer,
      pool.home(layer),
      table.tokens,
      table.rows,
    ],
    [values, stepData, target(record, 0, record.size)],
    [Math.ceil(kvHeads * width / 64), table.length, 1],
  );
}

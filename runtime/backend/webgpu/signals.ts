/** What attention records about slots for policies, on the host side. */
import * as kernels from "../../../shaders/mod.ts";
import type { KvSignal } from "../../kv/policy.ts";
import type { AttentionRow } from "../backend.ts";
import { type Reading, recordRead } from "./attention_read.ts";
import type { GpuKvPool } from "./kv_pool.ts";
import { recordValues } from "./kv_record.ts";
import type { GpuBuffer } from "./memory.ts";
import { stepData, type Target, target } from "./recorder.ts";
import type { RowTable } from "./row_table.ts";
import type { Stage } from "./stage.ts";

const whole = (buffer: GpuBuffer) => target(buffer, 0, buffer.size);

/** What is recorded of a layer's attention, and what it was computed from. */
export interface Recording {
  readonly signals: readonly KvSignal[];
  readonly scale: number;
  readonly heads: number;
  readonly q: Target;
  readonly stats: Target;
  readonly reading: Reading | undefined;
  readonly lists: Target | undefined;
}

const signalCodes: Readonly<Partial<Record<KvSignal, number>>> = {
  "attention-sum": 0,
  "attention-last": 1,
  "attention-max": 2,
  "key-norm": 3,
};

/** One dispatch per signal, over the rows that want it. */
export function recordSignals(
  stage: Stage,
  pool: GpuKvPool,
  layer: number,
  rows: readonly AttentionRow[],
  table: RowTable,
  { signals, scale, heads, q, stats, reading, lists }: Recording,
): void {
  const wanted = new Map<KvSignal, number[]>();
  for (const [r, row] of rows.entries()) {
    for (const signal of new Set([...signals, ...row.signals ?? []])) {
      const list = wanted.get(signal);
      if (list === undefined) wanted.set(signal, [r]);
      else list.push(r);
    }
  }
  const { kvHeads, headDim, pageSize } = pool.layout;
  for (const [signal, all] of wanted) {
    const views = signal === "key-norm" || signal === "query" ? undefined : reading?.table.views;
    const chosen = all.filter((r) => views?.has(r) !== true);
    if (signal === "query") {
      pool.setWidth("query", heads / kvHeads * headDim);
      recordValues(stage, pool, layer, signal, q, chosen.map((r) => rows[r]!));
      continue;
    }
    const code = signalCodes[signal];
    if (code === undefined) throw new TypeError(`The backend does not record "${signal}"`);
    for (const format of new Set(all.map((r) => rows[r]!.encoded?.format))) {
      const its = all.filter((r) => views?.has(r) && rows[r]!.encoded?.format === format);
      if (its.length === 0) continue;
      const encoded = format && pool.record(signal, layer, format);
      const what = { lists: lists!, stats, signal, code, rows: its, encoded };
      recordRead(stage, pool, reading!, what);
    }
    if (chosen.length === 0) continue;
    stage.dispatch(
      pool.kernel(kernels.attentionSignals),
      [
        heads,
        kvHeads,
        headDim,
        pool.padded / 4,
        pageSize,
        pool.slots,
        layer,
        pool.home(layer),
        table.rows,
        stage.data.put(Uint32Array.from(chosen)),
        scale,
        code,
      ],
      [q, whole(pool.keys(layer)), stats, stepData, whole(pool.record(signal, layer))],
      [Math.ceil(table.mostSlots / 64), kvHeads, chosen.length],
    );
  }
}

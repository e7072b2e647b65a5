/** attention on the host side: kernel calls for runs of tokens and kv heads, shared by threads. */
import { ShapeError } from "../../errors.ts";
import type { AttentionRow } from "../backend.ts";
import type { KvSignal } from "../../kv/policy.ts";
import { groupOf } from "../../kv/units.ts";
import { matrix } from "../cpu/tensor.ts";
import { attendHead, needsOwnTables } from "./attention_head.ts";
import type { WasmKvPool } from "./kv_pool.ts";
import { scratchBytes } from "./kernels/attention.ts";
import { type SlotTable, slotTables } from "./slot_tables.ts";
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
  const own = scratchBytes(pool.slotBytes, stride, perGroup);
  const scratch = step.scope.block("attention", own * step.team.most);
  const shared = { q, out, pool, layer, perGroup, scale, stride, scratch };
  const calls: number[][] = [];
  for (const row of rows) {
    const all = row.signals === undefined ? signals : [...signals, ...row.signals];
    const isSpecial = needsOwnTables(row, layer, all);
    for (let kvHead = 0; kvHead < kvHeads; kvHead++) {
      if (isSpecial) attendHead(step, { ...shared, row, kvHead, signals: all, queries });
      else addCalls(step, calls, { ...shared, row, kvHead });
    }
  }
  step.team.run("attention", calls, { argument: SCRATCH_ARGUMENT, bytes: own });
  return out;
}

/**
 * Products of a call, in units of the work from which on ops are shared: enough that cutting costs
 * nothing, few enough that threads end together.
 */
const CALL_SHARES = 8;
/** Place of the kernel's scratch memory among its arguments. */
const SCRATCH_ARGUMENT = 14;

interface Rows {
  readonly q: WasmTensor;
  readonly out: WasmTensor;
  readonly pool: WasmKvPool;
  readonly layer: number;
  readonly row: AttentionRow;
  readonly kvHead: number;
  readonly perGroup: number;
  readonly scale: number;
  readonly stride: number;
  readonly scratch: number;
}

/** Calls for one row and kv head: runs of tokens with one table. */
function addCalls(step: Step, calls: number[][], rows: Rows): void {
  const { q, out, pool, layer, row, kvHead, perGroup, scale, stride, scratch } = rows;
  const { headDim } = pool.layout;
  const width = q.shape[1]!;
  const tables = slotTables(step, row, pool, groupOf(pool.layout, row.granularity, layer, kvHead));
  const keys = pool.keys(row.granularity, layer, kvHead);
  const values = pool.values(row.granularity, layer, kvHead);
  for (let t = 0; t < row.length;) {
    const { address, count } = tables[t]!;
    const end = Math.min(t + tokensOf(step, perGroup * headDim * count), endOfRun(tables, t));
    const at = 4 * ((row.start + t) * width + kvHead * perGroup * headDim);
    calls.push([
      q.address + at,
      out.address + at,
      end - t,
      4 * width,
      perGroup,
      4 * headDim,
      pool.slotBytes,
      keys,
      values,
      address,
      count,
      stride,
      0,
      scale,
      scratch,
    ]);
    t = end;
  }
}

/** An even number, because the kernel takes vectors in pairs. */
const tokensOf = ({ sharedWork }: Step, work: number): number =>
  Math.max(2, 2 * Math.round(CALL_SHARES * sharedWork / work / 2));

/** End of the tokens from t on that share a table, each seeing one slot more. */
function endOfRun(tables: readonly SlotTable[], t: number): number {
  let end = t + 1;
  while (end < tables.length && tables[end]!.address === tables[t]!.address) end++;
  return end;
}

/** Slots of the row's longest group. */
function longestOf({ counts, encoded }: AttentionRow): number[] {
  return Array.from(counts, (count, group) => count + (encoded?.counts[group] ?? 0));
}

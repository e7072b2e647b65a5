/** kv_write and attention on the host side. */
import * as kernels from "../../../shaders/mod.ts";
import { ShapeError } from "../../errors.ts";
import type { KvSignal } from "../../kv/policy.ts";
import type { AttentionRow } from "../backend.ts";
import { matrix } from "../cpu/tensor.ts";
import { attend, PART } from "./attend.ts";
import type { GpuKvPool } from "./kv_pool.ts";
import type { GpuBuffer } from "./memory.ts";
import { attentionRead, chooseSlots } from "./attention_read.ts";
import { stepData, target } from "./recorder.ts";
import { ropeTable, rotationOf } from "./rows.ts";
import { readTable } from "./read_table.ts";
import type { RowTable } from "./row_table.ts";
import { recordSignals } from "./signals.ts";
import type { Stage } from "./stage.ts";
import type { GpuTensor, Slice } from "./tensor.ts";

type Slots = readonly (readonly Uint32Array[])[];

const LARGEST_HEAD = 256;
/** Steps of one loop at most: some drivers end longer ones. */
const MOST_PARTS = 32_768;

const whole = (buffer: GpuBuffer) => target(buffer, 0, buffer.size);
const all = ({ result, offset, bytes }: Slice) => target(result, offset, bytes);

/**
 * Stores the K and V of new tokens. What was recorded about the slots' former tokens is forgotten.
 * Rotations of k (and of a q with the same positions) that are not computed yet are done on the way.
 *
 * @param k [tokens, kvHeads * headDim], as is v
 * @throws {RangeError} if a slot is not in the pool
 */
export function kvWrite(
  stage: Stage,
  pool: GpuKvPool,
  layer: number,
  k: GpuTensor,
  v: GpuTensor,
  rows: readonly AttentionRow[],
  slots: Slots,
): void {
  const { kvHeads, headDim } = pool.layout;
  const width = kvHeads * headDim;
  const [tokens, columns] = matrix("kv_write", k);
  if (columns !== width || matrix("kv_write", v)[1] !== width) {
    throw new ShapeError("kv_write", `k [${k.shape.join(", ")}] must have ${width} columns`);
  }
  const keys = pool.keys(layer), values = pool.values(layer);
  const table = stage.tables.of(rows, pool, "kv_write", slots);
  rows.forEach(({ granularity }, r) => {
    for (const list of slots[r]!) pool.forgetBounds(granularity, list);
  });
  if (table.length > tokens) {
    throw new ShapeError("kv_write", `rows have ${table.length} tokens, k ${tokens}`);
  }
  if (!writeRotated(stage, pool, layer, k, v, table)) {
    stage.dispatch(
      pool.kernel(kernels.kvWrite),
      [
        kvHeads,
        headDim,
        pool.padded,
        pool.slots,
        layer,
        pool.home(layer),
        table.tokens,
        table.rows,
      ],
      [k.target, v.target, stepData, whole(keys), whole(values)],
      [Math.ceil(width / 64), table.length, 1],
    );
  }
  for (const { buffer, width, format } of pool.records(layer)) {
    if (format !== "f32") continue;
    stage.dispatch(
      kernels.signalClear,
      [kvHeads, pool.slots, layer, pool.home(layer), table.tokens, table.rows, width],
      [stepData, whole(buffer)],
      [Math.ceil(kvHeads * width / 64), table.length, 1],
    );
  }
}

/** Rotates q and k and writes in one dispatch, where both are waiting to be rotated. */
function writeRotated(
  stage: Stage,
  pool: GpuKvPool,
  layer: number,
  k: GpuTensor,
  v: GpuTensor,
  table: RowTable,
): boolean {
  const { kvHeads, headDim } = pool.layout;
  const turn = rotationOf(stage, k);
  if (turn === undefined || turn.spec.headDim !== headDim || table.length !== k.shape[0]) {
    return false;
  }
  const { positions, spec } = turn;
  const q = [...stage.pending].find((tensor) => {
    const other = tensor === k ? undefined : rotationOf(stage, tensor);
    return other?.positions === positions && other.spec === spec;
  });
  if (q === undefined) return false;
  const heads = q.shape[1]! / headDim, half = headDim / 2;
  const [qIn, kIn, vIn] = [rotationOf(stage, q)!.x.target, turn.x.target, v.target];
  const qOut = stage.slice("rope", q.shape);
  stage.dispatch(
    pool.kernel(kernels.ropeKvWrite),
    [
      heads,
      kvHeads,
      half,
      spec.layout === "half" ? half : 1,
      pool.padded,
      pool.slots,
      layer,
      pool.home(layer),
      stage.data.put(positions),
      table.tokens,
      table.rows,
    ],
    [
      qIn,
      kIn,
      vIn,
      ropeTable(stage, spec, positions),
      stepData,
      all(qOut),
      whole(pool.keys(layer)),
      whole(pool.values(layer)),
    ],
    [Math.ceil((heads + 2 * kvHeads) * half / 64), table.length, 1],
  );
  stage.pending.delete(q);
  q.settle(qOut);
  return true;
}

/** As in `Ops.attention`. */
export interface AttentionOptions {
  readonly scale: number;
  readonly signals: readonly KvSignal[];
  /** Of adapters, by name. */
  readonly queries?: ReadonlyMap<string, GpuTensor> | undefined;
}

/**
 * @param q [tokens, heads * headDim]
 * @returns [tokens, heads * headDim]
 * @throws {RangeError} if a page is not in the pool, or counts and pages do not fit together
 */
export function attention(
  stage: Stage,
  q: GpuTensor,
  pool: GpuKvPool,
  layer: number,
  rows: readonly AttentionRow[],
  { scale, signals, queries }: AttentionOptions,
): GpuTensor {
  const { kvHeads, headDim } = pool.layout;
  const [tokens, width] = matrix("attention", q);
  const heads = width / headDim;
  if (!Number.isInteger(heads / kvHeads)) {
    throw new ShapeError(
      "attention",
      `q has ${width} columns, not a multiple of ${kvHeads} heads of ${headDim}`,
    );
  }
  if (headDim > LARGEST_HEAD) {
    throw new ShapeError("attention", `heads of ${headDim} are above ${LARGEST_HEAD}`);
  }
  const table = stage.tables.of(rows, pool, "attention");
  if (table.length > tokens) {
    throw new ShapeError("attention", `rows have ${table.length} tokens, q ${tokens}`);
  }
  const chosen = readTable(stage, pool, layer, rows, table);
  const longest = Math.max(table.mostSlots, chosen?.mostSlots ?? 0);
  if (longest > PART * MOST_PARTS) {
    throw new RangeError(`A row of ${longest} slots is longer than kernels can go through`);
  }
  const from = q.target;
  const y = stage.slice("attention", q.shape);
  const stats = stage.slice("attention", [tokens, heads, 2]);
  const reading = chosen && { table: chosen, layer, heads, scale, q: from, queries };
  const lists = reading && chooseSlots(stage, pool, reading);
  if (chosen?.isAll !== true) {
    attend(stage, pool, { layer, rows, table, heads, scale, q: from, y, stats });
  }
  if (reading !== undefined) {
    attentionRead(stage, pool, reading, { lists: lists!, y: all(y), stats: all(stats) });
  }
  recordSignals(stage, pool, layer, rows, table, {
    signals,
    scale,
    heads,
    q: from,
    stats: all(stats),
    reading,
    lists,
  });
  return stage.tensor("attention", q.shape, y);
}

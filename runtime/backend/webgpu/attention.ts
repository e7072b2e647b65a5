/** kv_write, attention and kv_copy on the host side. */
import * as kernels from "../../../shaders/mod.ts";
import { ShapeError } from "../../errors.ts";
import type { KvSignal } from "../../kv/policy.ts";
import type { AttentionRow, CopyOptions } from "../backend.ts";
import { requireDistinct } from "../cpu/kv_copy.ts";
import { matrix } from "../cpu/tensor.ts";
import { attend, PART } from "./attend.ts";
import type { GpuKvPool } from "./kv_pool.ts";
import type { GpuBuffer } from "./memory.ts";
import { recordValues } from "./kv_record.ts";
import { stepData, type Target, target } from "./recorder.ts";
import { ropeTable, rotationOf } from "./rows.ts";
import type { RowTable } from "./row_table.ts";
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
  if (table.length > tokens) {
    throw new ShapeError("kv_write", `rows have ${table.length} tokens, k ${tokens}`);
  }
  if (!writeRotated(stage, pool, layer, k, v, table)) {
    stage.dispatch(
      kernels.kvWrite,
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
    kernels.ropeKvWrite,
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
  { scale, signals }: AttentionOptions,
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
  if (table.mostSlots > PART * MOST_PARTS) {
    throw new RangeError(`A row of ${table.mostSlots} slots is longer than kernels can go through`);
  }
  const from = q.target;
  const y = stage.slice("attention", q.shape);
  const stats = stage.slice("attention", [tokens, heads, 2]);
  attend(stage, pool, { layer, rows, table, heads, scale, q: from, y, stats });
  recordSignals(stage, pool, layer, rows, table, {
    signals,
    scale,
    heads,
    q: from,
    stats: all(stats),
  });
  return stage.tensor("attention", q.shape, y);
}

interface Recording {
  readonly signals: readonly KvSignal[];
  readonly scale: number;
  readonly heads: number;
  readonly q: Target;
  readonly stats: Target;
}

const signalCodes: Readonly<Partial<Record<KvSignal, number>>> = {
  "attention-sum": 0,
  "attention-last": 1,
  "attention-max": 2,
  "key-norm": 3,
};

/** One dispatch per signal, over the rows that want it. */
function recordSignals(
  stage: Stage,
  pool: GpuKvPool,
  layer: number,
  rows: readonly AttentionRow[],
  table: RowTable,
  { signals, scale, heads, q, stats }: Recording,
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
  for (const [signal, chosen] of wanted) {
    if (signal === "query") {
      pool.setWidth("query", heads / kvHeads * headDim);
      recordValues(stage, pool, layer, signal, q, chosen.map((r) => rows[r]!));
      continue;
    }
    const code = signalCodes[signal];
    if (code === undefined) throw new TypeError(`The backend does not record "${signal}"`);
    stage.dispatch(
      kernels.attentionSignals,
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

/**
 * Copies K, V and recorded signals of all units behind slots.
 *
 * @throws {RangeError} if a slot is not in the pool, or a target is also a source or repeated
 */
export function kvCopy(
  stage: Stage,
  pool: GpuKvPool,
  from: Uint32Array,
  to: Uint32Array,
  { granularity = "sequence", format = "f32", turn }: CopyOptions = {},
): void {
  if (format !== "f32") throw new TypeError("The backend has f32 slots only");
  requireDistinct(from, to);
  for (const slot of [...from, ...to]) pool.requireSlot(granularity, slot);
  if (from.length === 0) return;
  const { kvHeads } = pool.layout;
  const at = stage.data.reserve(2 * from.length, (words) => {
    words.set(from.map((slot) => pool.slotOffset(granularity, slot)));
    words.set(to.map((slot) => pool.slotOffset(granularity, slot)), from.length);
  });
  const copy = (buffer: GpuBuffer, width: number, heads: number) =>
    stage.dispatch(
      kernels.kvCopy,
      [heads, pool.slots, 0, width, from.length, at],
      [stepData, whole(buffer)],
      [Math.ceil(heads * width / 64), from.length, 1],
    );
  for (const part of pool.parts) {
    // A sequence's slots are in every layer; others are wherever their unit is.
    const heads = { sequence: part.layers * kvHeads, layer: kvHeads, "kv-head": 1 }[granularity];
    copy(part.keys, pool.padded, heads);
    copy(part.values, pool.padded, heads);
    for (const { buffer, width, format: its } of part.records()) {
      if (its === format) copy(buffer, width, heads);
    }
    if (turn !== undefined) turnKeys(stage, pool, part.keys, heads, at + from.length, turn);
  }
}

/** Rotates the keys of slots on; `at` is the word of their list. */
function turnKeys(
  stage: Stage,
  pool: GpuKvPool,
  keys: GpuBuffer,
  heads: number,
  at: number,
  { shifts, rope }: NonNullable<CopyOptions["turn"]>,
): void {
  const half = rope.headDim / 2;
  const turns = stage.data.once(shifts, () => {
    const table = new Float32Array(shifts.length * 2 * half);
    shifts.forEach((shift, i) => {
      for (let d = 0; d < half; d++) {
        table[i * 2 * half + d] = Math.cos(shift * rope.frequencies[d]!);
        table[(2 * i + 1) * half + d] = Math.sin(shift * rope.frequencies[d]!);
      }
    });
    return stage.data.put(new Uint32Array(table.buffer));
  });
  const gap = rope.layout === "half" ? half : 1;
  stage.dispatch(
    kernels.kvTurn,
    [heads, pool.slots, pool.padded, half, gap, at, turns],
    [stepData, whole(keys)],
    [Math.ceil(heads * half / 64), shifts.length, 1],
  );
}

/**
 * Attention of rows that read less than they hold, or hold older slots in another format: rules choose
 * slots from scores, then attention_read takes what attention would have computed for these tokens.
 */
import * as kernels from "../../../shaders/mod.ts";
import { ShapeError } from "../../errors.ts";
import type { KvSignal } from "../../kv/policy.ts";
import { matrix } from "../cpu/tensor.ts";
import { PART, spreads } from "./attend.ts";
import type { GpuKvPool } from "./kv_pool.ts";
import type { GpuBuffer } from "./memory.ts";
import { pageBounds } from "./page_bounds.ts";
import type { ReadTable, Ruled } from "./read_table.ts";
import { stepData, type Target, target } from "./recorder.ts";
import type { Stage } from "./stage.ts";
import type { GpuTensor, Slice } from "./tensor.ts";

/** Values of scores that are held at once: prompts whose tokens all choose are taken in pieces. */
const MOST_SCORES = 1 << 22;
/** Numbers of an adapter's record: kernels go through them in one loop. */
const WIDEST = 4096;
const scoreCodes = { oracle: 0, bounds: 1, adapter: 2 } as const;

const whole = (buffer: GpuBuffer) => target(buffer, 0, buffer.size);
const all = ({ result, offset, bytes }: Slice) => target(result, offset, bytes);

/** What attention of one layer is about. */
export interface Reading {
  readonly table: ReadTable;
  readonly layer: number;
  readonly heads: number;
  readonly scale: number;
  readonly q: Target;
  /** Of adapters, by name. */
  readonly queries: ReadonlyMap<string, GpuTensor> | undefined;
}

/**
 * Chooses what tokens read by their rules.
 *
 * @returns the lists that {@link attentionRead} and {@link recordRead} take
 * @throws {ShapeError} if an adapter's queries are missing
 */
export function chooseSlots(stage: Stage, pool: GpuKvPool, reading: Reading): Target {
  const { table: { lists, room, ruled } } = reading, { kvHeads } = pool.layout;
  if (lists === 0) return stepData;
  const out = all(stage.slice("read_lists", [lists, kvHeads, room]));
  for (const kind of ruled) {
    const space = 2 ** Math.ceil(Math.log2(Math.max(64, kind.mostSlots)));
    const most = Math.max(1, Math.floor(MOST_SCORES / (kvHeads * space)));
    for (let start = 0; start < kind.tokens.length; start += most) {
      const tokens = kind.tokens.slice(start, start + most);
      const scores = all(stage.slice("read_scores", [tokens.length, kvHeads, space]));
      const words = tokens.flatMap(({ token, view }) => [token, view]);
      const at = stage.data.put(Uint32Array.from(words)), first = kind.first + start;
      score(stage, pool, reading, kind, { at, first, space, count: tokens.length, scores });
      stage.dispatch(
        kernels.chooseSlots,
        [kvHeads, reading.layer, at, first, space, room],
        [scores, stepData, out],
        [kvHeads, tokens.length, 1],
      );
    }
  }
  return out;
}

interface Scoring {
  readonly at: number;
  readonly first: number;
  readonly space: number;
  readonly count: number;
  readonly scores: Target;
}

function score(
  stage: Stage,
  pool: GpuKvPool,
  { layer, heads, q, queries }: Reading,
  { score: kind, adapter, format, rows, mostSlots }: Ruled,
  { at, first, space, count, scores }: Scoring,
): void {
  const { kvHeads, headDim, pageSize } = pool.layout;
  const keys = whole(pool.keys(layer));
  let from = q, memory = keys, encoded = keys, width = headDim;
  if (kind === "bounds") encoded = whole(pageBounds(stage, pool, layer, rows));
  if (kind === "adapter") {
    const theirs = queries?.get(adapter ?? "");
    if (theirs === undefined) {
      throw new ShapeError("attention", "a rule that scores by an adapter needs its queries");
    }
    const signal: KvSignal = `adapter:${adapter}`;
    width = matrix("attention", theirs)[1] / heads;
    if (width > WIDEST) {
      throw new ShapeError("attention", `records of ${width} are above ${WIDEST}`);
    }
    if (pool.widthOf(signal) !== width) {
      throw new ShapeError("attention", `queries of ${width}, records of ${pool.widthOf(signal)}`);
    }
    from = theirs.target;
    memory = whole(pool.record(signal, layer));
    encoded = whole(pool.record(signal, layer, format));
  }
  // Pages of bounds begin anew behind the slots in another format.
  const lanes = kind === "bounds" ? Math.ceil(mostSlots / pageSize) + 1 : mostSlots;
  stage.dispatch(
    kernels.readScores,
    [
      heads,
      kvHeads,
      headDim,
      pool.padded / 4,
      pageSize,
      pool.slots,
      layer,
      pool.home(layer),
      at,
      first,
      space,
      width,
    ],
    [from, memory, encoded, stepData, scores],
    [Math.ceil(lanes / 64), kvHeads, count],
    { SCORE: scoreCodes[kind] },
  );
}

/** Attention of the chosen tokens, into y and stats of all tokens. */
export function attentionRead(
  stage: Stage,
  pool: GpuKvPool,
  { table, layer, heads, scale, q }: Reading,
  { lists, y, stats }: { readonly lists: Target; readonly y: Target; readonly stats: Target },
): void {
  const { kvHeads, headDim, pageSize } = pool.layout, { count } = table;
  const parts = 2 ** Math.ceil(Math.log2(Math.max(1, Math.ceil(table.mostRead / PART))));
  const splits = spreads(count * heads, parts);
  const out = splits ? all(stage.slice("attention", [count, heads, parts, headDim])) : y;
  const outStats = splits ? all(stage.slice("attention", [count, heads, parts, 2])) : stats;
  stage.dispatch(
    kernels.attentionRead,
    [
      heads,
      kvHeads,
      headDim,
      pool.padded / 4,
      pageSize,
      pool.slots,
      layer,
      pool.home(layer),
      table.chosen,
      table.room,
      splits ? parts : 1,
      scale,
    ],
    [q, whole(pool.keys(layer)), whole(pool.values(layer)), stepData, lists, out, outStats],
    [heads, count, splits ? parts : 1],
    splits ? { SPLIT: 1 } : {},
  );
  if (!splits) return;
  stage.dispatch(
    kernels.attentionMerge,
    [heads, headDim, parts, table.numbers],
    [out, outStats, stepData, y, stats],
    [heads, count, 1],
  );
}

/** Records an attention signal of some of the chosen rows, which have one format. */
export function recordRead(
  stage: Stage,
  pool: GpuKvPool,
  { table, layer, heads, scale, q }: Reading,
  { lists, stats, signal, code, rows, encoded }: {
    readonly lists: Target;
    readonly stats: Target;
    readonly signal: KvSignal;
    readonly code: number;
    /** Their numbers. */
    readonly rows: readonly number[];
    /** The record of the other format, if there is one. */
    readonly encoded: GpuBuffer | undefined;
  },
): void {
  const { kvHeads, headDim, pageSize } = pool.layout;
  const views = Uint32Array.from(rows, (r) => table.views.get(r)!);
  stage.dispatch(
    kernels.attentionReadSignals,
    [
      heads,
      kvHeads,
      headDim,
      pool.padded / 4,
      pageSize,
      pool.slots,
      layer,
      pool.home(layer),
      stage.data.put(views),
      table.room,
      scale,
      code,
    ],
    [
      q,
      whole(pool.keys(layer)),
      stats,
      stepData,
      lists,
      whole(pool.record(signal, layer)),
      encoded === undefined ? all(stage.slice("none", [1])) : whole(encoded),
    ],
    [Math.ceil(table.mostSlots / 64), kvHeads, rows.length],
  );
}

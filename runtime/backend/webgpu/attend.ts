/**
 * Which attention kernel takes which tokens: long runs of a row in causal order go in tiles of queries that
 * share what they read, all others alone, their slots spread over workgroups where those are many.
 * Either way a token's bits are the same.
 */
import * as kernels from "../../../shaders/mod.ts";
import type { AttentionRow } from "../backend.ts";
import type { GpuKvPool } from "./kv_pool.ts";
import { stepData, type Target, target } from "./recorder.ts";
import type { RowTable } from "./row_table.ts";
import type { Stage } from "./stage.ts";
import type { Slice } from "./tensor.ts";

/** Slots that are taken at a time; as in the kernels. */
export const PART = 64;
/** Parts from which on they are spread over workgroups. */
const SPLIT_FROM = 8;
/** Most workgroups to spread them over: beyond, queries alone fill a device, and parts would take memory. */
const SPLIT_MOST = 2 ** 17;
/** Queries of a tile; as in attention_tile.wgsl. */
const TILE = 8;
/** Rows are tiled from this share of the tokens on from which products are. */
const TILED_SHARE = 4;

/** One layer's attention. */
export interface Attending {
  readonly layer: number;
  readonly rows: readonly AttentionRow[];
  readonly table: RowTable;
  readonly heads: number;
  readonly scale: number;
  readonly q: Target;
  /** Of all tokens of the step. */
  readonly y: Slice;
  readonly stats: Slice;
}

/** Where tiles and the tokens of no tile are in the step's data. */
interface Plan {
  readonly perGroup: number;
  readonly tilesAt: number;
  readonly tiles: number;
  /** Word of the other tokens' numbers; 0: they are all. */
  readonly chosen: number;
  readonly others: number;
  /** Most slots that one of the others counts. */
  readonly mostSlots: number;
}

/** Whether each part of the slots of so many queries gets a workgroup of its own. It changes no result. */
export function spreads(queries: number, parts: number): boolean {
  return parts >= SPLIT_FROM && queries * parts <= SPLIT_MOST;
}

const plans = new WeakMap<RowTable, Plan>();

/** Computes y and stats of all tokens. */
export function attend(stage: Stage, pool: GpuKvPool, work: Attending): void {
  const perGroup = work.heads / pool.layout.kvHeads;
  let plan = plans.get(work.table);
  if (plan?.perGroup !== perGroup) {
    plans.set(work.table, plan = planOf(stage, work.rows, work.table, perGroup));
  }
  if (plan.tiles > 0) attendTiles(stage, pool, work, plan);
  if (plan.others > 0) attendOthers(stage, pool, work, plan);
}

/** The same for every layer of a step. */
function planOf(
  stage: Stage,
  rows: readonly AttentionRow[],
  { length, mostSlots }: RowTable,
  perGroup: number,
): Plan {
  const from = Math.ceil(stage.tilesFrom / TILED_SHARE);
  const isTiled = ({ length, treeMask }: AttentionRow) => treeMask === undefined && length >= from;
  const tiles = rows.flatMap((row, r) => {
    const queries = isTiled(row) ? row.length * perGroup : 0;
    return Array.from({ length: Math.ceil(queries / TILE) }, (_, i) => [r, i * TILE]);
  });
  if (tiles.length === 0) {
    return { perGroup, tilesAt: 0, tiles: 0, chosen: 0, others: length, mostSlots };
  }
  const others = rows.filter((row) => !isTiled(row));
  const tokens = others.flatMap((row) =>
    Array.from({ length: row.length }, (_, i) => row.start + i)
  );
  return {
    perGroup,
    tilesAt: stage.data.put(Uint32Array.from(tiles.flat())),
    tiles: tiles.length,
    chosen: stage.data.put(Uint32Array.from(tokens)),
    others: tokens.length,
    mostSlots: others.reduce((most, { counts }) => Math.max(most, ...counts), 0),
  };
}

const all = ({ result, offset, bytes }: Slice) => target(result, offset, bytes);

/** What all attention kernels are told first. */
function shapeOf(pool: GpuKvPool, { heads, layer }: Attending): number[] {
  const { kvHeads, headDim, pageSize } = pool.layout;
  const quads = pool.padded / 4;
  return [heads, kvHeads, headDim, quads, pageSize, pool.slots, layer, pool.home(layer)];
}

function inputs(pool: GpuKvPool, { layer, q }: Attending): Target[] {
  const keys = pool.keys(layer), values = pool.values(layer);
  return [q, target(keys, 0, keys.size), target(values, 0, values.size), stepData];
}

function attendTiles(stage: Stage, pool: GpuKvPool, work: Attending, { tilesAt, tiles }: Plan) {
  const { kvHeads, headDim } = pool.layout;
  stage.dispatch(
    pool.kernel(kernels.attentionTile),
    [...shapeOf(pool, work), work.table.rows, tilesAt, work.scale],
    [...inputs(pool, work), all(work.y), all(work.stats)],
    [kvHeads, tiles, 1],
    { WIDE: headDim > 128 ? 4 : headDim > 64 ? 2 : 1 },
  );
}

function attendOthers(
  stage: Stage,
  pool: GpuKvPool,
  work: Attending,
  { chosen, others, mostSlots }: Plan,
): void {
  const { table, heads, scale, y, stats } = work;
  const { headDim } = pool.layout;
  // Room by powers of two, so that a growing sequence keeps its bind groups for long.
  const parts = 2 ** Math.ceil(Math.log2(Math.max(1, Math.ceil(mostSlots / PART))));
  const splits = spreads(others * heads, parts);
  const out = splits ? stage.slice("attention", [others, heads, parts, headDim]) : y;
  const outStats = splits ? stage.slice("attention", [others, heads, parts, 2]) : stats;
  stage.dispatch(
    pool.kernel(kernels.attention),
    [...shapeOf(pool, work), table.tokens, table.rows, splits ? parts : 1, scale, chosen],
    [...inputs(pool, work), all(out), all(outStats)],
    [heads, others, splits ? parts : 1],
    splits ? { SPLIT: 1 } : {},
  );
  if (!splits) return;
  stage.dispatch(
    kernels.attentionMerge,
    [heads, headDim, parts, chosen],
    [all(out), all(outStats), stepData, all(y), all(stats)],
    [heads, others, 1],
  );
}

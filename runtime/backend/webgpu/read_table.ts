/**
 * Rows whose tokens choose what they read, from some of which slots are hidden, or whose older slots are
 * in another format, in words of the step's data, beside what row_table.ts says of all rows: views
 * (read_views.ts), and per chosen token 2 words, its number and the word of its row's view.
 */
import type { AttentionRow } from "../backend.ts";
import type { GpuKvPool } from "./kv_pool.ts";
import {
  isRuled,
  kindsOf,
  roomOf,
  type Ruled,
  ruledOf,
  ruleFromOf,
  slotsOf,
} from "./read_rules.ts";
import { putView } from "./read_views.ts";
import type { RowTable } from "./row_table.ts";
import type { Stage } from "./stage.ts";

export type { Ruled } from "./read_rules.ts";

/** See file comment. */
export interface ReadTable {
  /** Word of the chosen tokens, and how many there are. */
  readonly chosen: number;
  /** Word of their numbers alone. */
  readonly numbers: number;
  readonly count: number;
  /** Whether there are no other tokens. */
  readonly isAll: boolean;
  /** By the row's number, the word of its view. */
  readonly views: ReadonlyMap<number, number>;
  /** Most slots that a chosen token reads, and that a chosen row has. */
  readonly mostRead: number;
  readonly mostSlots: number;
  readonly ruled: readonly Ruled[];
  /** Lists that rules make, and words of each. */
  readonly lists: number;
  readonly room: number;
}

const tables = new WeakMap<RowTable, Map<string, ReadTable | undefined>>();

/**
 * What a layer's attention has to read in a way of its own; undefined if nothing.
 *
 * @throws {RangeError} if a page is not in the pool, or counts and pages do not fit together
 * @throws {ShapeError} if there is no table for a group
 */
export function readTable(
  stage: Stage,
  pool: GpuKvPool,
  layer: number,
  rows: readonly AttentionRow[],
  table: RowTable,
): ReadTable | undefined {
  if (rows.every((row) => row.encoded === undefined && row.rule === undefined && !row.sight)) {
    return undefined;
  }
  let known = tables.get(table);
  if (known === undefined) tables.set(table, known = new Map());
  const key = rows.map((row) => Number(isRuled(row, layer))).join("");
  if (!known.has(key)) known.set(key, write(stage, pool, layer, rows, table));
  return known.get(key);
}

function write(
  stage: Stage,
  pool: GpuKvPool,
  layer: number,
  rows: readonly AttentionRow[],
  table: RowTable,
): ReadTable | undefined {
  const kinds = kindsOf(rows, layer);
  const firsts = new Map(kinds.flatMap(({ firsts }) => [...firsts]));
  const chosen = Math.max(0, ...[...firsts.keys()].map((r) => roomOf(rows[r]!)));
  // By powers of two, so that a growing sequence keeps its bind groups for long.
  const room = 1 + 2 ** Math.ceil(Math.log2(Math.max(1, chosen)));
  const views = new Map<number, number>();
  const tokens: { readonly token: number; readonly view: number }[] = [];
  let mostRead = 0, mostSlots = 0;
  for (const [r, row] of rows.entries()) {
    const first = firsts.get(r), isPlain = row.encoded === undefined && row.sight === undefined;
    if (isPlain && first === undefined) continue;
    const from = first === undefined ? row.length : ruleFromOf(row), slots = slotsOf(row);
    mostSlots = Math.max(mostSlots, slots);
    mostRead = Math.max(mostRead, from > 0 ? slots : chosen);
    const view = putView(stage, pool, row, { row: table.rows + 6 * r, from, first: first ?? 0 });
    views.set(r, view);
    // Tokens that read everything from f32 slots are anybody's.
    for (let t = isPlain ? from : 0; t < row.length; t++) {
      tokens.push({ token: row.start + t, view });
    }
  }
  if (tokens.length === 0) return undefined;
  const { data } = stage;
  return {
    chosen: data.put(Uint32Array.from(tokens.flatMap(({ token, view }) => [token, view]))),
    numbers: data.put(Uint32Array.from(tokens, ({ token }) => token)),
    count: tokens.length,
    isAll: tokens.length === rows.reduce((sum, row) => sum + row.length, 0),
    views,
    mostRead,
    mostSlots,
    lists: kinds.reduce((sum, { lists }) => sum + lists, 0),
    room,
    ruled: kinds.map((kind) => ruledOf(kind, rows, views)),
  };
}

/**
 * Rows whose tokens choose what they read, from some of which slots are hidden, or whose older slots are
 * in another format, in words of the step's data, beside what row_table.ts says of all rows.
 *
 * - per chosen token, 2 words: its number; word of its row's view
 * - per view, 10 words: word of the row; format of older slots (0 f32: there are none, 1 int8, 2 int4,
 *   3 kivi4); slots per page of it; word of its groups; first token that a rule chooses for (the row's
 *   length: none) and the number of its list; the rule's budget, sinks, window; word of what its tokens
 *   see where slots are hidden from some, 0: as row_table.ts says
 * - per token of a row with hidden slots, 2 words: how many slots it sees; word of their list
 * - per group, 5 words: slots in the other format; word of their page list (units from the first of
 *   the layer and head); how many older slots of a list are read, word of the list (0: all are), slot
 *   from which on all are. Slots are counted from the first one whatever its format.
 */
import { ShapeError } from "../../errors.ts";
import type { KvFormat, ReadRule } from "../../kv/policy.ts";
import { groupCount } from "../../kv/units.ts";
import type { AttentionRow } from "../backend.ts";
import { ruleOf, visibleIndices } from "../cpu/row_slots.ts";
import { formCodes } from "./kv_copy.ts";
import type { GpuKvPool } from "./kv_pool.ts";
import type { RowTable } from "./row_table.ts";
import type { Stage } from "./stage.ts";

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

/** Tokens that choose by one kind of score. */
export interface Ruled {
  readonly score: ReadRule["score"];
  readonly adapter: string | undefined;
  /** Of older slots. */
  readonly format: KvFormat;
  readonly rows: readonly AttentionRow[];
  readonly tokens: readonly { readonly token: number; readonly view: number }[];
  /** Number of the first one's list; the others' follow. */
  readonly first: number;
  readonly mostSlots: number;
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

function isRuled(row: AttentionRow, layer: number): boolean {
  return ruleOf(row, layer, row.length - 1) !== undefined;
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

/** Rows that choose by one kind of score. */
interface Kind {
  readonly rule: ReadRule;
  readonly format: KvFormat;
  /** By the row's number, the number of its first list; lists are numbered over all kinds. */
  readonly firsts: Map<number, number>;
  lists: number;
}

function kindsOf(rows: readonly AttentionRow[], layer: number): Kind[] {
  const kinds = new Map<string, Kind & { readonly rows: number[] }>();
  for (const [r, row] of rows.entries()) {
    if (!isRuled(row, layer)) continue;
    const rule = row.rule!, format = row.encoded?.format ?? "f32";
    const key = `${rule.score} ${rule.adapter} ${format}`;
    let kind = kinds.get(key);
    if (kind === undefined) {
      kinds.set(key, kind = { rule, format, firsts: new Map(), lists: 0, rows: [] });
    }
    kind.rows.push(r);
  }
  let next = 0;
  for (const kind of kinds.values()) {
    for (const r of kind.rows) {
      const count = rows[r]!.length - ruleFromOf(rows[r]!);
      kind.firsts.set(r, next);
      kind.lists += count;
      next += count;
    }
  }
  return [...kinds.values()];
}

function ruledOf(
  { rule, format, firsts }: Kind,
  rows: readonly AttentionRow[],
  views: ReadonlyMap<number, number>,
): Ruled {
  const members = [...firsts.keys()];
  return {
    score: rule.score,
    adapter: rule.adapter,
    format,
    first: firsts.get(members[0]!)!,
    rows: members.map((r) => rows[r]!),
    mostSlots: Math.max(...members.map((r) => slotsOf(rows[r]!))),
    tokens: members.flatMap((r) => {
      const row = rows[r]!, from = ruleFromOf(row), view = views.get(r)!;
      return Array.from(
        { length: row.length - from },
        (_, i) => ({ token: row.start + from + i, view }),
      );
    }),
  };
}

/** Most slots that a rule of the row chooses. */
function roomOf(row: AttentionRow): number {
  const { budget, sinks, window } = row.rule!;
  return Math.min(slotsOf(row), Math.max(budget, sinks + Math.max(1, window)));
}

function putView(
  stage: Stage,
  pool: GpuKvPool,
  row: AttentionRow,
  { row: at, from, first }: { readonly row: number; readonly from: number; readonly first: number },
): number {
  const format = row.encoded?.format ?? "f32";
  const { budget = 0, sinks = 0, window = 0 } = row.rule ?? {};
  const word = (count: number) => Math.min(count, 0xffffffff);
  return stage.data.put(Uint32Array.of(
    at,
    formCodes[format],
    pool.slotsPerPage(format),
    putGroups(stage, pool, row),
    from,
    first,
    word(budget),
    word(sinks),
    word(window),
    row.sight === undefined ? 0 : putSight(stage, row, slotsOf(row)),
  ));
}

function ruleFromOf(row: AttentionRow): number {
  return Math.min(row.length, row.ruleFrom ?? 0);
}

/** The most that one of its tables counts. */
function slotsOf({ counts, encoded }: AttentionRow): number {
  return counts.reduce((most, count, g) => Math.max(most, count + (encoded?.counts[g] ?? 0)), 0);
}

function putGroups(stage: Stage, pool: GpuKvPool, row: AttentionRow): number {
  const { encoded, granularity } = row, { data } = stage;
  const groups = Array.from({ length: groupCount(pool.layout, granularity) }, (_, g) => {
    const count = encoded?.counts[g] ?? 0;
    if (count > 0) checkPages(pool, row, g);
    const units = encoded?.pages[g]?.map((id) => pool.unitOffset(granularity, id));
    const read = row.read?.[g], total = count + row.counts[g]!;
    const before = total - row.length;
    const from = read === undefined ? 0 : Math.min(before, row.readFrom?.[g] ?? before);
    const list = read?.filter((slot) => slot < from);
    return [
      count,
      units === undefined ? 0 : data.put(units),
      list?.length ?? 0,
      list === undefined ? 0 : data.put(list),
      from,
    ];
  });
  return data.put(Uint32Array.from(groups.flat()));
}

/**
 * Writes the slots that each token sees, without gaps.
 *
 * @throws {ShapeError} if there is not one end of sight per slot
 */
function putSight(stage: Stage, row: AttentionRow, slots: number): number {
  return stage.data.once(row.sight!, () => {
    const places = new Uint32Array(slots); // only how many there are is looked at
    const seen = Array.from(
      { length: row.length },
      (_, t) => visibleIndices(row, { group: 0, places }, t),
    );
    const total = seen.reduce((sum, list) => sum + list.length, 0);
    let next = stage.data.reserve(total, (words) => {
      let at = 0;
      for (const list of seen) {
        words.set(list, at);
        at += list.length;
      }
    });
    const pairs = seen.flatMap((list) => {
      const at = next;
      next += list.length;
      return [list.length, at];
    });
    return stage.data.put(Uint32Array.from(pairs));
  });
}

function checkPages(pool: GpuKvPool, { encoded, granularity }: AttentionRow, group: number): void {
  const { format, pages, counts } = encoded!, perPage = pool.slotsPerPage(format);
  const ids = pages[group];
  if (ids === undefined) {
    throw new ShapeError("attention", `there is no table of ${format} pages for group ${group}`);
  }
  if (counts[group]! > ids.length * perPage) {
    throw new RangeError(
      `Group ${group} counts ${counts[group]} ${format} slots and has ${ids.length} pages of them`,
    );
  }
  for (const id of ids) pool.requirePage(granularity, id);
}

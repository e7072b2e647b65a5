/**
 * Rows as kernels read them, in words of the step's data.
 *
 * - per token: the number of its row, 2^32 - 1 for tokens of no row
 * - per row, 6 words: first token; tokens; granularity (0 sequence, 1 layer, 2 kv head); word of its
 *   groups; word of its tree mask, 0 for causal order; word of what its tokens see, 0 for causal order
 * - per token of a tree, 2 words: how many of the row's tokens it sees; word of their list
 * - per group, 6 words: slots counted; word of its page list (units from the
 *   first of its layer and head, see kv/units.ts); word of the slots of its new tokens, counted likewise;
 *   how many older slots of a list are read, word of the list (0: all are), slot from which on all are
 *
 * Everything is checked here, once per step, so that kernels need not.
 */
import { ShapeError } from "../../errors.ts";
import { groupCount } from "../../kv/units.ts";
import type { AttentionRow } from "../backend.ts";
import type { GpuKvPool } from "./kv_pool.ts";
import type { StepData } from "./step_data.ts";

/** Where rows are in the step's data. */
export interface RowTable {
  readonly tokens: number;
  readonly rows: number;
  /** Rows there are, and the largest number of slots one of them counts. */
  readonly count: number;
  readonly mostSlots: number;
  readonly hasSlots: boolean;
  /** Tokens of all rows. */
  readonly length: number;
}

const NO_ROW = 0xffffffff;

type Slots = readonly (readonly Uint32Array[])[];

/** Tables of the running step by rows; a step has few. */
export class RowTables {
  readonly #data: StepData;
  #known = new Map<readonly AttentionRow[], RowTable>();

  constructor(data: StepData) {
    this.#data = data;
  }

  reset(): void {
    this.#known = new Map();
  }

  /** The table of rows that were written in this step. */
  find(rows: readonly AttentionRow[]): RowTable | undefined {
    return this.#known.get(rows);
  }

  /**
   * @param slots per row and group, for writing; absent, a table with or without them will do
   * @throws {RangeError} if a page or slot is not in the pool, or counts and pages do not fit together
   * @throws {ShapeError} if there is no table for a group, or a mask or slots are of a wrong length
   */
  of(rows: readonly AttentionRow[], pool: GpuKvPool, op: string, slots?: Slots): RowTable {
    const known = this.#known.get(rows) ?? this.#equal(rows);
    if (known !== undefined && (slots === undefined || known.hasSlots)) return known;
    const table = this.#write(rows, pool, op, slots);
    this.#known.set(rows, table);
    return table;
  }

  /** Adapters give a list of their own rows in every layer. */
  #equal(rows: readonly AttentionRow[]): RowTable | undefined {
    for (const [others, table] of this.#known) {
      if (others.length === rows.length && rows.every((row, r) => row === others[r])) return table;
    }
    return undefined;
  }

  #write(rows: readonly AttentionRow[], pool: GpuKvPool, op: string, slots?: Slots): RowTable {
    const length = rows.reduce((most, row) => Math.max(most, row.start + row.length), 0);
    let mostSlots = 0;
    const entries = rows.map((row, r) => {
      const groups = groupCount(pool.layout, row.granularity);
      check(row, groups, pool, op);
      for (let g = 0; g < groups; g++) mostSlots = Math.max(mostSlots, row.counts[g]!);
      const places = slots === undefined ? undefined : checkSlots(row, r, groups, pool, slots);
      return { row, groups, places };
    });
    const data = this.#data;
    const tokens = data.reserve(length, (words) => {
      words.fill(NO_ROW);
      rows.forEach((row, r) => words.fill(r, row.start, row.start + row.length));
    });
    const fields: number[] = [];
    for (const { row, groups, places } of entries) {
      const lists = Array.from({ length: groups }, (_, g) => [
        row.counts[g]!,
        data.put(offsets(pool, row, row.pages[g]!, pool.unitOffset)),
        places === undefined ? 0 : data.put(offsets(pool, row, places[g]!, pool.slotOffset)),
        ...putRead(data, row, g),
      ]);
      const at = data.put(Uint32Array.from(lists.flat()));
      const grain = { sequence: 0, layer: 1, "kv-head": 2 }[row.granularity];
      const mask = row.treeMask === undefined ? 0 : data.put(row.treeMask);
      const seen = row.treeMask === undefined ? 0 : putSeen(data, row.treeMask, row.length);
      fields.push(row.start, row.length, grain, at, mask, seen);
    }
    return {
      tokens,
      rows: data.put(Uint32Array.from(fields)),
      count: rows.length,
      mostSlots,
      hasSlots: slots !== undefined,
      length,
    };
  }
}

/** What a row reads of its older slots: how many of a list; word of the list, 0: all; slot from which on all. */
function putRead(data: StepData, row: AttentionRow, group: number): [number, number, number] {
  const read = row.read?.[group];
  if (read === undefined || row.encoded !== undefined) return [0, 0, 0]; // see read_table.ts
  const before = row.counts[group]! - row.length;
  const from = Math.min(before, row.readFrom?.[group] ?? before);
  const list = read.filter((slot) => slot < from);
  return [list.length, data.put(list), from];
}

/** Writes which tokens of a tree each of them sees. */
function putSeen(data: StepData, mask: Uint32Array, length: number): number {
  const words = Math.ceil(length / 32);
  const lists = Array.from({ length }, (_, t) => {
    const sees: number[] = [];
    for (let j = 0; j < length; j++) {
      if ((mask[t * words + (j >>> 5)]! >>> (j & 31)) & 1) sees.push(j);
    }
    return sees;
  });
  const at = data.put(Uint32Array.from(lists.flat()));
  let next = at;
  const entries = lists.flatMap((sees) => {
    const start = next;
    next += sees.length;
    return [sees.length, start];
  });
  return data.put(Uint32Array.from(entries));
}

/** Ids as kernels count them; only those of layers differ. */
function offsets(
  pool: GpuKvPool,
  { granularity }: AttentionRow,
  ids: Uint32Array,
  offset: GpuKvPool["unitOffset"],
): Uint32Array {
  return granularity === "layer" ? ids.map((id) => offset.call(pool, granularity, id)) : ids;
}

function check(row: AttentionRow, groups: number, pool: GpuKvPool, op: string): void {
  const { pageSize } = pool.layout;
  for (let g = 0; g < groups; g++) {
    const pages = row.pages[g], count = row.counts[g];
    if (pages === undefined || count === undefined) {
      throw new ShapeError(op, `there is no page table for group ${g}`);
    }
    if (count < row.length || count > pages.length * pageSize) {
      throw new RangeError(
        `Group ${g} counts ${count} slots, has ${pages.length} pages and ${row.length} new tokens`,
      );
    }
    for (const page of pages) {
      pool.requirePage(row.granularity, page);
    }
  }
  const words = Math.ceil(row.length / 32);
  if (row.treeMask !== undefined && row.treeMask.length !== row.length * words) {
    throw new ShapeError(op, `tree mask of ${row.length} tokens needs ${words} words each`);
  }
}

function checkSlots(row: AttentionRow, r: number, groups: number, pool: GpuKvPool, slots: Slots) {
  const places = slots[r];
  for (let g = 0; g < groups; g++) {
    if (places?.[g]?.length !== row.length) {
      throw new ShapeError("kv_write", `row ${r} needs ${row.length} slots for every group`);
    }
    for (const slot of places[g]!) pool.requireSlot(row.granularity, slot);
  }
  return places!;
}

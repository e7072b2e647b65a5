/**
 * Page tables as the attention kernel reads them: byte offsets of slots from the first unit of the
 * layer and head, in sequence order.
 */
import { ShapeError } from "../../errors.ts";
import { unitOffset } from "../../kv/units.ts";
import type { AttentionRow } from "../backend.ts";
import { requireUnit } from "../cpu/kv_pool.ts";
import { visibleIndices } from "../cpu/row_slots.ts";
import type { WasmKvPool } from "./kv_pool.ts";
import { once, type Step } from "./step.ts";

/** What one token sees. */
export interface SlotTable {
  readonly address: number;
  readonly count: number;
}

/**
 * One table per token of the row; written once per step and shared by the layers and heads of the
 * group.
 *
 * @throws {RangeError} if a page is not in the pool, or counts and pages do not fit together
 */
export function slotTables(
  step: Step,
  row: AttentionRow,
  pool: WasmKvPool,
  group: number,
): readonly SlotTable[] {
  const groups = once(step, "tables", row, () => new Map<number, readonly SlotTable[]>());
  let tables = groups.get(group);
  if (tables === undefined) groups.set(group, tables = write(step, row, pool, group));
  return tables;
}

function write(step: Step, row: AttentionRow, pool: WasmKvPool, group: number): SlotTable[] {
  const offsets = slotOffsets(row, pool, group);
  const before = offsets.length - row.length;
  if (row.sight !== undefined) return writeSeen(step, row, offsets, group);
  if (row.treeMask === undefined) {
    const address = store(step, offsets, offsets.length);
    return Array.from({ length: row.length }, (_, t) => ({ address, count: before + t + 1 }));
  }
  const words = Math.ceil(row.length / 32);
  if (row.treeMask.length !== row.length * words) {
    throw new ShapeError(
      "attention",
      `tree mask of ${row.length} tokens needs ${words} words each`,
    );
  }
  const visible = offsets.slice();
  const tables: SlotTable[] = [];
  for (let t = 0; t < row.length; t++) {
    let count = before;
    for (let j = 0; j < row.length; j++) {
      const word = row.treeMask[t * words + (j >>> 5)]!;
      if ((word >>> (j & 31)) & 1) visible[count++] = offsets[before + j]!;
    }
    tables.push({ address: store(step, visible, count), count });
  }
  return tables;
}

/** Tokens that see less have a table each. */
function writeSeen(
  step: Step,
  row: AttentionRow,
  offsets: Uint32Array,
  group: number,
): SlotTable[] {
  const slots = { group, places: offsets };
  return Array.from({ length: row.length }, (_, t) => {
    const seen = visibleIndices(row, slots, t).map((index) => offsets[index]!);
    return { address: store(step, seen, seen.length), count: seen.length };
  });
}

/** Writes a table, filled up to a multiple of 4 with its last slot. */
function store({ heap, scope }: Step, offsets: Uint32Array, count: number): number {
  const filled = Math.ceil(count / 4) * 4;
  const address = scope.block("slots", 4 * filled);
  heap.words.set(offsets.subarray(0, count), address / 4);
  heap.words.fill(offsets[count - 1]!, address / 4 + count, address / 4 + filled);
  return address;
}

function slotOffsets(row: AttentionRow, pool: WasmKvPool, group: number): Uint32Array {
  const pages = row.pages[group], count = row.counts[group];
  const { pageSize } = pool.layout;
  if (pages === undefined || count === undefined) {
    throw new ShapeError("attention", `there is no page table for group ${group}`);
  }
  if (count < row.length || count > pages.length * pageSize) {
    throw new RangeError(
      `Group ${group} counts ${count} slots, has ${pages.length} pages and ${row.length} new tokens`,
    );
  }
  const offsets = new Uint32Array(count);
  let start = 0;
  for (let s = 0; s < count; s++) {
    const offset = s % pageSize;
    if (offset === 0) {
      const id = pages[s / pageSize]!;
      requireUnit(pool, row.granularity, id);
      start = unitOffset(pool.layout, pool.pages, row.granularity, id) * pageSize;
    }
    offsets[s] = (start + offset) * pool.slotBytes;
  }
  return offsets;
}

/**
 * What one row sees in one layer and kv head: its slots in sequence order, those in another format
 * first, and for each new token which of them it looks at.
 */
import { ShapeError } from "../../errors.ts";
import type { KvFormat, ReadRule } from "../../kv/policy.ts";
import { groupOf, unitBase, unitOffset } from "../../kv/units.ts";
import type { AttentionRow, Sight } from "../backend.ts";
import { requireUnit, type SlotPool } from "./kv_pool.ts";

/** See file comment. */
export interface RowSlots {
  readonly group: number;
  /** Slots in another format; they come first. */
  readonly encoded: number;
  readonly format: KvFormat;
  /** Per slot, unit * slots per page of its format + offset. */
  readonly places: Uint32Array;
}

/**
 * @throws {ShapeError} if there is no table for the group
 * @throws {RangeError} if a page is not in the pool, or counts and pages do not fit together
 */
export function rowSlots(
  row: AttentionRow,
  pool: Pick<SlotPool, "layout" | "pages" | "slotsPerPage">,
  layer: number,
  kvHead: number,
): RowSlots {
  const group = groupOf(pool.layout, row.granularity, layer, kvHead);
  const base = unitBase(pool.layout, pool.pages, row.granularity, layer, kvHead);
  const pages = row.pages[group], count = row.counts[group];
  if (pages === undefined || count === undefined) {
    throw new ShapeError("attention", `there is no page table for group ${group}`);
  }
  const { pageSize } = pool.layout;
  if (count < row.length || count > pages.length * pageSize) {
    throw new RangeError(
      `Group ${group} counts ${count} slots, has ${pages.length} pages and ${row.length} new tokens`,
    );
  }
  const format = row.encoded?.format ?? "f32";
  const encoded = row.encoded?.counts[group] ?? 0;
  const places = new Uint32Array(encoded + count);
  const fill = (ids: Uint32Array, from: number, to: number, perPage: number) => {
    for (let s = from, page = 0; s < to; page++) {
      const id = ids[page]!;
      requireUnit(pool, row.granularity, id);
      const unit = base + unitOffset(pool.layout, pool.pages, row.granularity, id);
      const end = Math.min(to, s + perPage);
      for (let place = unit * perPage; s < end; s++, place++) places[s] = place;
    }
  };
  if (encoded > 0) {
    fill(row.encoded!.pages[group]!, 0, encoded, pool.slotsPerPage(format));
  }
  fill(pages, encoded, encoded + count, pageSize);
  return { group, encoded, format, places };
}

/**
 * Indices of the slots token t of a row sees, ascending: everything before the row, and of the row what
 * its mask says; of that, what the row is told to read and what is not hidden from it.
 */
export function visibleIndices(
  row: AttentionRow,
  slots: Pick<RowSlots, "group" | "places">,
  t: number,
): Uint32Array {
  const before = slots.places.length - row.length;
  const seen = new Uint32Array(slots.places.length);
  let count = 0;
  const read = row.read?.[slots.group];
  if (read === undefined) { for (; count < before; count++) seen[count] = count; }
  else {
    const from = row.readFrom?.[slots.group] ?? before;
    for (const index of read) if (index < Math.min(from, before)) seen[count++] = index;
    for (let index = from; index < before; index++) seen[count++] = index;
  }
  const words = Math.ceil(row.length / 32);
  if (row.treeMask !== undefined && row.treeMask.length !== row.length * words) {
    throw new ShapeError(
      "attention",
      `tree mask of ${row.length} tokens needs ${words} words each`,
    );
  }
  for (let j = 0; j < row.length; j++) {
    const sees = row.treeMask === undefined
      ? j <= t
      : (row.treeMask[t * words + (j >>> 5)]! >>> (j & 31) & 1) === 1;
    if (sees) seen[count++] = before + j;
  }
  const all = seen.subarray(0, count);
  return row.sight === undefined ? all : all.filter(sightOf(row.sight, slots.places.length, t));
}

/**
 * Whether token t sees a slot.
 *
 * @throws {ShapeError} if `until` is not one number per slot
 */
export function sightOf(
  { until, places }: Sight,
  slots: number,
  t: number,
): (slot: number) => boolean {
  if (until.length !== slots) {
    throw new ShapeError("attention", `${until.length} slots have ends of sight, of ${slots}`);
  }
  const place = places[t]!;
  return (slot) => until[slot]! > place;
}

/** The rule that token t of a row reads by in a layer, if any. */
export function ruleOf(row: AttentionRow, layer: number, t: number): ReadRule | undefined {
  const { rule, ruleFrom = 0 } = row;
  return rule === undefined || layer < rule.denseLayers || t < ruleFrom ? undefined : rule;
}

/**
 * Of the visible slots, those a rule reads; ascending. Scores are only asked for where they decide.
 *
 * @param scores one per visible slot
 */
export function chooseSlots(
  rule: ReadRule,
  visible: Uint32Array,
  scores: () => ArrayLike<number>,
): Uint32Array {
  const count = visible.length;
  if (count <= rule.budget) return visible;
  const sinks = Math.min(rule.sinks, count);
  const recent = Math.max(sinks, count - Math.max(1, rule.window));
  const free = Math.max(0, rule.budget - sinks - (count - recent));
  const values = scores();
  const order = Array.from({ length: recent - sinks }, (_, i) => sinks + i)
    .sort((a, b) => values[b]! - values[a]! || b - a).slice(0, free).sort((a, b) => a - b);
  const chosen = new Uint32Array(sinks + order.length + (count - recent));
  chosen.set(visible.subarray(0, sinks));
  order.forEach((at, i) => chosen[sinks + i] = visible[at]!);
  chosen.set(visible.subarray(recent), sinks + order.length);
  return chosen;
}

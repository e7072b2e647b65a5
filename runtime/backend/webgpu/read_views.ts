/**
 * What is said about rows that read in a way of their own, in words of the step's data:
 *
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
import { groupCount } from "../../kv/units.ts";
import type { AttentionRow } from "../backend.ts";
import { visibleIndices } from "../cpu/row_slots.ts";
import { formCodes } from "./kv_copy.ts";
import type { GpuKvPool } from "./kv_pool.ts";
import { slotsOf } from "./read_rules.ts";
import type { Stage } from "./stage.ts";

/**
 * Writes the view of a row.
 *
 * @returns its word
 * @throws {RangeError} if a page is not in the pool, or counts and pages do not fit together
 * @throws {ShapeError} if there is no table for a group
 */
export function putView(
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

/** Room for new slots at the end of a sequence's tables: fresh pages, and copies of shared ones. */
import type { PageEdit } from "../engine/executor.ts";
import { type KvShape, placeOf } from "./page_tables.ts";
import type { PageStore } from "./pages.ts";
import type { KvFormat } from "./policy.ts";
import { type KvTable, physicalSlot, type Segment } from "./table.ts";

/** What a row needs to know about the slots reserved for it. */
export interface Reservation {
  /** Per table, physical slots of the new tokens. */
  readonly slots: readonly Uint32Array[];
  /** Copies-on-write of last pages that were shared. */
  readonly copies: readonly PageEdit[];
}

/** Where pages come from. */
export interface PageSource {
  readonly store: PageStore;
  readonly shape: KvShape;
  /** Gives a page, or a piece of one, with one holder, or throws. */
  allocate(): number;
}

/** Physical slots to copy, by format. */
type Copies = Map<KvFormat, { readonly from: number[]; readonly to: number[] }>;

/**
 * Makes room for `tokens` slots after the valid ones of each table.
 *
 * @param isRecording whether something will be recorded about all slots, so that none may be shared
 */
export function reserveSlots(
  tables: readonly KvTable[],
  tokens: number,
  source: PageSource,
  isRecording: boolean,
): Reservation {
  const copies: Copies = new Map();
  const slots = tables.map((table) => {
    for (const segment of isRecording ? table.segments : []) {
      for (let index = 0; index * segment.perPage < segment.count; index++) {
        own(segment, index, source, copies);
      }
    }
    const { plain } = table, { perPage, count, pages } = plain;
    const offset = count % perPage;
    if (offset > 0) own(plain, (count - offset) / perPage, source, copies);
    while (pages.length * perPage < count + tokens) {
      pages.push(source.allocate());
      plain.table = undefined;
    }
    return Uint32Array.from({ length: tokens }, (_, i) => physicalSlot(plain, count + i));
  });
  const edits = [...copies].map(([format, { from, to }]): PageEdit => {
    const place = placeOf(source.shape.granularity, format);
    const lists = { from: Uint32Array.from(from), to: Uint32Array.from(to) };
    return { op: "copy", ...lists, ...place && { place } };
  });
  return { slots, copies: edits };
}

/** Replaces a page by a copy of its valid slots, if others hold it too. */
function own(segment: Segment, index: number, source: PageSource, copies: Copies): void {
  const { store, shape: { groups } } = source;
  const { format, perPage, count, pages } = segment, old = pages[index]!;
  if (!store.isShared(old, groups)) return;
  const page = pages[index] = source.allocate();
  let lists = copies.get(format);
  if (lists === undefined) copies.set(format, lists = { from: [], to: [] });
  for (let i = 0; i < Math.min(perPage, count - index * perPage); i++) {
    lists.from.push(old * perPage + i);
    lists.to.push(page * perPage + i);
  }
  store.release(old, groups);
  segment.table = undefined;
}

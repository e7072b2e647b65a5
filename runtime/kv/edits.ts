/**
 * Carrying out what policies want. Nothing that is shared is written: pages without survivors leave the
 * table, pages that survive whole stay, all other survivors are gathered into fresh pages.
 */
import type { PageEdit } from "../engine/executor.ts";
import { OutOfPagesError } from "../errors.ts";
import type { KvFormat, KvSignal } from "./policy.ts";
import type { SequenceKv } from "./sequence_kv.ts";
import { type KvTable, newSegment, physicalSlot, type Segment } from "./table.ts";

/** A page, or a piece of a page, in no table. */
export interface RetiredPage {
  readonly page: number;
  readonly parts: number;
}

/** What edits need from the engine. */
export interface EditHost {
  /** A page, or a piece of one, with one holder; undefined if there is none. */
  allocate(parts: number): number | undefined;
  /** Pages to release once the edits have been applied. */
  readonly retired: RetiredPage[];
  /** To apply before anything else touches the pool. */
  readonly edits: PageEdit[];
  /** Slots per page in a format. */
  slotsPerPage(format: KvFormat): number;
}

/**
 * Keeps the given slots of a table.
 *
 * @param turns whether keys are turned to their new slot number
 */
export function keepSlots(
  kv: SequenceKv,
  table: KvTable,
  slots: Uint32Array,
  turns: boolean,
  host: EditHost,
): void {
  if (slots.length === table.count) return;
  const positions = table.positionList(), { firstPlain } = table;
  const split = slots.findIndex((slot) => slot >= firstPlain);
  const encoded = split < 0 ? slots : slots.subarray(0, split);
  const plain = split < 0 ? new Uint32Array(0) : slots.subarray(split);
  const before = table.firstPlain;
  if (table.encoded !== undefined) gather(kv, table.encoded, encoded, undefined, host);
  const shifts = turns ? Int32Array.from(plain, (slot, i) => encoded.length + i - slot) : undefined;
  gather(kv, table.plain, plain.map((slot) => slot - before), shifts, host);
  table.positions = Array.from(slots, (slot) => positions[slot]!);
  table.read = undefined;
  kv.edited();
}

/** Stores the first `slots` slots of a table in `format`; those that are already stay. */
export function encodeSlots(
  kv: SequenceKv,
  table: KvTable,
  slots: number,
  { format, signals }: {
    readonly format: Exclude<KvFormat, "f32">;
    /** What is recorded about them and goes along. */
    readonly signals: readonly KvSignal[];
  },
  host: EditHost,
): void {
  const count = slots - table.firstPlain;
  if (count <= 0) return;
  const target = table.encoded ??= newSegment(format, host.slotsPerPage(format));
  ownLastPage(kv, target, host);
  const { plain } = table;
  const from = Uint32Array.from({ length: count }, (_, i) => physicalSlot(plain, i));
  const pages = Math.ceil((target.count + count) / target.perPage) - target.pages.length;
  target.pages.push(...allocateAll(kv, pages, host));
  target.table = undefined;
  const to = from.map((_, i) => physicalSlot(target, target.count + i));
  const { granularity } = kv.shape;
  host.edits.push({ op: "encode", from, to, place: { granularity, format }, signals });
  target.count += count;
  const rest = Uint32Array.from({ length: plain.count - count }, (_, i) => count + i);
  gather(kv, plain, rest, undefined, host);
  kv.edited();
}

/** Before slots are added to a partly filled page that others hold too. */
function ownLastPage(kv: SequenceKv, segment: Segment, host: EditHost): void {
  const offset = segment.count % segment.perPage, { groups } = kv.shape;
  if (offset === 0) return;
  const index = segment.pages.length - 1, old = segment.pages[index]!;
  if (!kv.store.isShared(old, groups)) return;
  const [page] = allocateAll(kv, 1, host) as [number];
  const run = (first: number) => Uint32Array.from({ length: offset }, (_, i) => first + i);
  const lists = { from: run(old * segment.perPage), to: run(page * segment.perPage) };
  const place = kv.placeOf(segment.format);
  host.edits.push({ op: "copy", ...lists, ...place && { place } });
  segment.pages[index] = page;
  segment.table = undefined;
  host.retired.push({ page: old, parts: groups });
}

/** Keeps slots of one segment, ascending. */
function gather(
  kv: SequenceKv,
  segment: Segment,
  slots: Uint32Array,
  shifts: Int32Array | undefined,
  host: EditHost,
): void {
  const { perPage, count, pages: old } = segment, { groups } = kv.shape;
  const pages: (number | undefined)[] = [];
  for (let at = 0; at < slots.length; at += perPage) {
    pages.push(wholePage(slots, at, perPage, count, shifts, old));
  }
  const fresh = allocateAll(kv, pages.filter((page) => page === undefined).length, host);
  const from: number[] = [], to: number[] = [], turns: number[] = [];
  const kept = pages.map((page, p) => {
    if (page !== undefined) {
      kv.store.share(page, groups);
      return page;
    }
    const target = fresh.shift()!;
    const end = Math.min(slots.length, (p + 1) * perPage);
    for (let i = p * perPage; i < end; i++) {
      from.push(physicalSlot(segment, slots[i]!));
      to.push(target * perPage + i % perPage);
      turns.push(shifts?.[i] ?? 0);
    }
    return target;
  });
  if (from.length > 0) {
    const place = kv.placeOf(segment.format);
    host.edits.push({
      op: "copy",
      from: Uint32Array.from(from),
      to: Uint32Array.from(to),
      ...place && { place },
      ...turns.some((shift) => shift !== 0) ? { shifts: Int32Array.from(turns) } : {},
    });
  }
  for (const page of old) host.retired.push({ page, parts: groups });
  segment.pages = kept;
  segment.count = slots.length;
  segment.table = undefined;
}

/** The page that holds the survivors from `at` on and nothing else, as they are. */
function wholePage(
  slots: Uint32Array,
  at: number,
  perPage: number,
  count: number,
  shifts: Int32Array | undefined,
  pages: readonly number[],
): number | undefined {
  const first = slots[at]!;
  if (first % perPage !== 0) return undefined;
  // The last page may stay although it is not full, if all of it survives.
  const length = Math.min(perPage, count - first);
  if (slots[at + length - 1] !== first + length - 1) return undefined;
  if (length < perPage && at + length !== slots.length) return undefined;
  for (let i = at; i < at + length; i++) {
    if (shifts !== undefined && shifts[i] !== 0) return undefined;
  }
  return pages[first / perPage];
}

/** @throws {OutOfPagesError} if there are not so many; then none is taken */
function allocateAll(kv: SequenceKv, count: number, host: EditHost): number[] {
  const { store, shape: { groups } } = kv, pages: number[] = [];
  while (pages.length < count) {
    const page = host.allocate(groups);
    if (page !== undefined) {
      pages.push(page);
      continue;
    }
    for (const taken of pages) store.release(taken, groups);
    // The old pages are needed until their survivors have been copied.
    throw new OutOfPagesError(Math.ceil((kv.heldCount + count) / groups), store.total);
  }
  return pages;
}

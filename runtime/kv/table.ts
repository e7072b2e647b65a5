/**
 * KvTable: the slots of one group of layers and heads of a sequence. Older slots may be in another
 * format; they come first. Slot s counts from the oldest one whatever its format.
 */
import type { KvFormat } from "./policy.ts";

/** Slots of one format. */
export interface Segment {
  readonly format: KvFormat;
  /** Slots per page. */
  readonly perPage: number;
  pages: number[];
  /** Valid slots. */
  count: number;
  /** The pages as executors take them; undefined = to be made. */
  table: Uint32Array | undefined;
}

/** See file comment. */
export class KvTable {
  encoded: Segment | undefined;
  readonly plain: Segment;
  /** Position of each slot; undefined while slot and position are the same number. */
  positions: number[] | undefined;
  /** Slots to read, and from where on all are read; undefined = all. */
  read: { readonly slots: Uint32Array; readonly from: number } | undefined;

  constructor(pageSize: number) {
    this.plain = newSegment("f32", pageSize);
  }

  /** Valid slots of any format. */
  get count(): number {
    return this.plain.count + (this.encoded?.count ?? 0);
  }

  /** Where plain slots begin. */
  get firstPlain(): number {
    return this.encoded?.count ?? 0;
  }

  get segments(): readonly Segment[] {
    return this.encoded === undefined ? [this.plain] : [this.encoded, this.plain];
  }

  /** The copy's pages are shared: to be counted by the caller. */
  copy(): KvTable {
    const copy = new KvTable(this.plain.perPage);
    copySegment(this.plain, copy.plain);
    if (this.encoded !== undefined) {
      copy.encoded = newSegment(this.encoded.format, this.encoded.perPage);
      copySegment(this.encoded, copy.encoded);
    }
    copy.positions = this.positions?.slice();
    copy.read = this.read;
    return copy;
  }

  /** slot -> position, ascending */
  positionList(): Uint32Array {
    if (this.positions !== undefined) return Uint32Array.from(this.positions);
    return Uint32Array.from({ length: this.count }, (_, i) => i);
  }

  /** How many slots have positions below `position`. */
  slotsBelow(position: number): number {
    const { positions } = this;
    if (positions === undefined) return Math.min(this.count, position);
    let slots = positions.length;
    while (slots > 0 && positions[slots - 1]! >= position) slots--;
    return slots;
  }

  /** Forgets slots of positions from `position` on. Encoded ones stay. */
  truncate(position: number): void {
    const count = this.slotsBelow(position);
    this.plain.count = Math.max(0, count - this.firstPlain);
    if (this.positions !== undefined) this.positions.length = count;
  }

  /** The next `tokens` reserved slots are valid now, with positions from `position` on. */
  advance(tokens: number, position: number): void {
    this.plain.count += tokens;
    for (let i = 0; this.positions !== undefined && i < tokens; i++) {
      this.positions.push(position + i);
    }
  }
}

export function newSegment(format: KvFormat, perPage: number): Segment {
  return { format, perPage, pages: [], count: 0, table: undefined };
}

function copySegment(from: Segment, to: Segment): void {
  to.pages = from.pages.slice();
  to.count = from.count;
  to.table = from.table;
}

/** Where slot `slot` of a segment lies in the pool. */
export function physicalSlot({ pages, perPage }: Segment, slot: number): number {
  const offset = slot % perPage;
  return pages[(slot - offset) / perPage]! * perPage + offset;
}

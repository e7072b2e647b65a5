/**
 * SequenceKv: what of one sequence is in the KV cache, and where: its page tables, the positions
 * behind their slots, and the state of its policy.
 *
 * There is one table per group of layers and heads that the policy tells apart, usually one. A page
 * held by several tables is never written: writing copies it first.
 */
import type { SlotPlace } from "../backend/backend.ts";
import type { PageTables } from "../engine/executor.ts";
import { type KvShape, pageTablesOf, placeOf } from "./page_tables.ts";
import type { PageStore } from "./pages.ts";
import type { KvFormat, KvSignal } from "./policy.ts";
import type { CachedPage } from "./prefix_cache.ts";
import { type Reservation, reserveSlots } from "./reserve.ts";
import { KvTable, physicalSlot } from "./table.ts";

export type { KvShape } from "./page_tables.ts";
export type { Reservation } from "./reserve.ts";

const wholeSequence: KvShape = { granularity: "sequence", groups: 1 };

/** See file comment. */
export class SequenceKv {
  readonly store: PageStore;
  readonly shape: KvShape;
  /** Tokens computed so far: the position of the next one. */
  computed = 0;
  /** What the policy was told is committed. */
  settled = 0;
  /** `computed` when the policy last changed something; earlier rows cannot be read again from here. */
  editedAt = 0;
  /** Shared by tables that hold the same, replaced with every change. Compared by identity. */
  version: object = {};
  policyState: unknown;
  /** Deepest page known to the prefix cache. */
  cached: CachedPage | undefined;
  /** What was read after the last row for the policy: per signal, layer and head, all slots' values. */
  signals: Map<KvSignal, Float32Array[]> | undefined;
  #tables: KvTable[];

  constructor(store: PageStore, policyState: unknown, shape: KvShape = wholeSequence) {
    this.store = store;
    this.policyState = policyState;
    this.shape = shape;
    this.#tables = this.#emptyTables();
  }

  get tables(): readonly KvTable[] {
    return this.#tables;
  }

  /** Valid slots of the first table. Less than `computed` once something was evicted. */
  get count(): number {
    return this.#tables[0]!.count;
  }

  /** Slots per table, on average. */
  get meanCount(): number {
    return this.#tables.reduce((sum, table) => sum + table.count, 0) / this.shape.groups;
  }

  /** Pages of the first table's f32 slots, including reserved ones. */
  get pages(): readonly number[] {
    return this.#tables[0]!.plain.pages;
  }

  /** All pages held, or pieces of pages; see {@link KvShape.groups}. */
  *held(): Generator<number> {
    for (const table of this.#tables) for (const { pages } of table.segments) yield* pages;
  }

  /** How many {@link held} gives. */
  get heldCount(): number {
    let count = 0;
    for (const { plain, encoded } of this.#tables) {
      count += plain.pages.length + (encoded?.pages.length ?? 0);
    }
    return count;
  }

  /** The page tables as executors take them, with `tokens` reserved slots counted. */
  pageTables(tokens: number): PageTables {
    return pageTablesOf(this.#tables, this.shape.granularity, tokens);
  }

  /** slot -> position of the first table, ascending */
  positions(): Uint32Array {
    return this.#tables[0]!.positionList();
  }

  /** How many slots of the first table have positions below `position`. */
  slotsBelow(position: number): number {
    return this.#tables[0]!.slotsBelow(position);
  }

  /** A copy that shares all pages with valid slots. */
  fork(forkState: (state: unknown) => unknown): SequenceKv {
    const copy = new SequenceKv(this.store, forkState(this.policyState), this.shape);
    copy.#become(this);
    copy.trim();
    return copy;
  }

  /** Forgets tokens from position `length` on. Not below the last edit. */
  truncate(length: number): void {
    if (length >= this.computed) return;
    for (const table of this.#tables) table.truncate(length);
    this.computed = length;
    this.#changed();
    this.trim();
    this.#forgetCached();
  }

  /** Forgets everything and starts over with `policyState`. */
  clear(policyState: unknown = undefined): void {
    this.#releaseAll();
    this.#tables = this.#emptyTables();
    this.computed =
      this.settled =
      this.editedAt =
        0;
    this.#changed();
    this.policyState = policyState;
    this.cached = undefined;
  }

  /** Becomes the first `length` tokens of `other`, whose slots are all its positions. */
  adopt(other: SequenceKv, length: number): void {
    const old = [...this.held()];
    const [mine] = this.#tables, [theirs] = other.#tables;
    mine!.plain.pages = theirs!.plain.pages.slice(0, Math.ceil(length / this.store.pageSize));
    for (const page of mine!.plain.pages) this.store.share(page);
    for (const page of old) this.store.release(page);
    mine!.plain.table = undefined;
    mine!.plain.count = this.computed = length;
    this.cached = other.cached;
    if (length === other.computed) this.version = other.version;
    else this.#changed();
    this.#forgetCached();
  }

  /** Becomes exactly what `other` is, policy state included. */
  become(other: SequenceKv, forkState: (state: unknown) => unknown): void {
    const old = [...this.held()];
    this.#become(other);
    for (const page of old) this.store.release(page, this.shape.groups);
    this.policyState = forkState(other.policyState);
    this.trim();
  }

  /** Starts with cached pages, root first. */
  adoptCached(path: readonly CachedPage[]): void {
    const old = [...this.held()];
    const { plain } = this.#tables[0]!;
    plain.pages = path.map(({ page }) => page);
    for (const page of plain.pages) this.store.share(page);
    for (const page of old) this.store.release(page);
    plain.table = undefined;
    plain.count = this.computed = path.length * this.store.pageSize;
    this.cached = path.at(-1);
    this.#changed();
  }

  /** Replaces a page by another with the same content, which the caller knows is held. */
  replacePage(index: number, page: number): void {
    const { plain } = this.#tables[0]!;
    const old = plain.pages[index]!;
    if (old === page) return;
    this.store.share(page);
    plain.pages[index] = page;
    this.store.release(old);
    plain.table = undefined;
  }

  /**
   * Room for `tokens` new slots after the valid ones. They count once {@link advance} says so.
   *
   * @param allocate gives a page, or a piece of one, with one holder, or throws
   * @param isRecording whether something will be recorded about all slots, so that none may be shared
   */
  reserve(tokens: number, allocate: () => number, isRecording = false): Reservation {
    const source = { store: this.store, shape: this.shape, allocate };
    return reserveSlots(this.#tables, tokens, source, isRecording);
  }

  /** How many of the pages that hold valid slots others hold too. */
  get sharedCount(): number {
    let shared = 0;
    for (const page of this.held()) if (this.store.isShared(page, this.shape.groups)) shared++;
    return shared;
  }

  /** What physical slots of a format mean here; undefined = the default of edits. */
  placeOf(format: KvFormat): SlotPlace | undefined {
    return placeOf(this.shape.granularity, format);
  }

  /** The first `tokens` reserved slots hold the next tokens now; the rest of the room is given back. */
  advance(tokens: number): void {
    for (const table of this.#tables) table.advance(tokens, this.computed);
    this.computed += tokens;
    if (tokens > 0) this.#changed();
    this.trim();
  }

  /** Returns pages without valid slots. */
  trim(): void {
    for (const { plain } of this.#tables) {
      const needed = Math.ceil(plain.count / plain.perPage);
      while (plain.pages.length > needed) {
        this.store.release(plain.pages.pop()!, this.shape.groups);
        plain.table = undefined;
      }
    }
  }

  /** Where slot `slot` of the first table lies in the pool. */
  physical(slot: number): number {
    return physicalSlot(this.#tables[0]!.plain, slot);
  }

  /** To be called after a policy changed a table. */
  edited(): void {
    this.editedAt = this.computed;
    this.version = {};
    this.cached = undefined;
  }

  #changed(): void {
    this.version = {};
    this.signals = undefined;
  }

  #become(other: SequenceKv): void {
    this.#tables = other.#tables.map((table) => table.copy());
    for (const page of this.held()) this.store.share(page, this.shape.groups);
    this.computed = other.computed;
    this.settled = other.settled;
    this.editedAt = other.editedAt;
    this.version = other.version;
    this.cached = other.cached;
    this.signals = other.signals;
  }

  #emptyTables(): KvTable[] {
    return Array.from({ length: this.shape.groups }, () => new KvTable(this.store.pageSize));
  }

  #releaseAll(): void {
    for (const page of this.held()) this.store.release(page, this.shape.groups);
  }

  #forgetCached(): void {
    const full = Math.floor(this.count / this.store.pageSize);
    while (this.cached !== undefined && this.cached.depth > full) this.cached = this.cached.parent;
  }
}

/**
 * SequenceKv: what of one sequence is in the KV cache, and where: its page table, the positions
 * behind its slots, and the state of its policy.
 *
 * Slot s of the table lies at `pages[floor(s / pageSize)] * pageSize + s % pageSize` in the pool. A
 * page held by several tables is never written: writing copies it first.
 */
import type { PageEdit } from "../engine/executor.ts";
import type { PageStore } from "./pages.ts";
import type { CachedPage } from "./prefix_cache.ts";

/** What a row needs to know about the slots reserved for it. */
export interface Reservation {
  /** Physical slots of the new tokens. */
  readonly slots: Uint32Array;
  /** Copy-on-write of the last page, if it was shared. */
  readonly copy: PageEdit | undefined;
}

/** See file comment. */
export class SequenceKv {
  readonly store: PageStore;
  /** Valid slots. Less than `computed` once something was evicted. */
  count = 0;
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
  #pages: number[] = [];
  /** Position of each slot; undefined while slot and position are the same number. */
  #positions: number[] | undefined;
  #table: Uint32Array<ArrayBuffer> | undefined;

  constructor(store: PageStore, policyState: unknown) {
    this.store = store;
    this.policyState = policyState;
  }

  /** Pages held, including reserved ones. */
  get pages(): readonly number[] {
    return this.#pages;
  }

  /** The page table as executors take it. */
  get table(): Uint32Array {
    return this.#table ??= Uint32Array.from(this.#pages);
  }

  /** slot -> position, ascending */
  positions(): Uint32Array {
    if (this.#positions !== undefined) return Uint32Array.from(this.#positions);
    return Uint32Array.from({ length: this.count }, (_, i) => i);
  }

  /** How many slots have positions below `position`. */
  slotsBelow(position: number): number {
    const positions = this.#positions;
    if (positions === undefined) return Math.min(this.count, position);
    let slots = positions.length;
    while (slots > 0 && positions[slots - 1]! >= position) slots--;
    return slots;
  }

  /** A copy that shares all pages with valid slots. */
  fork(forkState: (state: unknown) => unknown): SequenceKv {
    const copy = new SequenceKv(this.store, forkState(this.policyState));
    copy.settled = this.settled;
    copy.editedAt = this.editedAt;
    copy.version = this.version;
    copy.#positions = this.#positions?.slice();
    copy.cached = this.cached;
    copy.#share(this, this.count);
    copy.count = this.count;
    copy.computed = this.computed;
    return copy;
  }

  /** Forgets tokens from position `length` on. */
  truncate(length: number): void {
    if (length >= this.computed) return;
    this.count = this.slotsBelow(length);
    if (this.#positions !== undefined) this.#positions.length = this.count;
    this.computed = length;
    this.version = {};
    this.trim();
    this.#forgetCached();
  }

  /** Forgets everything and starts over with `policyState`. */
  clear(policyState: unknown = undefined): void {
    for (const page of this.#pages) this.store.release(page);
    this.#pages = [];
    this.#table = undefined;
    this.#positions = undefined;
    this.count =
      this.computed =
      this.settled =
      this.editedAt =
        0;
    this.version = {};
    this.policyState = policyState;
    this.cached = undefined;
  }

  /** Becomes the first `length` tokens of `other`, whose slots are all its positions. */
  adopt(other: SequenceKv, length: number): void {
    const old = this.#pages;
    this.#share(other, length);
    for (const page of old) this.store.release(page);
    this.count = this.computed = length;
    this.cached = other.cached;
    this.version = length === other.computed ? other.version : {};
    this.#forgetCached();
  }

  /** Becomes exactly what `other` is, policy state included. */
  become(other: SequenceKv, forkState: (state: unknown) => unknown): void {
    const copy = other.fork(forkState);
    for (const page of this.#pages) this.store.release(page);
    this.#pages = copy.#pages;
    this.#table = undefined;
    this.#positions = copy.#positions;
    this.count = copy.count;
    this.computed = copy.computed;
    this.settled = copy.settled;
    this.editedAt = copy.editedAt;
    this.version = copy.version;
    this.policyState = copy.policyState;
    this.cached = copy.cached;
  }

  /** Starts with cached pages, root first. */
  adoptCached(path: readonly CachedPage[]): void {
    const old = this.#pages;
    this.#pages = path.map(({ page }) => page);
    for (const page of this.#pages) this.store.share(page);
    for (const page of old) this.store.release(page);
    this.#table = undefined;
    this.count = this.computed = path.length * this.store.pageSize;
    this.cached = path.at(-1);
    this.version = {};
  }

  /** Replaces a page by another with the same content, which the caller knows is held. */
  replacePage(index: number, page: number): void {
    const old = this.#pages[index]!;
    if (old === page) return;
    this.store.share(page);
    this.#pages[index] = page;
    this.store.release(old);
    this.#table = undefined;
  }

  /**
   * Room for `tokens` new slots after the valid ones. They count once {@link advance} says so.
   *
   * @param allocate gives a page with one holder, or throws
   */
  reserve(tokens: number, allocate: () => number): Reservation {
    const { pageSize } = this.store;
    const { count } = this;
    const offset = count % pageSize;
    let copy: PageEdit | undefined;
    if (offset > 0) {
      const index = (count - offset) / pageSize;
      const old = this.#pages[index]!;
      if (this.store.isShared(old)) {
        const page = allocate();
        copy = copyRun(old * pageSize, page * pageSize, offset);
        this.#pages[index] = page;
        this.store.release(old);
        this.#table = undefined;
      }
    }
    while (this.#pages.length * pageSize < count + tokens) {
      this.#pages.push(allocate());
      this.#table = undefined;
    }
    const slots = new Uint32Array(tokens);
    for (let i = 0; i < tokens; i++) slots[i] = this.physical(count + i);
    return { slots, copy };
  }

  /** The first `tokens` reserved slots hold the next tokens now; the rest of the room is given back. */
  advance(tokens: number): void {
    if (this.#positions !== undefined) {
      for (let i = 0; i < tokens; i++) this.#positions.push(this.computed + i);
    }
    this.count += tokens;
    this.computed += tokens;
    if (tokens > 0) this.version = {};
    this.trim();
  }

  /** Returns pages without valid slots. */
  trim(): void {
    const needed = Math.ceil(this.count / this.store.pageSize);
    while (this.#pages.length > needed) {
      this.store.release(this.#pages.pop()!);
      this.#table = undefined;
    }
  }

  /** Where slot `slot` lies in the pool. */
  physical(slot: number): number {
    const { pageSize } = this.store;
    const offset = slot % pageSize;
    return this.#pages[(slot - offset) / pageSize]! * pageSize + offset;
  }

  /**
   * Replaces the table after an eviction. Ownership of `pages` passes to this table and that of the
   * pages it held to the caller.
   *
   * @returns the pages held before
   */
  replaceTable(pages: readonly number[], positions: readonly number[]): readonly number[] {
    const old = this.#pages;
    this.#pages = [...pages];
    this.#table = undefined;
    this.#positions = [...positions];
    this.count = positions.length;
    this.editedAt = this.computed;
    this.version = {};
    this.cached = undefined;
    return old;
  }

  #share(other: SequenceKv, slots: number): void {
    this.#pages = other.#pages.slice(0, Math.ceil(slots / this.store.pageSize));
    for (const page of this.#pages) this.store.share(page);
    this.#table = this.#pages.length === other.#pages.length ? other.#table : undefined;
  }

  #forgetCached(): void {
    const full = Math.floor(this.count / this.store.pageSize);
    while (this.cached !== undefined && this.cached.depth > full) this.cached = this.cached.parent;
  }
}

function copyRun(from: number, to: number, length: number): PageEdit {
  return {
    op: "copy",
    from: Uint32Array.from({ length }, (_, i) => from + i),
    to: Uint32Array.from({ length }, (_, i) => to + i),
  };
}

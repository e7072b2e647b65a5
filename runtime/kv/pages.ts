/**
 * PageStore: which pages of the pool are free, and how many page tables hold each of the others.
 * It counts; it never touches memory.
 */

/** See file comment. */
export class PageStore {
  /** Pages in the pool. */
  readonly total: number;
  /** Slots per page. */
  readonly pageSize: number;
  readonly #refs: Uint32Array;
  readonly #free: number[];
  readonly #onFree: ((page: number) => void) | undefined;

  /** @param onFree called with each page that returns to the pool, e.g. to poison it in tests */
  constructor(total: number, pageSize: number, onFree?: (page: number) => void) {
    if (!Number.isInteger(total) || total < 1 || !Number.isInteger(pageSize) || pageSize < 1) {
      throw new RangeError(`Cannot make a pool of ${total} pages of ${pageSize} slots`);
    }
    this.total = total;
    this.pageSize = pageSize;
    this.#refs = new Uint32Array(total);
    this.#free = Array.from({ length: total }, (_, i) => total - 1 - i);
    this.#onFree = onFree;
  }

  /** Pages nobody holds. */
  get free(): number {
    return this.#free.length;
  }

  /** A page with one holder, or undefined if the pool is full. */
  allocate(): number | undefined {
    const page = this.#free.pop();
    if (page !== undefined) this.#refs[page] = 1;
    return page;
  }

  /** One more holder. @throws {RangeError} if the page is free */
  share(page: number): void {
    this.#requireHeld(page);
    this.#refs[page]!++;
  }

  /** One holder less; the last one returns the page. @throws {RangeError} if the page is free */
  release(page: number): void {
    this.#requireHeld(page);
    if (--this.#refs[page]! > 0) return;
    this.#free.push(page);
    this.#onFree?.(page);
  }

  /** How many hold the page. */
  refs(page: number): number {
    return this.#refs[page] ?? 0;
  }

  /** Whether a write would be seen by someone else. */
  isShared(page: number): boolean {
    return this.refs(page) > 1;
  }

  /**
   * Compares the counts with the tables that hold pages.
   *
   * @throws {Error} if a page is lost, counted wrongly, or both free and held
   */
  check(tables: Iterable<Iterable<number>>): void {
    const held = new Uint32Array(this.total);
    for (const table of tables) for (const page of table) held[page]!++;
    const free = new Set(this.#free);
    if (free.size !== this.#free.length) throw new Error("A page is in the free list twice");
    for (let page = 0; page < this.total; page++) {
      if (held[page] !== this.#refs[page]) {
        throw new Error(`Page ${page} has ${held[page]} holders and counts ${this.#refs[page]}`);
      }
      if (free.has(page) !== (held[page] === 0)) {
        throw new Error(`Page ${page} has ${held[page]} holders, free: ${free.has(page)}`);
      }
    }
  }

  #requireHeld(page: number): void {
    if (this.refs(page) === 0) throw new RangeError(`Page ${page} is not held by anyone`);
  }
}

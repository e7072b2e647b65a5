/**
 * PageStore: which pages of the pool are free, and how many page tables hold each of the others.
 * It counts; it never touches memory.
 *
 * Policies with a table per layer or head need pieces of pages. A page taken apart into `parts` pieces
 * gives the ids `part * total + page`; when all of its pieces are free again it is whole again.
 */

/** See file comment. */
export class PageStore {
  /** Pages in the pool. */
  readonly total: number;
  /** Slots per page. */
  readonly pageSize: number;
  readonly #refs: Uint32Array;
  readonly #free: number[];
  readonly #onFree: ((page: number, parts: number) => void) | undefined;
  /** By number of parts. */
  readonly #pieces = new Map<number, Pieces>();

  /** @param onFree called with each page or piece that nobody holds any more, e.g. to poison it in tests */
  constructor(total: number, pageSize: number, onFree?: (page: number, parts: number) => void) {
    if (!Number.isInteger(total) || total < 1 || !Number.isInteger(pageSize) || pageSize < 1) {
      throw new RangeError(`Cannot make a pool of ${total} pages of ${pageSize} slots`);
    }
    this.total = total;
    this.pageSize = pageSize;
    this.#refs = new Uint32Array(total);
    this.#free = Array.from({ length: total }, (_, i) => total - 1 - i);
    this.#onFree = onFree;
  }

  /** Pages nobody holds any part of. */
  get free(): number {
    return this.#free.length;
  }

  /** Free pieces of pages that are taken apart already. */
  spare(parts: number): number {
    return this.#pieces.get(parts)?.spare ?? 0;
  }

  /** All free pieces, in pages: memory that only further tables of pieces can use. */
  get fragments(): number {
    let pages = 0;
    for (const [parts, { spare }] of this.#pieces) pages += spare / parts;
    return pages;
  }

  /** A page, or a piece of one, with one holder; undefined if the pool is full. */
  allocate(parts = 1): number | undefined {
    if (parts > 1) return this.#allocatePiece(parts);
    const page = this.#free.pop();
    if (page !== undefined) this.#refs[page] = 1;
    return page;
  }

  /** One more holder. @throws {RangeError} if the page is free */
  share(page: number, parts = 1): void {
    this.#requireHeld(page, parts);
    this.#refsOf(parts)[page]!++;
  }

  /** One holder less; the last one returns the page. @throws {RangeError} if the page is free */
  release(page: number, parts = 1): void {
    this.#requireHeld(page, parts);
    if (--this.#refsOf(parts)[page]! > 0) return;
    this.#onFree?.(page, parts);
    if (parts === 1) this.#free.push(page);
    else this.#returnPiece(page, parts);
  }

  /** How many hold the page. */
  refs(page: number, parts = 1): number {
    return this.#refsOf(parts)[page] ?? 0;
  }

  /** Whether a write would be seen by someone else. */
  isShared(page: number, parts = 1): boolean {
    return this.refs(page, parts) > 1;
  }

  /**
   * Compares the counts with the tables that hold pages.
   *
   * @param pieces tables of pieces, and into how many their pages are taken apart
   * @throws {Error} if a page is lost, counted wrongly, or both free and held
   */
  check(
    tables: Iterable<Iterable<number>>,
    pieces: Iterable<{ readonly parts: number; readonly pages: Iterable<number> }> = [],
  ): void {
    const held = new Uint32Array(this.total);
    for (const table of tables) for (const page of table) held[page]!++;
    const byParts = new Map<number, Uint32Array>();
    for (const { parts, pages } of pieces) {
      let counts = byParts.get(parts);
      if (counts === undefined) byParts.set(parts, counts = new Uint32Array(parts * this.total));
      for (const piece of pages) counts[piece]!++;
    }
    for (const [parts, { refs, pages }] of this.#pieces) {
      const counts = byParts.get(parts) ?? new Uint32Array(refs.length);
      for (let piece = 0; piece < refs.length; piece++) {
        compare(`Piece ${piece} of ${parts}`, counts[piece]!, refs[piece]!);
      }
      for (const [page, free] of pages) {
        held[page]!++; // by being in pieces
        const used = parts - free.length;
        const counted = Array.from({ length: parts }, (_, i) => counts[i * this.total + page]! > 0);
        compare(`Used pieces of page ${page}`, counted.filter(Boolean).length, used);
        if (used === 0) throw new Error(`Page ${page} is in pieces nobody holds`);
      }
    }
    const free = new Set(this.#free);
    if (free.size !== this.#free.length) throw new Error("A page is in the free list twice");
    for (let page = 0; page < this.total; page++) {
      compare(`Page ${page}`, held[page]!, this.#refs[page]!);
      if (free.has(page) !== (held[page] === 0)) {
        throw new Error(`Page ${page} has ${held[page]} holders, free: ${free.has(page)}`);
      }
    }
  }

  #allocatePiece(parts: number): number | undefined {
    let pieces = this.#pieces.get(parts);
    if (pieces === undefined) {
      pieces = { refs: new Uint32Array(parts * this.total), pages: new Map(), spare: 0, open: [] };
      this.#pieces.set(parts, pieces);
    }
    let page = pieces.open.at(-1);
    if (page === undefined) {
      page = this.allocate();
      if (page === undefined) return undefined;
      const whole = page;
      pieces.pages.set(
        whole,
        Array.from({ length: parts }, (_, i) => i * this.total + whole).reverse(),
      );
      pieces.open.push(whole);
      pieces.spare += parts;
    }
    const free = pieces.pages.get(page)!;
    const piece = free.pop()!;
    if (free.length === 0) pieces.open.pop();
    pieces.spare--;
    pieces.refs[piece] = 1;
    return piece;
  }

  #returnPiece(piece: number, parts: number): void {
    const pieces = this.#pieces.get(parts)!;
    const page = piece % this.total;
    const free = pieces.pages.get(page)!;
    if (free.length === 0) pieces.open.push(page);
    free.push(piece);
    pieces.spare++;
    if (free.length < parts) return;
    pieces.pages.delete(page);
    pieces.open.splice(pieces.open.indexOf(page), 1);
    pieces.spare -= parts;
    this.#refs[page] = 0;
    this.#free.push(page);
  }

  #refsOf(parts: number): Uint32Array {
    return parts === 1 ? this.#refs : this.#pieces.get(parts)?.refs ?? new Uint32Array(0);
  }

  #requireHeld(page: number, parts: number): void {
    if (this.refs(page, parts) === 0) {
      throw new RangeError(`Page ${page} is not held by anyone`);
    }
  }
}

/** Pages that are taken apart. */
interface Pieces {
  /** Holders by piece. */
  readonly refs: Uint32Array;
  /** Page -> its free pieces. */
  readonly pages: Map<number, number[]>;
  /** Pages with free pieces. */
  readonly open: number[];
  spare: number;
}

function compare(what: string, holders: number, counted: number): void {
  if (holders !== counted) throw new Error(`${what} has ${holders} holders and counts ${counted}`);
}

/**
 * plan: which tokens of which sequences the next step computes. Pure: no clock, no randomness, no I/O.
 *
 * The step's token budget is shared between requests, not between sessions, by always giving the next
 * few tokens to the request that has the fewest so far. Long prompts go in chunks. Within a request,
 * and between requests that have equally many, the oldest ask comes first; whatever is left out
 * waits, grows older and so comes first in a later step.
 */

/** What one row needs, in numbers. */
export interface Work {
  /** The request that pays. */
  readonly request: number;
  /** Tokens to compute until the row's asks can be answered. */
  readonly tokens: number;
  /** Further tokens that go with the last one or not at all: a tree. */
  readonly atomic: number;
  /** Valid slots before the row. */
  readonly slots: number;
  /** Whether the last page is shared and partly filled, so that writing copies it first. */
  readonly copies: boolean;
  /** Sequences with a table per layer or head, whose tables take pieces of pages. */
  readonly ragged?: {
    /** Valid slots per table. */
    readonly slots: readonly number[];
    /** How many tables copy their last page first. */
    readonly copies: number;
    /** Free pieces that this work may use before it takes further pages apart. */
    readonly spare: number;
  };
}

/** What a step may use. */
export interface PlanLimits {
  /** Most tokens of one step, over all rows. */
  readonly stepTokens: number;
  /** Most tokens of one row and step. */
  readonly chunkTokens: number;
  /** Pages that can be allocated. */
  readonly pages: number;
  /** Slots per page. */
  readonly pageSize: number;
}

/** One row of the step. */
export interface Take {
  /** Index into the work given. */
  readonly work: number;
  /** How many of its tokens, the atomic ones not counted. */
  readonly tokens: number;
  /** Whether the atomic tokens are in this row, which is then the last. */
  readonly final: boolean;
}

/** A step, or why there is none. */
export interface Plan {
  /** In the order of the work. */
  readonly takes: readonly Take[];
  /** Pages that would have let the oldest work go; 0 if it went. */
  readonly missing: number;
}

/** Tokens dealt out at a time. */
const QUANTUM = 16;

/**
 * @param works oldest first
 * @returns at least one take unless there is no work, or pages for the oldest are missing
 */
export function plan(works: readonly Work[], limits: PlanLimits): Plan {
  const all = takeAll(works, limits);
  if (all !== undefined) return all;
  const shares = works.map((work) => new Share(work));
  const left = { tokens: limits.stepTokens, pages: limits.pages };
  // The oldest work may exceed the step's budget: an atomic part cannot be split.
  const missing = shares.length === 0 ? 0 : openOldest(shares[0]!, left, limits);
  if (missing > 0) return { takes: [], missing };
  dealOut(shares, left, limits);
  const takes: Take[] = [];
  shares.forEach((share, work) => {
    if (share.total > 0) takes.push({ work, tokens: share.tokens, final: share.isFinal });
  });
  return { takes, missing: 0 };
}

/** Pages to allocate for `tokens` new slots. */
export function pagesFor(work: Work, tokens: number, pageSize: number): number {
  if (tokens === 0) return 0;
  if (work.ragged !== undefined) return raggedPages(work.ragged, tokens, pageSize);
  const held = Math.ceil(work.slots / pageSize);
  return Math.ceil((work.slots + tokens) / pageSize) - held + (work.copies ? 1 : 0);
}

function raggedPages(
  { slots, copies, spare }: NonNullable<Work["ragged"]>,
  tokens: number,
  pageSize: number,
): number {
  let pieces = copies - spare;
  for (const count of slots) {
    pieces += Math.ceil((count + tokens) / pageSize) - Math.ceil(count / pageSize);
  }
  return Math.max(0, Math.ceil(pieces / slots.length));
}

/** The usual case: everything fits. */
function takeAll(works: readonly Work[], limits: PlanLimits): Plan | undefined {
  let tokens = 0, pages = 0;
  for (const work of works) {
    const total = work.tokens + work.atomic;
    if (total > limits.chunkTokens) return undefined;
    tokens += total;
    pages += pagesFor(work, total, limits.pageSize);
    if (tokens > limits.stepTokens || pages > limits.pages) return undefined;
  }
  return {
    takes: works.map(({ tokens }, work) => ({ work, tokens, final: true })),
    missing: 0,
  };
}

interface Left {
  tokens: number;
  pages: number;
}

/** What one work has been given. */
class Share {
  tokens = 0;
  isFinal = false;
  /** Nothing more can be given in this step. */
  isClosed = false;
  constructor(readonly work: Work) {}

  get total(): number {
    return this.tokens + (this.isFinal ? this.work.atomic : 0);
  }

  /** The next piece: some tokens, and with the last of them the atomic part. */
  next(most: number): { tokens: number; final: boolean } {
    const rest = this.work.tokens - this.tokens;
    const tokens = Math.min(rest, QUANTUM, most);
    if (tokens < rest) return { tokens, final: false };
    if (tokens + this.work.atomic <= most) return { tokens, final: true };
    // The last token stays with the atomic part, unless there is none.
    return { tokens: Math.max(0, tokens - 1), final: false };
  }

  give(piece: { tokens: number; final: boolean }, left: Left, pageSize: number): boolean {
    const before = this.total;
    const after = before + piece.tokens + (piece.final ? this.work.atomic : 0);
    const pages = pagesFor(this.work, after, pageSize) - pagesFor(this.work, before, pageSize);
    if (after === before || pages > left.pages) {
      this.isClosed = true;
      return false;
    }
    this.tokens += piece.tokens;
    this.isFinal = piece.final;
    this.isClosed = piece.final;
    left.tokens -= after - before;
    left.pages -= pages;
    return true;
  }
}

/** Gives the oldest work its first piece. @returns how many pages are missing for that */
function openOldest(share: Share, left: Left, limits: PlanLimits): number {
  const { work } = share;
  const most = Math.min(limits.stepTokens, limits.chunkTokens);
  let piece = share.next(most);
  const size = piece.tokens + (piece.final ? work.atomic : 0);
  if (size === 0) piece = { tokens: work.tokens, final: true };
  if (share.give(piece, left, limits.pageSize)) return 0;
  const one = { tokens: Math.min(1, work.tokens), final: work.tokens <= 1 };
  share.isClosed = false;
  if (share.give(one, left, limits.pageSize)) return 0;
  const least = one.tokens + (one.final ? work.atomic : 0);
  return pagesFor(work, least, limits.pageSize) - left.pages;
}

/** The request with the fewest tokens goes next, until tokens or pages are used up. */
function dealOut(shares: readonly Share[], left: Left, limits: PlanLimits): void {
  const given = new Map<number, number>();
  const queues = new Map<number, Share[]>();
  for (const share of shares) {
    const { request } = share.work;
    given.set(request, (given.get(request) ?? 0) + share.total);
    if (share.isClosed) continue;
    const queue = queues.get(request);
    if (queue === undefined) queues.set(request, [share]);
    else queue.push(share);
  }
  while (left.tokens > 0 && queues.size > 0) {
    let request = -1, fewest = Infinity;
    for (const key of queues.keys()) {
      const tokens = given.get(key)!;
      if (tokens < fewest) [request, fewest] = [key, tokens];
    }
    const queue = queues.get(request)!;
    const share = queue[0]!;
    const before = share.total;
    share.give(
      share.next(Math.min(left.tokens, limits.chunkTokens - before)),
      left,
      limits.pageSize,
    );
    given.set(request, fewest + share.total - before);
    if (share.isClosed || share.total >= limits.chunkTokens) queue.shift();
    if (queue.length === 0) queues.delete(request);
  }
}

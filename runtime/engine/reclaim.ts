/**
 * Taking pages away. A session is its tokens, so its pages can be computed again: first go cached
 * pages nobody uses, then pages of sequences that ask for nothing now, longest unused first, then
 * those of asking ones, youngest first; the oldest ask keeps its own and therefore always goes on.
 */
import type { PageStore } from "../kv/pages.ts";
import type { PrefixCache } from "../kv/prefix_cache.ts";
import type { Group } from "./groups.ts";
import { pagesFor, type PlanLimits, type Work } from "./plan.ts";
import type { Sequence } from "./sequence.ts";

/** Where pages can be found. */
export interface Room {
  readonly store: PageStore;
  readonly cache: PrefixCache;
  readonly limits: Pick<PlanLimits, "stepTokens" | "chunkTokens">;
  readonly groups: readonly Group[];
  readonly sequences: Iterable<Sequence>;
}

/**
 * Tries to have pages for all the work of a step without disturbing anyone who asks.
 *
 * @returns how many sequences were preempted
 */
export function makeRoom(works: readonly Work[], room: Room): number {
  const { store, limits } = room;
  let tokens = 0, pages = 0;
  for (const work of works) {
    if (tokens >= limits.stepTokens) break;
    const chunk = Math.min(work.tokens, limits.chunkTokens) + work.atomic;
    tokens += chunk;
    pages += pagesFor(work, chunk, store.pageSize);
  }
  if (pages <= store.free) return 0;
  dropCached(pages, room);
  return pages <= store.free ? 0 : preemptIdle(pages, room);
}

/**
 * Makes the oldest group go on.
 *
 * @param missing pages it needs beyond the free ones
 * @returns how many sequences were preempted, or undefined if there is nothing left to take
 */
export function reclaim(missing: number, room: Room): number | undefined {
  const { store, cache } = room;
  const wanted = store.free + missing;
  const [oldest, ...others] = room.groups;
  oldest!.leader.kv.truncate(oldest!.start); // as its row will; what lies behind may be enough
  dropCached(wanted, room);
  if (store.free >= wanted) return 0;
  const idle = preemptIdle(wanted, room);
  if (idle > 0) return idle;
  const victims = others.reverse().flatMap(sequencesOf).concat(sequencesOf(oldest!));
  // One at a time: what it shared with the oldest may now be the oldest's own, to be written to.
  for (const victim of victims) if (victim !== oldest!.leader && preempt(victim)) return 1;
  if (cache.pages > 0) { // pages it shares with nobody but the cache become its own
    cache.clear();
    for (const sequence of sequencesOf(oldest!)) sequence.kv.cached = undefined;
    return 0;
  }
  return undefined;
}

/** Cached pages go in larger numbers than needed, so that the search is not made every step. */
function dropCached(wanted: number, { store, cache }: Room): void {
  if (store.free >= wanted || cache.pages === 0) return;
  cache.evict(Math.max(wanted - store.free, store.total >> 5));
}

function preemptIdle(wanted: number, room: Room): number {
  const asking = new Set(room.groups.flatMap(sequencesOf));
  const idle = [...room.sequences]
    .filter((sequence) => !asking.has(sequence) && sequence.kv.heldCount > 0)
    .sort((a, b) => a.lastStep - b.lastStep);
  let preempted = 0;
  for (const sequence of idle) {
    if (room.store.free >= wanted) break;
    if (!preempt(sequence)) continue;
    preempted++;
    dropCached(wanted, room);
  }
  return preempted;
}

function preempt(sequence: Sequence): boolean {
  if (sequence.kv.heldCount === 0 || sequence.isBusy) return false;
  sequence.preempt();
  return true;
}

function sequencesOf(group: Group): Sequence[] {
  return [group.leader, ...group.members, ...group.waiters.flatMap(sequencesOf)];
}

/**
 * Groups: the asks that one row answers, and which rows have to wait for which.
 *
 * A prefix that several sequences have in common is computed once: sequences that ask at the same
 * place share a row; a sequence whose next token another row of this step computes waits and takes
 * the pages over. Sharing goes by content, so it does not matter how the sequences came to be equal.
 */
import type { Ask } from "./ask.ts";
import type { PrefixCache } from "../kv/prefix_cache.ts";
import { adoptPrefix, type ScopeState } from "./scope.ts";
import { haveEqualPrefix, type Sequence } from "./sequence.ts";

/** Asks that one row answers. */
export interface Group {
  /** The sequence that is computed. */
  leader: Sequence;
  /** Others with the same tokens up to `end`. */
  readonly members: Sequence[];
  readonly asks: Ask[];
  /** Position after the last one to compute. */
  readonly end: number;
  /** Position of the first token to compute. */
  start: number;
  /** Age of the oldest ask, also of those that wait for this group. */
  order: number;
  /** Groups that take this group's pages over after the step. */
  readonly waiters: Group[];
}

/** What happened in the prefix cache. */
export interface PrefixCounts {
  lookups: number;
  hits: number;
  hitTokens: number;
}

/**
 * The groups to compute in this step, oldest first.
 *
 * @param asks oldest first
 * @param found where computed prefixes are looked for; undefined = nowhere
 */
export function groupAsks(
  asks: readonly Ask[],
  found: { readonly cache: PrefixCache; readonly counts: PrefixCounts } | undefined,
): readonly Group[] {
  for (const ask of asks) forgetIfChanged(ask);
  const groups = shareRows(groupBySequence(asks));
  for (const group of groups) {
    if (found !== undefined && group.leader.kv.computed < group.end - 1) {
      findComputed(group, groups, found.cache, found.counts);
    }
    group.start = startOf(group);
  }
  return groups.length === 1 ? groups : letWait(groups);
}

/**
 * Under an evicting policy a position that was computed before the policy changed something can only
 * be read again by computing all of it again.
 */
function forgetIfChanged({ sequence, next }: Ask): void {
  const { kv, scope } = sequence;
  // What was recorded about attention cannot be taken back.
  const from = scope.replays ? kv.computed : Math.min(kv.computed, kv.editedAt);
  if (!scope.policy.lossless && next < from) sequence.preempt();
}

/** Per sequence, the asks with the nearest end. A tree is asked alone, after the others. */
function groupBySequence(asks: readonly Ask[]): Group[] {
  const bySequence = new Map<Sequence, Ask[]>();
  for (const ask of asks) {
    const chosen = bySequence.get(ask.sequence);
    if (chosen === undefined || comesBefore(ask, chosen[0]!)) bySequence.set(ask.sequence, [ask]);
    else if (sharesRow(ask, chosen[0]!)) chosen.push(ask);
  }
  const groups: Group[] = [];
  for (const [sequence, chosen] of bySequence) {
    groups.push({
      leader: sequence,
      members: [],
      asks: chosen,
      end: chosen[0]!.end,
      start: 0,
      order: chosen[0]!.order,
      waiters: [],
    });
  }
  return groups;
}

function comesBefore(ask: Ask, other: Ask): boolean {
  if (ask.end !== other.end) return ask.end < other.end;
  return ask.query.kind !== "tree" && other.query.kind === "tree";
}

function sharesRow(ask: Ask, other: Ask): boolean {
  return ask.end === other.end && ask.query.kind !== "tree" && other.query.kind !== "tree";
}

/** Joins groups of different sequences that hold the same tokens. */
function shareRows(groups: readonly Group[]): readonly Group[] {
  if (groups.length === 1) return groups;
  const joined: Group[] = [];
  const byContent = new Map<number, Group[]>();
  for (const group of groups) {
    const key = group.leader.hashes[group.end - 1] ?? 0;
    const bucket = byContent.get(key);
    const same = bucket?.find((other) => canShareRow(other, group));
    if (same !== undefined) {
      join(same, group);
      continue;
    }
    if (bucket === undefined) byContent.set(key, [group]);
    else bucket.push(group);
    joined.push(group);
  }
  return joined;
}

function canShareRow(a: Group, b: Group): boolean {
  const { leader: one } = a, { leader: two } = b;
  if (a.end !== b.end || one.scope.namespace !== two.scope.namespace) return false;
  if (a.asks[0]!.query.kind === "tree" || b.asks[0]!.query.kind === "tree") return false;
  if (!one.scope.policy.lossless && one.kv.version !== two.kv.version) return false;
  return haveEqualPrefix(one, two, a.end);
}

function join(into: Group, group: Group): void {
  into.asks.push(...group.asks);
  if (group.leader.kv.computed > into.leader.kv.computed) {
    into.members.push(into.leader);
    into.leader = group.leader;
  } else {
    into.members.push(group.leader);
  }
}

/** Pages of the leader's prefix that exist already: in the cache, or with other sequences. */
function findComputed(
  group: Group,
  groups: readonly Group[],
  cache: PrefixCache,
  counts: PrefixCounts,
): void {
  const { leader } = group;
  const { scope } = leader;
  if (!scope.policy.lossless) {
    const { kv, promptLength, isLookedUp } = leader;
    const isNew = kv.computed === 0 && !isLookedUp;
    if (isNew) lookUp(leader, Math.min(group.end, promptLength), cache, counts);
    return;
  }
  scope.adoptFromFamily(leader, group.end);
  for (const other of groups) {
    if (other.leader.scope !== scope) adoptPrefix(leader, other.leader, group.end);
  }
  if (!leader.isLookedUp) lookUp(leader, group.end, cache, counts);
}

function lookUp(
  sequence: Sequence,
  end: number,
  cache: PrefixCache,
  counts: PrefixCounts,
): void {
  const { scope, kv } = sequence;
  if (scope.prefixes === undefined) return;
  sequence.isLookedUp = true;
  const path = cache.match(scope.prefixes, sequence.tokens, end);
  counts.lookups++;
  const length = path.length * kv.store.pageSize;
  if (length > kv.computed) {
    kv.adoptCached(path);
    counts.hits++;
    counts.hitTokens += length;
  }
  countCached(scope, Math.min(length, sequence.promptLength));
}

/** Only what was there before the request counts, not what it left there itself. */
function countCached(scope: ScopeState, tokens: number): void {
  if (!scope.isLookedUp) scope.meter.cachedTokens += tokens;
  scope.isLookedUp = true;
}

/** The row starts where nothing is computed yet, or earlier if an ask reads an earlier position. */
function startOf({ leader, asks, end }: Group): number {
  let start = Math.min(leader.kv.computed, end);
  for (const ask of asks) start = Math.min(start, ask.next);
  return start;
}

/** Of groups whose first token has the same prefix, only the shortest is computed. */
function letWait(groups: readonly Group[]): readonly Group[] {
  const leaders: Group[] = [];
  const byStart = new Map<number, Group[]>();
  const shortestFirst = [...groups].sort((a, b) => a.end - b.end || a.order - b.order);
  for (const group of shortestFirst) {
    const key = group.leader.hashes[group.start] ?? group.start;
    const bucket = byStart.get(key);
    const leader = bucket?.find((other) => mustWait(group, other));
    if (leader !== undefined) {
      leader.waiters.push(group);
      leader.order = Math.min(leader.order, group.order);
      continue;
    }
    if (bucket === undefined) byStart.set(key, [group]);
    else bucket.push(group);
    leaders.push(group);
  }
  return leaders.sort((a, b) => a.order - b.order);
}

function mustWait(group: Group, other: Group): boolean {
  const { leader: one } = group, { leader: two } = other;
  return group.start === other.start && group.start < Math.min(group.end, other.end) &&
    one.scope.policy.lossless && one.scope.namespace === two.scope.namespace &&
    haveEqualPrefix(one, two, group.start + 1);
}

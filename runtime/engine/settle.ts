/** What a finished step means for sequences, pages, meters and asks. */
import { type ConsultHost, settleKv } from "../kv/consult.ts";
import type { RetiredPage } from "../kv/edits.ts";
import type { PageStore } from "../kv/pages.ts";
import type { PrefixCache } from "../kv/prefix_cache.ts";
import type { Ask } from "./ask.ts";
import type { Answer, ExecutorInfo, PageEdit } from "./executor.ts";
import type { PlannedRow } from "./layout.ts";
import { adoptPrefix, type ScopeState } from "./scope.ts";
import { OutOfPagesError } from "../errors.ts";
import { takeSignals } from "./row_policy.ts";
import type { Sequence } from "./sequence.ts";

/** What settling works with. */
export interface SettlerOptions {
  readonly store: PageStore;
  readonly cache: PrefixCache;
  readonly info: ExecutorInfo;
  readonly sequences: () => Iterable<Sequence>;
}

/** See file comment. */
export class Settler {
  readonly #store: PageStore;
  readonly #cache: PrefixCache;
  readonly #sequences: () => Iterable<Sequence>;
  readonly #host: ConsultHost;
  readonly #pageBytes: number;
  /** Sequences whose pages are only right once the waiting edits have been applied. */
  #edited: Sequence[] = [];
  /** The sequence that asks longest: it keeps its pages and so always goes on. */
  #oldest: Sequence | undefined;
  /** The sequence whose policy is consulted. */
  #settling: Sequence | undefined;
  /** Sequences whose policy failed in this step. */
  readonly #failures = new Map<Sequence, { readonly error: unknown }>();

  constructor(options: SettlerOptions) {
    const { info } = options;
    this.#store = options.store;
    this.#cache = options.cache;
    this.#sequences = options.sequences;
    this.#host = {
      edits: [],
      retired: [],
      layout: info.kv,
      slotsPerPage: (format) =>
        format === "f32" ? info.kv.pageSize : info.slotsPerPage?.[format] ?? info.kv.pageSize,
      allocate: (parts) => this.#allocate(parts),
    };
    this.#pageBytes = info.pageBytes;
  }

  /** Edits that wait for the next batch. */
  get edits(): readonly PageEdit[] {
    return this.#host.edits;
  }

  /** Pages in no table that wait for those edits. */
  get retired(): readonly RetiredPage[] {
    return this.#host.retired;
  }

  takeEdits(): PageEdit[] {
    return this.#host.edits.splice(0);
  }

  /** The batch has run: tokens are computed, pages shared, policies consulted, asks answered. */
  succeed(rows: readonly PlannedRow[], answers: readonly (readonly Answer[])[]): void {
    this.#edited = [];
    this.#releaseRetired();
    this.#oldest = oldestOf(rows);
    rows.forEach((planned, r) => this.#advance(planned, answers[r]!));
    for (const scope of new Set(rows.map(({ group: { leader } }) => leader.scope))) {
      if (!scope.policy.lossless) scope.countPeak(this.#pageBytes);
    }
    const byAge = [...rows].sort((a, b) => a.group.order - b.group.order);
    for (const planned of byAge) this.#settleRow(planned);
    if (this.#host.edits.length === 0) this.#releaseRetired();
    const last = new Map(rows.map(({ group: { leader } }) => [leader.scope, leader]));
    for (const [scope, leader] of last) scope.countKv(leader, this.#pageBytes);
    rows.forEach(({ asks, to, isFinal, group }, r) => {
      for (const ask of group.asks) this.#failIfPolicyDid(ask);
      asks.forEach((ask, i) => ask.take(answers[r]![i]!, to, isFinal));
      group.leader.releaseIfUnused();
    });
    this.#failures.clear();
  }

  #failIfPolicyDid(ask: Ask): void {
    const failure = this.#failures.size > 0 ? this.#failures.get(ask.sequence) : undefined;
    if (failure !== undefined) ask.fail(failure.error);
  }

  /** The batch has failed: what it wrote is unknown. Cached pages were not written to. */
  fail(rows: readonly PlannedRow[], isDeviceLost: boolean): void {
    this.#releaseRetired();
    for (const { group } of rows) {
      group.leader.isBusy = false;
      group.leader.preempt();
      group.leader.releaseIfUnused();
    }
    for (const sequence of this.#edited.splice(0)) sequence.preempt();
    if (!isDeviceLost) return;
    this.#cache.clear();
    for (const sequence of this.#sequences()) sequence.preempt();
  }

  #advance({ group: { leader, start }, row, to }: PlannedRow, answers: readonly Answer[]): void {
    leader.isBusy = false;
    leader.kv.advance(to - start);
    if (leader.scope.policy.signals.length > 0) takeSignals(leader, row, answers);
    leader.settle();
    leader.scope.meter.computedTokens += row.tokens.length;
    leader.scope.meter.rows++;
  }

  #settleRow({ group: { leader, members, waiters }, to }: PlannedRow): void {
    this.#settle(leader);
    if (members.length > 0) this.#settleMembers(leader, members, to);
    for (const waiter of waiters) {
      for (const sequence of [waiter.leader, ...waiter.members]) {
        if (sequence.isReleased) continue;
        adoptPrefix(sequence, leader, sequence.tokens.length);
        this.#settle(sequence);
      }
    }
  }

  #settleMembers(leader: Sequence, members: readonly Sequence[], to: number): void {
    const scopes = new Set<ScopeState>([leader.scope]);
    for (const member of members) {
      if (member.isReleased) continue;
      scopes.add(member.scope);
      if (!leader.scope.policy.lossless) member.kv.become(leader.kv, member.scope.forkState);
      else adoptPrefix(member, leader, to);
      this.#settle(member);
    }
    scopes.delete(leader.scope);
    for (const scope of scopes) scope.meter.rows++;
  }

  #settle(sequence: Sequence): void {
    const edits = this.#host.edits.length, retired = this.#host.retired.length;
    sequence.settle();
    this.#settling = sequence;
    const { scope, promptLength } = sequence;
    if (!scope.policy.lossless) this.#remember(sequence); // as long as nothing was changed
    try {
      settleKv(sequence, scope.policy, scope.scheduleOf(promptLength), scope.turns, this.#host);
    } catch (error) {
      this.#host.edits.length = edits; // they read pages that are given up now
      sequence.preempt();
      // Whoever does not ask longest starts over once there is room; so does everybody while pages
      // are about to be returned.
      const isCrowdedOut = error instanceof OutOfPagesError &&
        (sequence !== this.#oldest || retired > 0);
      if (!isCrowdedOut) this.#failures.set(sequence, { error });
      return;
    }
    if (this.#host.edits.length > edits) this.#edited.push(sequence);
    this.#remember(sequence);
  }

  /** Full settled pages go into the prefix cache. */
  #remember({ kv, committed, tokens, scope, promptLength }: Sequence): void {
    if (scope.prefixes === undefined || !scope.policy.lossless && kv.editedAt > 0) return;
    const most = scope.policy.lossless ? Infinity : promptLength;
    const full = Math.floor(Math.min(kv.computed, committed, most) / this.#store.pageSize);
    for (let depth = kv.cached?.depth ?? 0; depth < full; depth++) {
      const page = kv.pages[depth]!;
      const node = this.#cache.insert(scope.prefixes, kv.cached, tokens, page);
      if (node === undefined) return;
      kv.replacePage(depth, node.page);
      kv.cached = node;
    }
  }

  #releaseRetired(): void {
    for (const { page, parts } of this.#host.retired.splice(0)) this.#store.release(page, parts);
  }

  /** For a policy's fresh pages others have to make way: what they held can be computed again. */
  #allocate(parts: number): number | undefined {
    const isFull = this.#store.free === 0 && (parts === 1 || this.#store.spare(parts) === 0);
    if (isFull && this.#cache.evict(1) === 0) this.#preemptOther();
    return this.#store.allocate(parts);
  }

  /** Longest unused first, until a page is free. */
  #preemptOther(): void {
    const others = [...this.#sequences()]
      .filter((other) =>
        other !== this.#settling && other !== this.#oldest && other.kv.heldCount > 0
      )
      .sort((a, b) => a.lastStep - b.lastStep);
    for (const other of others) {
      other.preempt();
      if (this.#store.free > 0 || this.#cache.evict(1) > 0) return;
    }
  }
}

function oldestOf(rows: readonly PlannedRow[]): Sequence | undefined {
  const groups = rows.map(({ group }) => group);
  return groups.sort((a, b) => a.order - b.order)[0]?.leader;
}

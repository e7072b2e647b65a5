/** ScopeState: what the engine knows of one request: its policy, its sequences, who to tell. */
import type { KvLayout, KvModel, KvPolicy, KvSchedule, ReadRule } from "../kv/policy.ts";
import type { KvShape } from "../kv/sequence_kv.ts";
import { requireSupport } from "../kv/support.ts";
import { groupCount } from "../kv/units.ts";
import type { ExecutorInfo } from "./executor.ts";
import type { RecordLedger } from "./records.ts";
import { createMeter, type Meter, type RequestScope } from "../model.ts";
import { commonPrefix, haveEqualPrefix, type Sequence } from "./sequence.ts";

/** A session as its scope sees it. */
export interface ScopedSession {
  /** Closes the session; its asks reject with `reason`. */
  close(reason: unknown): void;
}

/** See file comment. */
export class ScopeState {
  /** Smaller = opened earlier. */
  readonly id: number;
  readonly signal: AbortSignal | undefined;
  readonly meter: Meter;
  readonly policy: KvPolicy;
  /** Only sequences of equal namespaces share pages. */
  readonly namespace: string;
  /** Where prompts find finished pages in the prefix cache and leave them; undefined: nowhere. */
  readonly prefixes: string | undefined;
  readonly layout: KvLayout;
  readonly shape: KvShape;
  readonly rule: ReadRule | undefined;
  /** Whether a token's position is its slot, so that keys turn when slots move. */
  readonly turns: boolean;
  /** Whether the backend can hide slots from whole rows only. */
  readonly hidesPerRow: boolean;
  /**
   * Whether truncated sequences are computed again from the start, because what the forgotten tokens
   * added to the policy's signals cannot be taken back. What adapters recorded stays valid.
   */
  readonly replays: boolean;
  readonly sessions = new Set<ScopedSession>();
  readonly sequences = new Set<Sequence>();
  /** Whether the prompt was counted, and whether the prefix cache was asked for it. */
  isBilled = false;
  isLookedUp = false;
  readonly #params: unknown;
  readonly #model: KvModel;
  /** By prompt length. */
  readonly #schedules = new Map<number, KvSchedule>();
  /** Page -> the round of counting it was last seen in. */
  readonly #seen: number[] = [];
  #round = 0;
  /** Most bytes that sequences of this request held at once. */
  #peak = 0;
  readonly #onIdle: (scope: ScopeState) => void;

  /**
   * @throws {NotFoundError} if the policy is unknown
   * @throws {OutOfMemoryError} if what the policy records does not fit
   * @throws if the policy's parameters do not validate
   */
  constructor(
    id: number,
    scope: RequestScope | undefined,
    host: {
      readonly info: ExecutorInfo;
      readonly separators: () => ReadonlySet<number>;
      readonly findPolicy: (name: string) => KvPolicy;
      /** Sets memory aside for what policies record. */
      readonly records: Pick<RecordLedger, "reserve">;
      /** Called when the last session and sequence are gone. */
      readonly onIdle: (scope: ScopeState) => void;
    },
  ) {
    const { info, separators, findPolicy } = host;
    this.#onIdle = host.onIdle;
    this.id = id;
    this.signal = scope?.signal;
    this.meter = scope?.meter ?? createMeter();
    this.policy = findPolicy(scope?.kv?.name ?? "full");
    this.#params = this.policy.params.parse(scope?.kv?.params ?? {});
    this.layout = info.kv;
    this.#model = modelOf(info, this.policy.lossless ? new Set() : separators());
    requireSupport(this.policy, this.#params, info);
    this.policy.check?.(this.#params, this.#model);
    host.records.reserve(this.policy, this.#params);
    const { granularity } = this.policy;
    this.shape = { granularity, groups: groupCount(info.kv, granularity) };
    this.rule = this.policy.reads?.(this.#params);
    this.turns = this.policy.positions?.(this.#params) === "cache";
    this.hidesPerRow = info.support?.sight !== true;
    this.replays = this.policy.signals.some((name) => !name.startsWith("adapter:"));
    const kind = this.policy.lossless
      ? "lossless"
      : JSON.stringify([this.policy.name, this.#params]);
    const salt = JSON.stringify(scope?.cacheSalt ?? "");
    this.namespace = `${salt} ${kind}`;
    this.prefixes = this.#sharesPrompts() ? `${salt} ${prefixKind(this.policy)}` : undefined;
  }

  #sharesPrompts(): boolean {
    const { policy } = this;
    if (policy.lossless) return true;
    const isPlain = policy.granularity === "sequence" && policy.signals.length === 0;
    return isPlain && policy.densePrompt?.(this.#params) === true;
  }

  /** Policy state of a sequence with nothing computed. */
  initState(): unknown {
    return this.policy.init(this.layout, this.#params, this.#model);
  }

  /** When the policy is consulted about sequences with a prompt of this length. */
  scheduleOf(promptLength: number): KvSchedule {
    let schedule = this.#schedules.get(promptLength);
    if (schedule === undefined) {
      const { pageSize } = this.layout;
      schedule = this.policy.schedule?.(this.#params, this.layout, promptLength) ??
        { prompt: pageSize, decode: pageSize };
      this.#schedules.set(promptLength, schedule);
    }
    return schedule;
  }

  /** What the cache holds once a step is computed and before its policy drops anything: the peak. */
  countPeak(pageBytes: number): void {
    this.#peak = Math.max(this.#peak, this.#heldPages() / this.shape.groups * pageBytes);
  }

  /** Writes down what the cache holds after a step that computed `sequence`. */
  countKv({ kv }: Sequence, pageBytes: number): void {
    const { groups } = this.shape;
    const held = this.#heldPages() / groups * pageBytes;
    this.meter.kv = {
      tokensKept: kv.meanCount,
      bytes: kv.heldCount / groups * pageBytes,
      bytesFull: Math.ceil(kv.computed / this.layout.pageSize) * pageBytes,
      bytesPeak: this.#peak = Math.max(this.#peak, held),
    };
  }

  /** Pages, or pieces of pages, that any sequence holds; shared ones once. */
  #heldPages(): number {
    if (this.sequences.size === 1) { for (const { kv } of this.sequences) return kv.heldCount; }
    const round = ++this.#round;
    let held = 0;
    for (const { kv } of this.sequences) {
      for (const { plain, encoded } of kv.tables) {
        for (const page of plain.pages) held += this.#isNew(page, round);
        for (const page of encoded?.pages ?? []) held += this.#isNew(page, round);
      }
    }
    return held;
  }

  /** 1 the first time a page is seen in a round. */
  #isNew(page: number, round: number): 0 | 1 {
    if (this.#seen[page] === round) return 0;
    this.#seen[page] = round;
    return 1;
  }

  readonly forkState = (state: unknown): unknown => this.policy.fork(state);

  /** To be called when a session or sequence is gone. */
  checkIdle(): void {
    if (this.sessions.size === 0 && this.sequences.size === 0) this.#onIdle(this);
  }

  readonly onAbort = (): void => this.close(this.signal?.reason);

  /** Closes every session; their asks reject with `reason`. */
  close(reason: unknown): void {
    for (const session of [...this.sessions]) session.close(reason);
  }

  /** The longest computed prefix of `sequence` among the request's other sequences is made its own. */
  adoptFromFamily(sequence: Sequence, limit: number): void {
    for (const other of this.sequences) {
      if (other !== sequence) adoptPrefix(sequence, other, limit);
    }
  }

  /** Sequences that have less of what `closing` has computed get it before its pages go. */
  bequeath(closing: Sequence): void {
    if (this.sequences.size === 0 || closing.kv.computed === 0) return;
    for (const heir of this.sequences) {
      if (heir.isBusy || heir.kv.computed >= heir.tokens.length) continue;
      adoptPrefix(heir, closing, heir.tokens.length);
    }
  }
}

/** Pages that are equal for equal tokens; those of adapters hold their records as well. */
function prefixKind({ adapter }: KvPolicy): string {
  return adapter === undefined ? "lossless" : `dense ${adapter}`;
}

/** Gives `to` what `from` has computed of their common prefix, if it is more than `to` has. */
export function adoptPrefix(to: Sequence, from: Sequence, limit: number): void {
  const have = to.kv.computed;
  if (from.kv.computed <= have || !to.scope.policy.lossless) return;
  if (to.scope.namespace !== from.scope.namespace) return;
  if (!haveEqualPrefix(to, from, have + 1)) return;
  const length = commonPrefix(to, from, have + 1, Math.min(limit, from.kv.computed));
  to.kv.adopt(from.kv, length);
}

/** What a policy is told of the model. */
export function modelOf(info: ExecutorInfo, separators: ReadonlySet<number>): KvModel {
  const { kv, heads = kv.kvHeads, contextLength, rope } = info;
  return {
    layout: kv,
    heads,
    contextLength,
    separators,
    ...info.adapterData && { adapters: info.adapterData },
    ...rope && { rope: { layout: rope.layout, frequencies: [...rope.frequencies] } },
  };
}

/** ScopeState: what the engine knows of one request: its policy, its sequences, who to tell. */
import type { KvLayout, KvPolicy } from "../kv/policy.ts";
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
  readonly sessions = new Set<ScopedSession>();
  readonly sequences = new Set<Sequence>();
  /** Whether the prompt was counted, and whether the prefix cache was asked for it. */
  isBilled = false;
  isLookedUp = false;
  readonly #params: unknown;
  readonly #layout: KvLayout;
  readonly #onIdle: (scope: ScopeState) => void;

  /**
   * @throws {NotFoundError} if the policy is unknown
   * @throws if the policy's parameters do not validate
   */
  constructor(
    id: number,
    scope: RequestScope | undefined,
    host: {
      readonly layout: KvLayout;
      readonly findPolicy: (name: string) => KvPolicy;
      /** Called when the last session and sequence are gone. */
      readonly onIdle: (scope: ScopeState) => void;
    },
  ) {
    const { layout, findPolicy } = host;
    this.#onIdle = host.onIdle;
    this.id = id;
    this.signal = scope?.signal;
    this.meter = scope?.meter ?? createMeter();
    this.policy = findPolicy(scope?.kv?.name ?? "full");
    if (this.policy.granularity !== "sequence") {
      throw new RangeError(
        `KV policy ${JSON.stringify(this.policy.name)} keeps different slots per ` +
          `${this.policy.granularity}: this engine has one page table per sequence`,
      );
    }
    if (this.policy.signals.length > 0) {
      throw new RangeError(
        `KV policy ${
          JSON.stringify(this.policy.name)
        } needs signals this engine does not record: ` +
          this.policy.signals.join(", "),
      );
    }
    this.#params = this.policy.params.parse(scope?.kv?.params ?? {});
    this.#layout = layout;
    const kind = this.policy.lossless
      ? "lossless"
      : JSON.stringify([this.policy.name, this.#params]);
    this.namespace = `${JSON.stringify(scope?.cacheSalt ?? "")} ${kind}`;
  }

  /** Policy state of a sequence with nothing computed. */
  initState(): unknown {
    return this.policy.init(this.#layout, this.#params);
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

/** Gives `to` what `from` has computed of their common prefix, if it is more than `to` has. */
export function adoptPrefix(to: Sequence, from: Sequence, limit: number): void {
  const have = to.kv.computed;
  if (from.kv.computed <= have || !to.scope.policy.lossless) return;
  if (to.scope.namespace !== from.scope.namespace) return;
  if (!haveEqualPrefix(to, from, have + 1)) return;
  const length = commonPrefix(to, from, have + 1, Math.min(limit, from.kv.computed));
  to.kv.adopt(from.kv, length);
}

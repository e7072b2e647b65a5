/** The step loop of the fakes: asks of one event-loop turn are one step. */
import { EngineError, type RequestScope } from "../../runtime/mod.ts";

/** What tests read off a fake. */
export interface FakeStats {
  /** Steps executed. */
  readonly steps: number;
  /** Asks answered. */
  readonly asks: number;
  /** Rows computed: one per session and step. */
  readonly rows: number;
  /** Sessions not yet closed. */
  readonly openSessions: number;
  /** Most sessions that were open at one moment. */
  readonly peakSessions: number;
  /** Asks waiting for a step. */
  readonly pendingAsks: number;
}

/** An ask whose answer is known and waits for its step. */
interface PendingAsk {
  readonly owner: object;
  readonly scope: RequestScope | undefined;
  readonly answer: () => void;
  readonly fail: (reason: unknown) => void;
}

/** Delays answers to the next event-loop turn, counts, and fails on demand. */
export class FakeEngine {
  readonly stats = {
    steps: 0,
    asks: 0,
    rows: 0,
    openSessions: 0,
    peakSessions: 0,
    pendingAsks: 0,
  };
  #pending: PendingAsk[] = [];
  #armed = false;
  #paused = false;
  readonly #failAtStep: number | undefined;
  readonly #watched = new WeakSet<AbortSignal>();

  constructor(failAtStep: number | undefined) {
    this.#failAtStep = failAtStep;
  }

  /** Resolves with `value` when the next step has run. */
  ask<T>(owner: object, scope: RequestScope | undefined, value: T): Promise<T> {
    if (scope?.signal.aborted) return Promise.reject(scope.signal.reason);
    if (scope) this.#watch(scope.signal);
    return new Promise((resolve, reject) => {
      this.#pending.push({ owner, scope, answer: () => resolve(value), fail: reject });
      this.stats.pendingAsks = this.#pending.length;
      this.#arm();
    });
  }

  /** Rejects the pending asks that `matches` picks. */
  reject(matches: (ask: { owner: object; signal?: AbortSignal }) => boolean, reason: unknown) {
    const isPicked = ({ owner, scope }: PendingAsk) =>
      matches(scope ? { owner, signal: scope.signal } : { owner });
    const picked = this.#pending.filter(isPicked);
    this.#pending = this.#pending.filter((ask) => !isPicked(ask));
    this.stats.pendingAsks = this.#pending.length;
    for (const ask of picked) ask.fail(reason);
  }

  opened(): void {
    this.stats.openSessions++;
    this.stats.peakSessions = Math.max(this.stats.peakSessions, this.stats.openSessions);
  }

  closed(): void {
    this.stats.openSessions--;
  }

  /** No step runs until {@link resume}. */
  pause(): void {
    this.#paused = true;
  }

  resume(): void {
    this.#paused = false;
    if (this.#pending.length > 0) this.#arm();
  }

  #arm(): void {
    if (this.#armed || this.#paused) return;
    this.#armed = true;
    setImmediate(() => this.#step());
  }

  #step(): void {
    this.#armed = false;
    if (this.#paused) return;
    const asks = this.#pending;
    this.#pending = [];
    this.stats.pendingAsks = 0;
    if (asks.length === 0) return;
    this.stats.steps++;
    const failing = this.stats.steps === this.#failAtStep;
    const rows = new Map(asks.map((ask) => [ask.owner, ask.scope]));
    this.stats.rows += rows.size;
    this.stats.asks += asks.length;
    for (const scope of rows.values()) if (scope) scope.meter.rows++;
    for (const ask of asks) {
      if (failing) ask.fail(new EngineError("The fake engine was told to fail in this step"));
      else ask.answer();
    }
  }

  #watch(signal: AbortSignal): void {
    if (this.#watched.has(signal)) return;
    this.#watched.add(signal);
    const abort = () => this.reject((ask) => ask.signal === signal, signal.reason);
    signal.addEventListener("abort", abort, { once: true });
  }
}

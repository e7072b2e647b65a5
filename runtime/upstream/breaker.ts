/**
 * A circuit breaker: after so many failures in a row a server is left alone for a while; then one call
 * may try, and its outcome decides.
 *
 * Source: M. Nygard, "Release It!", 2007, section 5.2. Differs: each opening after a failed try lasts
 * twice as long, up to eight times the first.
 */
import type { BreakerPolicy } from "./types.ts";

/** Whether calls may pass. */
export type BreakerState = "closed" | "open" | "half_open";

const MOST_OPENINGS = 8;

/** One replica's breaker. Times in milliseconds on the host's monotonic clock. */
export class Breaker {
  readonly #policy: BreakerPolicy;
  #failures = 0;
  #openings = 0;
  #openUntil = -Infinity;
  #isTrying = false;

  constructor(policy: BreakerPolicy) {
    this.#policy = policy;
  }

  state(nowMs: number): BreakerState {
    if (this.#failures < this.#policy.failures) return "closed";
    return nowMs < this.#openUntil ? "open" : "half_open";
  }

  /** Whether a call may be made now. */
  allows(nowMs: number): boolean {
    const state = this.state(nowMs);
    return state === "closed" || (state === "half_open" && !this.#isTrying);
  }

  /** Milliseconds until a call may try. */
  waitMs(nowMs: number): number {
    return Math.max(0, this.#openUntil - nowMs);
  }

  /** A call begins. */
  begin(nowMs: number): void {
    if (this.state(nowMs) === "half_open") this.#isTrying = true;
  }

  succeeded(): void {
    this.#failures = 0;
    this.#openings = 0;
    this.#isTrying = false;
    this.#openUntil = -Infinity;
  }

  failed(nowMs: number): void {
    this.#isTrying = false;
    this.#failures++;
    if (this.#failures < this.#policy.failures) return;
    this.#openUntil = nowMs + this.#policy.openMs * Math.min(MOST_OPENINGS, 2 ** this.#openings++);
  }

  /** A call ended without telling anything about the server. */
  abandoned(): void {
    this.#isTrying = false;
  }
}

/**
 * Places that must be asked for again and again. Some edge platforms drop the work of a client that
 * left, timers and all, without telling it; its place would be lost.
 */
import type { Clock } from "./deps.ts";

/** Leases of all requests. */
export interface Leases {
  /**
   * Renews itself as long as timers of this request run.
   *
   * @param lost called by {@link sweep} when they no longer do
   * @returns ends the lease
   */
  open(lost: () => void): () => void;
  /** Finds leases that ran out. */
  sweep(): void;
}

/** @param ms how long a lease lasts; undefined = for ever, and nothing is renewed */
export function createLeases(clock: Clock, ms: number | undefined): Leases {
  const leases = new Set<{ seenMs: number; readonly lost: () => void }>();
  return {
    open(lost) {
      if (ms === undefined) return () => {};
      const lease = { seenMs: clock.monotonicMs(), lost };
      leases.add(lease);
      let cancel = () => {};
      const renew = () => {
        lease.seenMs = clock.monotonicMs();
        cancel = clock.after(ms / 4, renew);
      };
      renew();
      return () => {
        cancel();
        leases.delete(lease);
      };
    },
    sweep() {
      for (const lease of leases) {
        if (clock.monotonicMs() - lease.seenMs <= ms!) continue;
        leases.delete(lease);
        lease.lost();
      }
    },
  };
}

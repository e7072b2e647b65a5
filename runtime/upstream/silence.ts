/** How long an upstream may be silent. */
import type { UpstreamHost } from "./types.ts";

/** Notices when nothing was heard for too long; one timer, however often something is. */
export function watchSilence(host: UpstreamHost, limitMs: number, tooLong: () => void) {
  let limit = limitMs;
  let lastMs = host.now();
  let isWaiting = true;
  let cancel = () => {};
  function arm(ms: number): void {
    cancel = host.after(ms, () => {
      const dueMs = lastMs + limit - host.now();
      if (!isWaiting) arm(limit);
      else if (dueMs > 0) arm(dueMs);
      else tooLong();
    });
  }
  arm(limit);
  return {
    heard() {
      lastMs = host.now();
      isWaiting = false;
    },
    waiting() {
      lastMs = host.now();
      isWaiting = true;
    },
    limit(ms: number) {
      cancel();
      limit = ms;
      lastMs = host.now();
      arm(ms);
    },
    stop: () => cancel(),
  };
}

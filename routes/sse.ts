/** Server-sent events, driven by the reader: text is made when somebody takes it. */
import type { CancelReason } from "./admission.ts";
import type { Clock, Limits } from "./deps.ts";

/** Events made ahead of the reader; the generation waits above that. */
const bufferedEvents = 16;

const keepAlive = new TextEncoder().encode(": keep-alive\n\n");

/** The end of every stream. */
export const doneFrame = "data: [DONE]\n\n";

/** One event. JSON has no line breaks outside its strings and escapes them inside. */
export function dataFrame(value: unknown): string {
  return `data: ${JSON.stringify(value)}\n\n`;
}

/** Headers of an event stream. */
export const eventStreamHeaders: Readonly<Record<string, string>> = {
  "content-type": "text/event-stream; charset=utf-8",
  "cache-control": "no-cache, no-transform",
  "x-accel-buffering": "no",
};

/** What {@link eventStream} sends and whom it tells. */
export interface EventSource {
  /** Whole events. Never throws: failures are events too. */
  readonly frames: AsyncGenerator<string, void, void>;
  /** Since when the client has heard nothing, on `clock.monotonicMs()`. */
  readonly quietSinceMs: number;
  /** The reader left or stalled; `frames` must end soon. */
  stop(reason: CancelReason): void;
  /** Called once, when nothing will be taken from `frames` any more. */
  closed(): Promise<void>;
}

/**
 * A response body that pulls `frames`, says `: keep-alive` while they are silent, and gives up on
 * readers that stand still.
 */
export function eventStream(
  source: EventSource,
  clock: Clock,
  limits: Pick<Limits, "keepAliveFirstMs" | "keepAliveMs" | "readerStallMs">,
): ReadableStream<Uint8Array<ArrayBuffer>> {
  const encoder = new TextEncoder();
  let lastMs = source.quietSinceMs;
  let comments = 0;
  let isWaiting = false; // the reader wants an event and there is none yet
  let isOver = false;
  let cancelTimer = () => {};

  function end(): Promise<void> {
    if (isOver) return Promise.resolve();
    isOver = true;
    cancelTimer();
    return source.closed();
  }

  return new ReadableStream<Uint8Array<ArrayBuffer>>({
    start(controller) {
      function tick(): void {
        const now = clock.monotonicMs();
        if (isWaiting && now >= lastMs + silence()) {
          controller.enqueue(keepAlive);
          comments++;
          lastMs = now;
        } else if (!isWaiting && now >= lastMs + limits.readerStallMs) {
          source.stop("stalled_reader");
          controller.error(new Error("The reader stalled"));
          void end();
          return;
        }
        // An event in between starts a new silence, so the timer never sleeps longer than the first.
        const dueMs = isWaiting ? lastMs + silence() - now : Infinity;
        cancelTimer = clock.after(Math.max(1, Math.min(dueMs, limits.keepAliveFirstMs)), tick);
      }
      const silence = () => comments === 0 ? limits.keepAliveFirstMs : limits.keepAliveMs;
      const firstMs = lastMs + limits.keepAliveFirstMs - clock.monotonicMs();
      cancelTimer = clock.after(Math.max(0, firstMs), tick);
    },
    async pull(controller) {
      isWaiting = true;
      const { done, value } = await source.frames.next();
      isWaiting = false;
      if (isOver) return;
      if (done) {
        await end();
        controller.close();
        return;
      }
      lastMs = clock.monotonicMs();
      comments = 0;
      controller.enqueue(encoder.encode(value));
    },
    async cancel() {
      if (!isOver) source.stop("client");
      await end();
    },
  }, new CountQueuingStrategy({ highWaterMark: bufferedEvents }));
}

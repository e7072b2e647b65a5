/** Reads an event stream's body: ahead of its consumer, within time limits, giving up cleanly. */
import { UpstreamError } from "../errors.ts";
import { failure, reasonOf } from "./failure.ts";
import type { CallContext, CallStream } from "./http.ts";
import type { watchSilence } from "./silence.ts";
import { createSseParser } from "./sse.ts";

/** Bytes per read. */
const BUFFER = 16 * 1024;

/** Reads a body. What it gives is good until the next read. */
function openReader(body: ReadableStream<Uint8Array>) {
  const bytewise = openByteReader(body);
  if (!bytewise) {
    const plain = body.getReader();
    return { read: async () => (await plain.read()).value, cancel: () => plain.cancel() };
  }
  // One buffer over and over: otherwise every read, be it of one token, costs a fresh one of 64 KiB.
  let buffer = new ArrayBuffer(BUFFER);
  return {
    async read(): Promise<Uint8Array | undefined> {
      const { value, done } = await bytewise.read(new Uint8Array(buffer));
      if (value) buffer = value.buffer;
      return done ? undefined : value;
    },
    cancel: () => bytewise.cancel(),
  };
}

/** Undefined for streams that do not fill the reader's own buffers. */
function openByteReader(
  body: ReadableStream<Uint8Array>,
): ReadableStreamBYOBReader | undefined {
  try {
    return body.getReader({ mode: "byob" });
  } catch (error) {
    if (error instanceof TypeError) return undefined;
    throw error;
  }
}

/** Reads in a row that follow each other closely before they wait for company: not the few of a short answer. */
const RUSH = 8;

/** Events that are company enough. */
const PLENTY = 32;

/** Events read ahead of the consumer. */
const AHEAD = 256;
/** A body as events. `close` ends the call it belongs to. */
export function readEvents(
  { id, host, timeouts }: CallContext,
  body: ReadableStream<Uint8Array>,
  { control, silence, close }: {
    readonly control: AbortController;
    readonly silence: ReturnType<typeof watchSilence>;
    readonly close: () => void;
  },
): CallStream {
  const reader = openReader(body);
  const parser = createSseParser();
  const { signal } = control;
  let idleMs = timeouts.idleMs;
  let events: string[] = [];
  let isOver = false;
  let failed: { readonly error: unknown } | undefined;
  let isPumping = false;
  let givenMs = -Infinity;
  let rush = 0;
  let wake = () => {};

  function fail(error: unknown): void {
    failed ??= { error: timeoutOf(reasonOf(error, signal, id, "truncated"), id, idleMs) };
    wake();
  }

  /** Reads until there is enough ahead, or nothing more to read. */
  async function pump(): Promise<void> {
    isPumping = true;
    silence.waiting();
    try {
      while (!isOver && !failed && events.length < AHEAD) {
        const bytes = await reader.read();
        if (!bytes) {
          isOver = true;
        } else {
          const { lines } = parser;
          const more = parser.push(bytes);
          for (const event of more) events.push(event);
          // A comment says that somebody works; single bytes that never make a line do not.
          if (parser.lines > lines) silence.waiting();
          if (parser.error) fail(parser.error);
        }
        wake();
      }
    } catch (error) {
      fail(error);
    }
    silence.heard();
    isPumping = false;
  }

  /** Where events rush in, lets some more come, so that they share what it costs to pass them on. */
  async function gather(): Promise<void> {
    const { gatherMs } = host;
    if (gatherMs === undefined || isOver || failed) return;
    const isClose = events.length > 0 || host.now() - givenMs < gatherMs;
    rush = isClose ? rush + 1 : 0;
    if (rush < RUSH || events.length >= PLENTY) return;
    if (!isPumping) void pump();
    await new Promise<void>((resolve) => host.after(gatherMs, resolve));
  }

  signal.addEventListener("abort", () => fail(signal.reason), { once: true });
  return {
    async read(mayWait) {
      if (mayWait) await gather();
      for (;;) {
        if (events.length > 0) {
          givenMs = host.now();
          const taken = events;
          events = [];
          if (!isPumping) void pump();
          return taken;
        }
        if (failed) throw failed.error;
        if (isOver) return undefined;
        if (!isPumping) void pump();
        await new Promise<void>((resolve) => wake = resolve);
      }
    },
    hurry(ms) {
      idleMs = ms;
      silence.limit(ms);
    },
    close() {
      close();
      reader.cancel().catch(() => {});
    },
  };
}

/** The one timer serves both limits; here it is known which one was exceeded. */
function timeoutOf(reason: unknown, id: string, idleMs: number): unknown {
  if (!(reason instanceof UpstreamError) || reason.kind !== "timeout") return reason;
  return failure(id, "timeout", `nothing new for ${idleMs} ms`);
}

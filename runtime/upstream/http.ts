/** One HTTP call to one replica: time limits, sizes, statuses. Nothing is retried here. */
import { UpstreamError } from "../errors.ts";
import { failure, kindOfStatus, retryAfterOf } from "./failure.ts";
import { createSseParser, SseError } from "./sse.ts";
import type { Replica, UpstreamHost, UpstreamTimeouts } from "./types.ts";
import { parseObject, reported } from "./wire.ts";

/** Longest answer that is not a stream, in bytes. */
const MAX_JSON = 64 * 1024;

/** What a call needs to know of its upstream. */
export interface CallContext {
  /** Logical name, for messages. */
  readonly id: string;
  readonly host: UpstreamHost;
  readonly timeouts: UpstreamTimeouts;
}

/** A request to a replica. */
export interface HttpCall {
  readonly replica: Replica;
  /** Below the base address, e.g. "/chat/completions". */
  readonly path: string;
  readonly body: unknown;
  readonly signal: AbortSignal;
  /** Tells whether the replica answers at all; asked when it takes long to. */
  readonly isAlive: () => Promise<boolean>;
}

/** An answer that streams. */
export interface CallStream {
  /**
   * Data of the next events, undefined at the end.
   *
   * @param mayWait whether events that rush in may wait a little for each other
   * @throws {UpstreamError} or the signal's reason
   */
  read(mayWait: boolean): Promise<readonly string[] | undefined>;
  /** From now on wait only so long for each read. */
  hurry(idleMs: number): void;
  /** Ends the call, whatever it is doing. */
  close(): void;
}

/** Headers of every request to a replica. */
export function headersFor({ key }: Replica, json: boolean): Record<string, string> {
  return {
    accept: json ? "application/json" : "text/event-stream, application/json",
    "accept-encoding": "identity",
    "content-type": "application/json",
    ...key === undefined ? {} : { authorization: `Bearer ${key}` },
  };
}

/**
 * Sends a request and waits for the head of its answer.
 *
 * @throws {UpstreamError} for everything but an event stream
 */
export async function openCall(context: CallContext, call: HttpCall): Promise<CallStream> {
  const { id, host, timeouts } = context;
  const { replica, path, body, signal } = call;
  signal.throwIfAborted();
  const control = new AbortController();
  const cancel = () => control.abort(signal.reason);
  signal.addEventListener("abort", cancel, { once: true });
  const silence = watchSilence(
    host,
    timeouts.firstByteMs,
    () => control.abort(failure(id, "timeout", `no answer within ${timeouts.firstByteMs} ms`)),
  );
  const stopWatch = watchConnection(context, call, control);
  const close = () => {
    stopWatch();
    silence.stop();
    signal.removeEventListener("abort", cancel);
    control.abort(closed);
  };
  try {
    const response = await abortable(
      host.fetch(replica.url + path, {
        method: "POST",
        headers: headersFor(replica, false),
        body: JSON.stringify(body),
        redirect: "manual",
        signal: control.signal,
      }),
      control.signal,
    );
    stopWatch();
    silence.heard();
    const stream = await requireStream(context, response, control.signal);
    silence.limit(timeouts.idleMs);
    return reading(context, stream, { control, silence, close });
  } catch (error) {
    const reason = reasonOf(error, control.signal, id, "unreachable");
    close();
    throw reason;
  }
}

const closed = new DOMException("The call was closed", "AbortError");

/** Rejects at once when the signal fires, whether or not the promise listens to it. */
function abortable<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const abort = () => reject(signal.reason);
    if (signal.aborted) abort();
    else signal.addEventListener("abort", abort, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener("abort", abort));
  });
}

function reasonOf(
  error: unknown,
  signal: AbortSignal,
  id: string,
  otherwise: "unreachable" | "truncated",
): unknown {
  if (signal.aborted && signal.reason !== closed) return signal.reason;
  if (error instanceof UpstreamError) return error;
  if (error instanceof SseError) return failure(id, "invalid", error.message, { cause: error });
  const message = otherwise === "truncated" ? "the answer broke off" : "no connection";
  return failure(id, otherwise, message, { cause: error });
}

/** Notices when nothing was heard for too long; one timer, however often something is. */
function watchSilence(host: UpstreamHost, limitMs: number, tooLong: () => void) {
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

/**
 * `fetch` does not tell a connection that is being made from an answer that is being computed. So when
 * an answer takes longer than a connection may, the replica is asked for something easy; if that is
 * not answered either, nobody is there.
 */
function watchConnection(
  { id, host, timeouts }: CallContext,
  { isAlive }: HttpCall,
  control: AbortController,
): () => void {
  let isOver = false;
  const cancel = host.after(timeouts.connectMs, async () => {
    const alive = await isAlive().catch(() => false);
    if (alive || isOver) return;
    control.abort(failure(id, "unreachable", `no connection within ${timeouts.connectMs} ms`));
  });
  return () => {
    isOver = true;
    cancel();
  };
}

/** The body of an event stream. @throws {UpstreamError} for any other answer */
async function requireStream(
  { id, host }: CallContext,
  response: Response,
  signal: AbortSignal,
): Promise<ReadableStream<Uint8Array>> {
  const { status, headers, body } = response;
  const type = headers.get("content-type") ?? "";
  if (status === 200 && body && /^text\/event-stream\b/i.test(type)) return body;
  const text = await readBounded(body, signal);
  const object = text === undefined ? undefined : parseObject(text);
  const details = errorIn(object);
  if (status === 200) {
    if (!details) {
      throw failure(id, "invalid", "the answer is not an event stream", { status });
    }
    const kind = details.status === undefined ? "failed" : kindOfStatus(details.status);
    throw failure(id, kind, "it reported an error", details);
  }
  throw failure(id, kindOfStatus(status), `status ${status}`, {
    status,
    retryAfterMs: retryAfterOf(headers, host.wallMs()),
    code: details?.code,
  });
}

/** All makes of error bodies: an `error` object or text, an error at the top, FastAPI's `detail`. */
function errorIn(object: Readonly<Record<string, unknown>> | undefined) {
  if (!object) return undefined;
  if (object.object === "error" || object.detail !== undefined) return reported({ error: object });
  return object.error === undefined || object.error === null ? undefined : reported(object);
}

/** Text of a short body; undefined if it is too long or breaks off. Never waits for the rest. */
export async function readBounded(
  body: ReadableStream<Uint8Array> | null,
  signal: AbortSignal,
): Promise<string | undefined> {
  if (!body) return "";
  const reader = body.getReader();
  const decoder = new TextDecoder();
  let text = "";
  let size = 0;
  try {
    for (;;) {
      const { done, value } = await abortable(reader.read(), signal);
      if (done) return text + decoder.decode();
      size += value.length;
      if (size > MAX_JSON) return undefined;
      text += decoder.decode(value, { stream: true });
    }
  } catch {
    signal.throwIfAborted();
    return undefined;
  } finally {
    reader.cancel().catch(() => {});
  }
}

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

/** Events read ahead of the consumer. */
const AHEAD = 256;
function reading(
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
    if (gatherMs === undefined || host.now() - givenMs >= gatherMs || isOver || failed) return;
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

/** One HTTP call to one replica: time limits, sizes, statuses. Nothing is retried here. */
import { closed, failure, kindOfStatus, reasonOf, retryAfterOf } from "./failure.ts";
import { watchSilence } from "./silence.ts";
import { readEvents } from "./event_reader.ts";
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
    return readEvents(context, stream, { control, silence, close });
  } catch (error) {
    const reason = reasonOf(error, control.signal, id, "unreachable");
    close();
    throw reason;
  }
}

/** Rejects at once when the signal fires, whether or not the promise listens to it. */
function abortable<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const abort = () => reject(signal.reason);
    if (signal.aborted) abort();
    else signal.addEventListener("abort", abort, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener("abort", abort));
  });
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

/**
 * Requests to the hub: redirects by hand so that the token stays with the hub, an idle limit, and
 * retries.
 */
import { HubError, statusError, type Subject } from "./errors.ts";

/** Time, given from outside so that tests need none. */
export interface HubClock {
  /** Milliseconds from a monotonic clock. */
  now(): number;
  /** Settles after `ms`, or rejects as soon as `signal` fires. */
  wait(ms: number, signal: AbortSignal): Promise<void>;
}

/** How to talk to the hub; complete, defaults are filled in by `fetchHubModel`. */
export interface HubHttp {
  /** Base address without a slash at the end. */
  readonly endpoint: string;
  readonly token: string | undefined;
  readonly fetch: typeof fetch;
  readonly clock: HubClock;
  readonly signal: AbortSignal;
  readonly retries: number;
  readonly idleTimeoutMs: number;
}

export interface HubRequest {
  readonly method: "GET" | "HEAD";
  readonly url: URL;
  readonly headers?: Readonly<Record<string, string>>;
  readonly subject: Subject;
  readonly signal: AbortSignal;
  /** Give back a redirect to another origin instead of following it. @default false */
  readonly stopAtOtherOrigin?: boolean;
}

const MAX_REDIRECTS = 5;
const redirects: ReadonlySet<number> = new Set([301, 302, 303, 307, 308]);

/**
 * Sends one request. The token goes to the endpoint's own origin and to no other, whatever
 * redirects say; a redirect may not lead from https to http.
 *
 * @throws {HubError} if the connection fails (retryable) or a redirect is refused
 * @throws {Deno.errors.NotCapable} if this process may not connect there
 */
export async function send(http: HubHttp, request: HubRequest): Promise<Response> {
  let url = request.url;
  for (let hop = 0; hop <= MAX_REDIRECTS; hop++) {
    const response = await fetchOnce(http, request, url);
    if (!redirects.has(response.status)) return response;
    const next = redirectTarget(response, url, request.subject);
    if (request.stopAtOtherOrigin && next.origin !== url.origin) return response;
    await response.body?.cancel();
    url = next;
  }
  const message = `more than ${MAX_REDIRECTS} redirects`;
  throw new HubError("response", message, request.subject);
}

async function fetchOnce(http: HubHttp, request: HubRequest, url: URL): Promise<Response> {
  // identity: compressed lengths and ranges would not be those of the file.
  const headers = new Headers({ ...request.headers, "accept-encoding": "identity" });
  if (http.token !== undefined && url.origin === new URL(http.endpoint).origin) {
    headers.set("authorization", `Bearer ${http.token}`);
  }
  const { method, signal, subject } = request;
  try {
    return await http.fetch(url, { method, headers, signal, redirect: "manual" });
  } catch (cause) {
    signal.throwIfAborted();
    if (cause instanceof Deno.errors.NotCapable) throw cause; // no retry mends a permission
    throw new HubError("network", "the connection failed", { ...subject, retryable: true, cause });
  }
}

function redirectTarget(response: Response, from: URL, subject: Subject): URL {
  const location = response.headers.get("location");
  const next = location === null ? null : URL.parse(location, from);
  const allowed = next && (next.protocol === "https:" ||
    (next.protocol === "http:" && from.protocol === "http:"));
  if (allowed) return next;
  throw new HubError("response", "it is redirected to an address that is not allowed", subject);
}

/**
 * Repeats `work` while it fails in a way that may pass, at most `http.retries` times, waiting one
 * second, two, four, up to 32 between, or what the server asked for.
 */
export async function withRetries<T>(http: HubHttp, work: () => Promise<T>): Promise<T> {
  for (let failures = 0;; failures++) {
    try {
      return await work();
    } catch (error) {
      http.signal.throwIfAborted();
      if (!(error instanceof HubError) || !error.retryable || failures >= http.retries) throw error;
      const waitMs = error.retryAfterMs ?? 1000 * 2 ** Math.min(failures, 5);
      try {
        await http.clock.wait(waitMs, http.signal);
      } finally {
        http.signal.throwIfAborted();
      }
    }
  }
}

/** Runs `work` and aborts it, retryably, when `touch` has not been called for the idle timeout. */
export async function withIdleLimit<T>(
  http: HubHttp,
  subject: Subject,
  work: (signal: AbortSignal, touch: () => void) => Promise<T>,
): Promise<T> {
  const { clock, idleTimeoutMs } = http;
  const stalled = new AbortController();
  const done = new AbortController();
  let last = clock.now();
  const watch = async () => {
    while (!done.signal.aborted) {
      const left = last + idleTimeoutMs - clock.now();
      if (left > 0) await clock.wait(left, done.signal);
      else return stalled.abort();
    }
  };
  const watching = watch().catch(() => {}); // rejects when done, as told
  try {
    return await work(AbortSignal.any([http.signal, stalled.signal]), () => last = clock.now());
  } catch (cause) {
    if (!stalled.signal.aborted || http.signal.aborted) throw cause;
    const message = `nothing came for ${idleTimeoutMs / 1000} seconds`;
    throw new HubError("network", message, { ...subject, retryable: true, cause });
  } finally {
    done.abort();
    await watching;
  }
}

/**
 * The text of a small GET answer.
 *
 * @throws {HubError} on a status other than 200, or a body of more than `maxBytes`
 */
export function getText(
  http: HubHttp,
  request: { readonly url: URL; readonly subject: Subject; readonly maxBytes: number },
): Promise<string> {
  const { url, subject, maxBytes } = request;
  const once = () =>
    withIdleLimit(http, subject, async (signal, touch) => {
      const response = await send(http, { method: "GET", url, subject, signal });
      if (response.status !== 200) {
        await response.body?.cancel();
        throw statusError(response, subject);
      }
      const chunks: Uint8Array<ArrayBuffer>[] = [];
      let bytes = 0;
      for await (const chunk of bodyOf(response, subject, signal)) {
        touch();
        bytes += chunk.length;
        if (bytes > maxBytes) throw new HubError("response", "the answer is too long", subject);
        chunks.push(chunk);
      }
      return await new Blob(chunks).text();
    });
  return withRetries(http, once);
}

/** The chunks of a body; a cut connection becomes a retryable error. */
export async function* bodyOf(
  response: Response,
  subject: Subject,
  signal: AbortSignal,
): AsyncGenerator<Uint8Array<ArrayBuffer>> {
  if (!response.body) return;
  try {
    yield* response.body;
  } catch (cause) {
    signal.throwIfAborted();
    throw new HubError("network", "the connection was cut", { ...subject, retryable: true, cause });
  }
}

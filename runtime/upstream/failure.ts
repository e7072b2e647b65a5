/** What goes wrong with upstreams, and what an attempt's failure means for the next one. */
import { UpstreamError, type UpstreamFailure } from "../errors.ts";
import { SseError } from "./sse.ts";

/** Facts about a failure besides its kind. */
export interface FailureDetails {
  readonly status?: number | undefined;
  /** What the upstream asked to wait, within bounds. */
  readonly retryAfterMs?: number | undefined;
  /** The upstream's own error code where it is one of ours. */
  readonly code?: string | undefined;
  readonly cause?: unknown;
}

/** An {@link UpstreamError}; the message names the upstream by its logical name only. */
export function failure(
  upstream: string,
  kind: UpstreamFailure,
  message: string,
  { status, retryAfterMs, code, cause }: FailureDetails = {},
): UpstreamError {
  return new UpstreamError(upstream, status, message, { kind, retryAfterMs, code, cause });
}

/** Whether another attempt may succeed where this one failed. */
export function isRetryable({ kind }: UpstreamError): boolean {
  return kind !== "rejected" && kind !== "refused" && kind !== "circuit_open";
}

/** Whether the failure says something about the replica rather than about the request. */
export function countsAgainstReplica({ kind }: UpstreamError): boolean {
  return kind !== "rejected" && kind !== "rate_limited" && kind !== "busy";
}

const RETRIED = new Set([408, 409, 425, 429]);

/** What an HTTP status means. */
export function kindOfStatus(status: number): UpstreamFailure {
  if (status === 429) return "rate_limited";
  if (status === 401 || status === 403) return "refused";
  if (status === 503 || status === 529) return "unavailable";
  if (status >= 500 || RETRIED.has(status)) return "failed";
  if (status === 404 || status === 405) return "refused"; // our configuration, not the request
  if (status >= 400) return "rejected";
  return "invalid"; // a redirect, or an answer without content
}

/**
 * Milliseconds a `Retry-After` header asks for: seconds or an HTTP date.
 *
 * @returns undefined if there is none that makes sense
 */
export function retryAfterOf(headers: Headers, wallMs: number): number | undefined {
  const exact = headers.get("retry-after-ms");
  if (exact !== null && /^\d{1,9}$/.test(exact)) return Number(exact);
  const text = headers.get("retry-after");
  if (text === null) return undefined;
  if (/^\d{1,6}(\.\d+)?$/.test(text)) return Number(text) * 1000;
  const date = Date.parse(text);
  return Number.isNaN(date) ? undefined : Math.max(0, date - wallMs);
}

/** Why a call is aborted that nobody needs any more. */
export const closed = new DOMException("The call was closed", "AbortError");

/** What a failure is: the signal's reason where it fired, else by what was being done. */
export function reasonOf(
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

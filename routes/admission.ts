/** A request's place at a model, its deadline, and everything that may end it early. */
import { clientClosed, deadlineExceeded } from "./errors.ts";
import { ApiError, invalidValue } from "./errors.ts";
import type { AppDeps, Clock } from "./deps.ts";
import type { Metrics } from "./metrics.ts";
import type { RequestState } from "./state.ts";

/** Why a request ended early; a label of `cancelled_total`. */
export type CancelReason = "client" | "deadline" | "stalled_reader" | "error";

/** A running request. */
export interface RequestWork {
  /** Fires when the work must stop; its reason is an {@link ApiError}. */
  readonly signal: AbortSignal;
  /** Stops the work. Later calls change nothing. */
  abort(reason: CancelReason, error: ApiError): void;
  /** From here on the response stream tells of a client that leaves, no longer its signal. */
  detachClient(): void;
  /** Gives the place back. May be called more than once. */
  close(): void;
}

/** What {@link openWork} needs of the gateway. */
export interface WorkServices {
  readonly deps: AppDeps;
  readonly metrics: Metrics;
}

/**
 * Takes a place at the request's model.
 *
 * @throws {ApiError} 429 `queue_full`, 503 while not ready, 499 if the client already left
 */
export function openWork(
  { deps, metrics }: WorkServices,
  state: RequestState,
  timeoutMs: number,
): RequestWork {
  if (!deps.isReady()) {
    throw new ApiError(503, "model_loading", "The gateway is not ready", {
      headers: { "retry-after": "1" },
    });
  }
  const labels = { model: state.model ?? "" };
  if (metrics.running.value(labels) >= deps.limits.requestsPerModel) {
    throw new ApiError(429, "queue_full", "Too many requests for this model; try again", {
      headers: { "retry-after": "1" },
    });
  }
  const client = state.clientSignal;
  if (client.aborted) throw clientClosed();
  const controller = new AbortController();
  function abort(reason: CancelReason, error: ApiError): void {
    if (controller.signal.aborted || closed) return;
    metrics.cancelled.add({ reason }, 1);
    controller.abort(error);
  }
  let closed = false;
  const leave = () => abort("client", clientClosed());
  client.addEventListener("abort", leave, { once: true });
  const detachClient = () => client.removeEventListener("abort", leave);
  const cancelDeadline = deadline(deps.clock, timeoutMs, abort);
  metrics.running.add(labels, 1);
  return {
    signal: controller.signal,
    abort,
    detachClient,
    close() {
      if (closed) return;
      closed = true;
      detachClient();
      cancelDeadline();
      metrics.running.add(labels, -1);
    },
  };
}

function deadline(clock: Clock, ms: number, abort: RequestWork["abort"]): () => void {
  return clock.after(ms, () => abort("deadline", deadlineExceeded(ms)));
}

/**
 * How long the request may take: `X-Request-Timeout-Ms`, at most `limitMs`.
 *
 * @throws {ApiError} 400 if the header is not a positive whole number
 */
export function requestTimeout(headers: Headers, limitMs: number): number {
  const header = "X-Request-Timeout-Ms";
  const text = headers.get(header);
  if (text === null) return limitMs;
  if (!/^[1-9]\d{0,9}$/.test(text)) {
    throw invalidValue(header, `The header ${header} must be a positive whole number`);
  }
  return Math.min(Number(text), limitMs);
}

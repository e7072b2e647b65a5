/** A request's place at a model, its deadline, and everything that may end it early. */
import { clientClosed, deadlineExceeded, shuttingDown } from "./errors.ts";
import { ApiError, invalidValue } from "./errors.ts";
import type { AppDeps, Clock } from "./deps.ts";
import type { Ticket } from "./queue.ts";
import type { Services } from "./services.ts";
import type { RequestState } from "./state.ts";

/** Why a request ended early; a label of `cancelled_total`. */
export type CancelReason = "client" | "deadline" | "stalled_reader" | "shutdown" | "error";

/** A request that runs or waits to run. */
export interface RequestWork {
  /**
   * Resolves when the request may work, and rejects if it ends before; undefined if it may at once.
   * Nothing is computed for it until then.
   */
  readonly admitted: Promise<void> | undefined;
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
export type WorkServices = Pick<Services, "deps" | "metrics" | "queue" | "leases">;

/**
 * Takes a place at the request's model, or one in the line for it.
 *
 * @throws {ApiError} 429 `queue_full` or `concurrency_exceeded`, 503 while not ready, 499 if the
 *   client already left
 */
export function openWork(
  services: WorkServices,
  state: RequestState,
  timeoutMs: number,
): RequestWork {
  const { deps, metrics, queue, leases } = services;
  requireReady(deps);
  const client = state.clientSignal;
  if (client.aborted) throw clientClosed();
  leases.sweep();
  const place = queue.enter(ticketOf(deps, state));
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
  const stop = () => abort("shutdown", shuttingDown());
  deps.endSignal?.addEventListener("abort", stop, { once: true });
  const cancelDeadline = deadline(deps.clock, timeoutMs, abort);
  const endLease = leases.open(() => {
    closed = true; // whoever worked here is gone, timers and all
    place.leave();
  });
  return {
    admitted: place.ready && admission(place.ready, controller.signal),
    signal: controller.signal,
    abort,
    detachClient,
    close() {
      if (closed) return;
      closed = true;
      detachClient();
      deps.endSignal?.removeEventListener("abort", stop);
      cancelDeadline();
      endLease();
      place.leave();
    },
  };
}

/** @throws {ApiError} 503 while models load, and while the gateway shuts down */
export function requireReady(deps: AppDeps): void {
  if (deps.isReady()) return;
  throw deps.isDraining?.() ?? false
    ? shuttingDown()
    : new ApiError(503, "model_loading", "The gateway is not ready", {
      headers: { "retry-after": "1" },
    });
}

function ticketOf({ limits }: AppDeps, { model = "", caller }: RequestState): Ticket {
  return {
    model,
    key: caller.keyDigest,
    modelRoom: { running: limits.requestsPerModel, queued: limits.queuedPerModel },
    keyRoom: caller.keyDigest === "" ? undefined : caller.grant?.room ?? limits.perKey,
  };
}

/** The wait for a place; ends with the request. */
function admission(ready: Promise<void>, signal: AbortSignal): Promise<void> {
  const admitted = new Promise<void>((resolve, reject) => {
    const leave = () => reject(signal.reason);
    signal.addEventListener("abort", leave, { once: true });
    void ready.then(() => {
      signal.removeEventListener("abort", leave);
      resolve();
    });
  });
  admitted.catch(() => {}); // a request that ends before anybody waited
  return admitted;
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

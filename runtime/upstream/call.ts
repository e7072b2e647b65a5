/**
 * A generation at an upstream: attempts, fallback, and the stream they end in. Another attempt is made
 * only while no text was passed on; opening events are held back until there is some.
 */
import type { CallCounts } from "../model.ts";
import { UpstreamError } from "../errors.ts";
import { failure, isRetryable, kindOfStatus } from "./failure.ts";
import { hedged } from "./hedge.ts";
import { type CallStream, openCall } from "./http.ts";
import type { CallOutcome, Lease, Pool } from "./pool.ts";
import type { Replica, UpstreamHost, UpstreamKind, UpstreamSpec } from "./types.ts";
import { readEvent, ReportedError, WireError, type WireEvent } from "./wire.ts";

/** Events held back before the first text, and their characters. */
const HELD_EVENTS = 64;
const HELD_CHARACTERS = 256 * 1024;
/** How long to wait for usage and the end marker when all choices are finished. */
const LAST_WORDS_MS = 1000;
/** Retries that may be saved up. */
const BUDGET_CAP = 10;

/** One generation. */
export interface Generation {
  readonly kind: UpstreamKind;
  readonly choices: number;
  /** The request's body for a replica. */
  body(replica: Replica): unknown;
  readonly signal: AbortSignal;
  readonly affinity: string | undefined;
  /** Counted up per attempt. */
  readonly counts: CallCounts | undefined;
}

/** Events of a generation that has begun to speak. */
export interface EventStream {
  /** Undefined at the end. @throws {UpstreamError} or the signal's reason */
  next(): Promise<WireEvent | undefined>;
  /** The next event if it has arrived already. @throws {UpstreamError} */
  take(): WireEvent | undefined;
  close(): void;
}

/** What all generations of an upstream share. */
export interface Caller {
  readonly spec: UpstreamSpec;
  readonly host: UpstreamHost;
  readonly pool: Pool;
  /** Whether a replica answers something easy. */
  readonly isAlive: (index: number) => Promise<boolean>;
  /** Retries that may still be made; mutable, refilled per request. */
  readonly budget: { left: number };
}

/**
 * Opens a generation at the first replica that speaks.
 *
 * @throws {UpstreamError} the last attempt's failure; or the signal's reason
 */
export async function openGeneration(caller: Caller, call: Generation): Promise<EventStream> {
  const { spec, pool, budget } = caller;
  budget.left = Math.min(BUDGET_CAP, budget.left + spec.retries.budget);
  const tried = new Set<number>();
  for (let attempt = 1;; attempt++) {
    const lease = await pool.acquire({ signal: call.signal, affinity: call.affinity, tried });
    count(caller, call, lease, attempt);
    try {
      return await beginHedged(caller, call, lease, tried);
    } catch (error) {
      tried.add(lease.index);
      if (!(error instanceof UpstreamError) || !isRetryable(error)) throw error;
      if (attempt >= spec.retries.attempts || budget.left < 1) throw error;
      budget.left--;
      await pause(caller, call, tried, { attempt, error });
    }
  }
}

function count({ spec }: Caller, { counts }: Generation, lease: Lease, attempt: number): void {
  if (!counts) return;
  counts.attempts++;
  const first = Math.min(...spec.replicas.map(({ priority }) => priority));
  if (attempt > 1 && lease.replica.priority > first) counts.fallbacks++;
}

/** Nothing to wait for where another replica is ready; else backs off, or gives up if that takes long. */
async function pause(
  { spec: { retries }, host, pool }: Caller,
  { signal }: Generation,
  tried: ReadonlySet<number>,
  { attempt, error }: { readonly attempt: number; readonly error: UpstreamError },
): Promise<void> {
  if (pool.hasOther(tried)) return;
  const most = Math.min(retries.maxMs, retries.baseMs * 2 ** (attempt - 1));
  const ms = Math.max(error.retryAfterMs ?? 0, host.random() * most);
  if (ms > retries.maxMs) throw error;
  await wait(host, ms, signal);
}

/** @throws the signal's reason */
export function wait(host: UpstreamHost, ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    signal.throwIfAborted();
    const cancel = host.after(ms, () => {
      signal.removeEventListener("abort", leave);
      resolve();
    });
    const leave = () => {
      cancel();
      reject(signal.reason);
    };
    signal.addEventListener("abort", leave, { once: true });
  });
}

/** An attempt, and where it is slow and hedging is on, a second one elsewhere. */
function beginHedged(
  caller: Caller,
  call: Generation,
  lease: Lease,
  tried: Set<number>,
): Promise<EventStream> {
  const { spec: { hedgeMs }, host, pool } = caller;
  if (hedgeMs === undefined) return begin(caller, call, lease);
  const others = () => new Set([...tried, lease.index]);
  return hedged<EventStream>({
    signal: call.signal,
    after: (run) => host.after(hedgeMs, run),
    canSecond: () => pool.hasOther(others()),
    drop: (stream) => stream.close(),
    async begin(signal, isSecond) {
      const own = { ...call, signal };
      if (!isSecond) return await begin(caller, own, lease);
      const second = await pool.acquire({ signal, affinity: undefined, tried: others() });
      count(caller, call, second, 2);
      return await begin(caller, own, second);
    },
  });
}

/** One attempt, up to its first text. Gives the lease back if there is none. */
async function begin(caller: Caller, call: Generation, lease: Lease): Promise<EventStream> {
  const { spec, host } = caller;
  let stream: CallStream | undefined;
  try {
    stream = await openCall({ id: spec.id, host, timeouts: spec.timeouts }, {
      replica: lease.replica,
      path: call.kind === "chat" ? "/chat/completions" : "/completions",
      body: call.body(lease.replica),
      signal: call.signal,
      isAlive: () => caller.isAlive(lease.index),
    });
    const events = eventsOf(spec.id, stream, call, (outcome) => lease.release(outcome));
    await events.hold();
    return events;
  } catch (error) {
    stream?.close();
    lease.release(error instanceof UpstreamError ? error : "abandoned");
    throw error;
  }
}

function eventsOf(
  id: string,
  stream: CallStream,
  { kind, choices }: Generation,
  release: (outcome: CallOutcome) => void,
) {
  const held: WireEvent[] = [];
  let data: readonly string[] = [];
  let at = 0;
  let isOver = false;
  let isHolding = true;
  const finished = new Set<number>();

  function close(outcome: CallOutcome): void {
    isOver = true;
    stream.close();
    release(outcome);
  }

  /** The next event from the wire; undefined at its end. */
  async function read(): Promise<WireEvent | undefined> {
    if (isOver) return undefined;
    try {
      while (at >= data.length) {
        const more = await stream.read(!isHolding);
        if (!more) return end("the answer broke off");
        data = more;
        at = 0;
      }
      return parseNext();
    } catch (error) {
      return failed(error);
    }
  }

  function take(): WireEvent | undefined {
    if (held.length > 0) return held.shift();
    if (isOver || at >= data.length) return undefined;
    try {
      return parseNext();
    } catch (error) {
      return failed(error);
    }
  }

  function parseNext(): WireEvent | undefined {
    const text = data[at++]!;
    if (text === "[DONE]") return end("it said to be done before it was");
    return follow(readEvent(text, kind, choices));
  }

  /** What happens after all choices are finished changes nothing. */
  function failed(error: unknown): undefined {
    if (finished.size === choices && error instanceof UpstreamError) return end("");
    const reason = asFailure(error, id);
    close(reason instanceof UpstreamError ? reason : "abandoned");
    throw reason;
  }

  function end(message: string): undefined {
    if (finished.size < choices) throw failure(id, "truncated", message);
    close("done");
    return undefined;
  }

  /** Keeps account of finished choices. */
  function follow(event: WireEvent): WireEvent {
    for (const { index, text, finish } of event.pieces) {
      if (finished.has(index) && text !== "") throw new WireError("a finished choice goes on");
      if (finish) finished.add(index);
    }
    if (event.pieces.length > 0 && finished.size === choices) stream.hurry(LAST_WORDS_MS);
    return event;
  }

  return {
    /** Reads until there is something to pass on. */
    async hold(): Promise<void> {
      for (let characters = 0; held.length < HELD_EVENTS && characters < HELD_CHARACTERS;) {
        const event = await read();
        if (!event) return;
        held.push(event);
        characters += event.pieces.reduce((sum, { text }) => sum + text.length, 1);
        if (event.pieces.some(says)) return;
      }
    },
    async next(): Promise<WireEvent | undefined> {
      isHolding = false;
      return held.shift() ?? await read();
    },
    take,
    close: () => {
      if (!isOver) close(finished.size === choices ? "done" : "abandoned");
    },
  };
}

function says({ text, reasoning, finish }: WireEvent["pieces"][number]): boolean {
  return text !== "" || reasoning !== undefined || finish !== undefined;
}

function asFailure(error: unknown, id: string): unknown {
  if (error instanceof WireError) return failure(id, "invalid", error.message);
  if (error instanceof ReportedError) {
    const { status, code } = error;
    const kind = status === undefined ? "failed" : kindOfStatus(status);
    return failure(id, kind, error.message, { status, code });
  }
  return error;
}

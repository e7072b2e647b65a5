/** Runs a checked generation and answers with its text, whole or as a stream. */
import type { RunEvent } from "../strategies/mod.ts";
import { openWork, requestTimeout, type RequestWork } from "./admission.ts";
import { reserveTokens } from "./budgets.ts";
import { type Choice, collect } from "./collect.ts";
import type { Clock } from "./deps.ts";
import { ApiError, clientClosed, toApiError } from "./errors.ts";
import { endReason, type Generation, type Results, startRuns } from "./generation.ts";
import { logFailure } from "./log.ts";
import type { Run } from "./merge_runs.ts";
import { observe, type Observer } from "./observer.ts";
import type { Delivery } from "./resolve.ts";
import type { AppContext, Services } from "./services.ts";
import { eventStream, eventStreamHeaders } from "./sse.ts";
import type { RequestState } from "./state.ts";
import { type ChunkFormat, chunkFrames, type StreamExtras } from "./streaming.ts";
import { decodingOf, usageOf } from "./usage.ts";

/** How a route writes its answer. */
export interface AnswerFormat {
  /** Work that must be done before the first text, under the request's signal. */
  prepare?(work: RequestWork): Promise<void>;
  whole(choices: readonly Choice[]): Readonly<Record<string, unknown>>;
  readonly chunks: ChunkFormat;
}

/** A request that is being answered. */
interface Answering {
  readonly services: Services;
  readonly state: RequestState;
  readonly generation: Generation;
  readonly work: RequestWork;
  readonly run: Run<Results>;
  readonly observer: Observer;
}

/**
 * The response to a generation.
 *
 * @throws {ApiError} for everything that goes wrong before the first byte is sent
 */
export async function answer(
  c: AppContext,
  services: Services,
  generation: Generation,
  delivery: Delivery,
  format: AnswerFormat,
): Promise<Response> {
  const state = c.get("state");
  const { deps } = services;
  const timeout = requestTimeout(c.req.raw.headers, deps.limits.requestMs);
  const reservation = await reserveTokens(services, state, generation);
  let work: RequestWork;
  try {
    work = openWork(services, state, timeout);
  } catch (error) {
    await reservation.settle(0);
    throw error;
  }
  const stream = delivery.stream;
  const observer = observe({ services, state, generation, reservation, stream });
  let run: Run<Results> | undefined;
  try {
    const started = start(services, state, { ...generation, onStep: observer.onStep }, work);
    run = observer.watch(started, work.admitted);
    if (format.prepare) {
      await work.admitted;
      await format.prepare(work);
    }
    const answering = { services, state, generation, work, run, observer };
    if (stream) return await streamed(answering, delivery, format);
    return await whole(answering, format);
  } catch (error) {
    const reason = endReason(error, work);
    await end(run, work);
    await observer.close(reason);
    throw reason;
  }
}

function start(
  { deps }: Services,
  state: RequestState,
  generation: Generation,
  work: RequestWork,
): Run<Results> {
  try {
    return startRuns(generation, deps, state, work);
  } catch (error) {
    throw toApiError(error, { requestId: state.id, checking: true });
  }
}

/** Closes a run, whether it started, failed or finished, and gives its place back. */
async function end(run: Run<Results> | undefined, work: RequestWork): Promise<void> {
  try {
    await run?.return(undefined as never); // the result of an ended run is not read
  } catch {
    // It already failed, with the error that is being reported.
  } finally {
    work.close();
  }
}

async function whole(answering: Answering, format: AnswerFormat): Promise<Response> {
  const { generation, run, work, observer } = answering;
  const { choices, results } = await collect(run);
  work.close();
  await observer.close();
  const decoding = decodingOf(generation.selection, results);
  return Response.json({
    ...format.whole(choices),
    usage: usageOf(results, generation.selection),
    ...decoding ? { decoding } : {},
  });
}

async function streamed(
  answering: Answering,
  delivery: Delivery,
  format: AnswerFormat,
): Promise<Response> {
  const { services: { deps: { clock, limits } }, work, run, observer } = answering;
  const quietSinceMs = clock.monotonicMs();
  const first = run.next();
  await settledWithin(first, limits.keepAliveFirstMs, clock);
  work.detachClient();
  const frames = chunkFrames(run, first, format.chunks, streamExtras(answering, delivery));
  const body = eventStream(
    {
      frames,
      quietSinceMs,
      stop: (reason) =>
        work.abort(
          reason,
          reason === "client"
            ? clientClosed()
            : new ApiError(408, "request_timeout", "The stream was not read"),
        ),
      async closed() {
        await end(run, work);
        await observer.close(work.signal.aborted ? work.signal.reason : undefined);
        logEnd(answering);
      },
    },
    clock,
    limits,
  );
  return new Response(body, { headers: eventStreamHeaders });
}

/**
 * Waits for the first event, but no longer than `ms`: what fails before it can still be answered
 * with its own status, and a slow start does not keep the client without headers.
 *
 * @throws whatever the event rejects with in that time
 */
async function settledWithin(
  first: Promise<IteratorResult<RunEvent, Results>>,
  ms: number,
  clock: Clock,
): Promise<void> {
  const patience = Promise.withResolvers<void>();
  const cancel = clock.after(ms, patience.resolve);
  try {
    await Promise.race([first, patience.promise]);
  } finally {
    cancel();
  }
}

function streamExtras(answering: Answering, delivery: Delivery): StreamExtras {
  const { generation: { selection }, services: { deps }, state, work } = answering;
  return {
    usage: delivery.includeUsage ? (results) => usageOf(results, selection) : undefined,
    decoding: selection.trace === "none" ? undefined : (results) => decodingOf(selection, results),
    obfuscate: delivery.obfuscate,
    failed(error) {
      const context = { requestId: state.id, checking: false };
      const reason = endReason(error, work);
      const apiError = toApiError(reason, context);
      logFailure(deps, state, apiError);
      work.abort("error", apiError);
      return apiError.body();
    },
  };
}

function logEnd({ services: { deps }, state, work }: Answering): void {
  const reason: unknown = work.signal.reason;
  deps.log({
    level: "info",
    event: "stream_end",
    requestId: state.id,
    outcome: reason instanceof ApiError ? reason.code : "done",
    ms: Math.round(deps.clock.monotonicMs() - state.startedMs),
  });
}

/** Watches one generation from admission to its last byte: metrics, spans, the key's budget. */
import { ConstraintError, DeviceLostError, UpstreamError } from "../runtime/mod.ts";
import type { RunEvent } from "../strategies/mod.ts";
import type { Reservation } from "./budgets.ts";
import { tokensUsed } from "./budgets.ts";
import type { Generation, Results } from "./generation.ts";
import type { Run } from "./merge_runs.ts";
import type { Services } from "./services.ts";
import type { RequestState } from "./state.ts";
import type { GenerationSpan } from "./telemetry.ts";

/** See file comment. */
export interface Observer {
  /** The same run, watched; it begins when `admitted` says so. */
  watch(run: Run<Results>, admitted: Promise<void> | undefined): Run<Results>;
  /** For steps of the strategy; undefined where nobody wants them. */
  readonly onStep: GenerationSpan["step"] | undefined;
  /** The last byte is out, or none will follow. Only the first call counts. */
  close(error?: unknown): Promise<void>;
}

/** What is known before anything runs. */
export interface Observed {
  readonly services: Services;
  readonly state: RequestState;
  readonly generation: Generation;
  readonly reservation: Reservation;
  readonly stream: boolean;
}

/** Starts watching. */
export function observe({ services, state, generation, reservation, stream }: Observed): Observer {
  const { metrics, telemetry, deps: { clock } } = services;
  const labels = { model: state.model ?? "", strategy: state.strategy ?? "" };
  const span = telemetry.start(state, generation, stream);
  const since = (ms: number) => (clock.monotonicMs() - ms) / 1000;
  const openedMs = clock.monotonicMs();
  const reasons: string[] = [];
  let emitted = 0;
  let hasBegun = false;
  let isClosed = false;
  let firstMs: number | undefined;
  let lastMs = openedMs;
  let results: Results | undefined;

  function begin(): void {
    hasBegun = true;
    const seconds = since(openedMs);
    metrics.queueTime.observe({ model: labels.model }, seconds);
    span.admitted(seconds);
  }

  function see(event: RunEvent): void {
    if (event.type === "finish") return void reasons.push(event.reason);
    const tokens = Math.max(event.tokens.length, event.text === "" ? 0 : 1);
    if (tokens === 0) return;
    emitted += tokens;
    const seconds = since(firstMs === undefined ? state.startedMs : lastMs);
    lastMs = clock.monotonicMs();
    if (firstMs === undefined) {
      firstMs = lastMs;
      metrics.firstToken.observe(labels, seconds);
      span.firstToken(seconds);
    } else {
      metrics.betweenTokens.observe(labels, seconds / tokens);
    }
  }

  return {
    onStep: span.isRecording ? (event) => span.step(event) : undefined,
    async *watch(run, admitted) {
      try {
        await admitted;
        begin();
        while (true) {
          const step = await run.next();
          if (step.done) return results = step.value;
          see(step.value);
          yield step.value;
        }
      } finally {
        await run.return(undefined as never); // the result of an ended run is not read
      }
    },
    async close(error) {
      if (isClosed) return;
      isClosed = true;
      if (results) {
        count(services, labels, results, generation.selection.kv?.name ?? "full");
        span.finished(results, reasons);
      }
      countFailure(services, labels, error);
      metrics.duration.observe(labels, since(state.startedMs));
      const perToken = firstMs === undefined || emitted < 2
        ? 0
        : (lastMs - firstMs) / 1000 / (emitted - 1);
      span.end({ error, seconds: since(state.startedMs), perToken });
      // A search that broke off has drawn more than it showed: what was put aside stays spent.
      const isHidden = generation.selection.strategy.streaming !== "tokens";
      if (!results && hasBegun && isHidden) reservation.keep();
      await reservation.settle(results ? tokensUsed(results) : emitted);
    },
  };
}

function count(
  { metrics }: Services,
  labels: { readonly model: string; readonly strategy: string },
  { usage, runs }: Results,
  policy: string,
): void {
  metrics.promptTokens.add(labels, usage.promptTokens);
  metrics.generatedTokens.add(labels, usage.completionTokens);
  metrics.drawnTokens.add(labels, usage.drawnTokens);
  metrics.discardedTokens.add(labels, Math.max(0, usage.drawnTokens - usage.completionTokens));
  const { model } = labels;
  for (const { meters } of runs) {
    for (const { kv } of Object.values(meters)) {
      if (!kv || kv.bytesFull === 0) continue;
      metrics.kvBytes.observe({ model, policy }, kv.bytesPeak);
      metrics.kvKept.observe({ model, policy }, kv.bytes / kv.bytesFull);
    }
  }
  for (const { metrics: own } of runs) {
    if (own["proposed"] === undefined) continue;
    metrics.draftTokens.add(labels, own["proposed"]);
    metrics.acceptedTokens.add(labels, own["accepted"] ?? 0);
  }
}

function countFailure(
  { metrics }: Services,
  labels: { readonly model: string; readonly strategy: string },
  error: unknown,
): void {
  const cause = error instanceof Error ? error.cause ?? error : undefined;
  for (const one of new Set([error, cause])) {
    if (one instanceof UpstreamError) {
      metrics.upstreamErrors.add({ upstream: one.upstream, kind: one.kind }, 1);
    }
    if (one instanceof DeviceLostError) metrics.deviceLost.add({ model: labels.model }, 1);
    if (one instanceof ConstraintError) metrics.constraintRejections.add(labels, 1);
  }
}

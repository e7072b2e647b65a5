/**
 * Spans and metrics through OpenTelemetry's API. Without an SDK behind it nothing is recorded; Deno
 * brings one, on with OTEL_DENO=true. Prompts and answers never get here.
 */
import {
  type Attributes,
  type Histogram,
  metrics,
  ROOT_CONTEXT,
  type Span,
  SpanKind,
  SpanStatusCode,
  trace,
  type Tracer,
} from "@opentelemetry/api";
import type { Clock } from "./deps.ts";
import { toApiError } from "./errors.ts";
import type { Generation, Results } from "./generation.ts";
import { attributes as names, histograms, operations, ownProvider } from "./genai_names.ts";
import type { RequestState } from "./state.ts";

/** Child spans per request; a long answer has thousands of steps. */
const maxSteps = 256;

/** The gateway's instruments. */
export interface Telemetry {
  /** A span around one generation, until {@link GenerationSpan.end}. */
  start(state: RequestState, generation: Generation, stream: boolean): GenerationSpan;
}

/** What a generation tells. Times are seconds since it began. */
export interface GenerationSpan {
  /** Whether somebody records; steps need not be collected otherwise. */
  readonly isRecording: boolean;
  admitted(seconds: number): void;
  firstToken(seconds: number): void;
  /** One step of the strategy, since the last one: a trial, a round of drafts, a move of beams. */
  step(event: Readonly<Record<string, unknown>>): void;
  finished(results: Results, reasons: readonly string[]): void;
  end(end: { readonly error?: unknown; readonly seconds: number; readonly perToken: number }): void;
}

/** Instruments of whatever SDK is registered by now. */
export function createTelemetry(version: string, clock: Clock): Telemetry {
  const tracer = trace.getTracer("decant", version);
  const meter = metrics.getMeter("decant", version);
  const open = ({ name, unit, bounds }: typeof histograms[keyof typeof histograms]) =>
    meter.createHistogram(name, { unit, advice: { explicitBucketBoundaries: [...bounds] } });
  const instruments = {
    tokenUsage: open(histograms.tokenUsage),
    duration: open(histograms.duration),
    firstToken: open(histograms.firstToken),
    perToken: open(histograms.perToken),
  };
  return {
    start: (state, generation, stream) =>
      new RecordedGeneration({ tracer, instruments, clock }, state, generation, stream),
  };
}

/** Tells the span of the HTTP server, where there is one, which route was matched. */
export function nameServerSpan(method: string, route: string): void {
  const span = trace.getActiveSpan();
  span?.setAttribute(names.route, route);
  span?.updateName(`${method} ${route}`);
}

interface Tools {
  readonly tracer: Tracer;
  readonly instruments: Readonly<Record<keyof typeof histograms, Histogram>>;
  readonly clock: Clock;
}

class RecordedGeneration implements GenerationSpan {
  readonly #tools: Tools;
  readonly #span: Span;
  readonly #strategy: string;
  /** Labels of metrics: closed sets only. */
  readonly #labels: Attributes;
  #steps = 0;
  #lastStep: number;

  constructor(
    tools: Tools,
    state: RequestState,
    generation: Generation,
    stream: boolean,
  ) {
    const { info } = generation.selection.entry;
    const operation = operations[state.route] ?? "chat";
    this.#tools = tools;
    this.#lastStep = this.#now();
    this.#strategy = generation.selection.strategy.name;
    this.#labels = {
      [names.operation]: operation,
      [names.provider]: info.upstream?.engine ?? ownProvider,
      [names.requestModel]: info.id,
      [names.strategy]: this.#strategy,
    };
    this.#span = tools.tracer.startSpan(`${operation} ${info.id}`, {
      kind: info.upstream ? SpanKind.CLIENT : SpanKind.INTERNAL,
      attributes: { ...this.#labels, ...requestAttributes(state, generation, stream) },
    });
  }

  /** On the clock of the other spans: Unix milliseconds. */
  #now(): number {
    return this.#tools.clock.unixMs();
  }

  get isRecording(): boolean {
    return this.#span.isRecording();
  }

  admitted(seconds: number): void {
    this.#span.setAttribute(names.queueTime, seconds);
    this.#lastStep = this.#now();
  }

  firstToken(seconds: number): void {
    this.#span.setAttribute(names.firstChunk, seconds);
    this.#tools.instruments.firstToken.record(seconds, this.#labels);
  }

  step(event: Readonly<Record<string, unknown>>): void {
    if (++this.#steps > maxSteps) return;
    const now = this.#now();
    const parent = trace.setSpan(ROOT_CONTEXT, this.#span);
    const child = this.#tools.tracer.startSpan(
      `${this.#strategy} ${String(event["type"] ?? "step")}`,
      {
        startTime: this.#lastStep,
        attributes: numbersOf(event, names.stepPrefix),
      },
      parent,
    );
    child.end(now);
    this.#lastStep = now;
  }

  finished({ usage, runs }: Results, reasons: readonly string[]): void {
    const output = usage.completionTokens;
    this.#span.setAttributes({
      [names.inputTokens]: usage.promptTokens,
      [names.outputTokens]: output,
      [names.drawnTokens]: usage.drawnTokens,
      [names.finishReasons]: [...reasons],
      ...Object.assign({}, ...runs.map(({ metrics }) => numbersOf(metrics, names.metricPrefix))),
    });
    const { tokenUsage } = this.#tools.instruments;
    tokenUsage.record(usage.promptTokens, { ...this.#labels, [names.tokenType]: "input" });
    tokenUsage.record(output, { ...this.#labels, [names.tokenType]: "output" });
  }

  end(
    { error, seconds, perToken }: {
      readonly error?: unknown;
      readonly seconds: number;
      readonly perToken: number;
    },
  ): void {
    const type = error === undefined ? undefined : errorType(error);
    const labels = type === undefined ? this.#labels : { ...this.#labels, [names.errorType]: type };
    if (type !== undefined) {
      this.#span.setAttribute(names.errorType, type);
      this.#span.setStatus({ code: SpanStatusCode.ERROR });
    }
    this.#tools.instruments.duration.record(seconds, labels);
    if (perToken > 0) this.#tools.instruments.perToken.record(perToken, labels);
    this.#span.end();
  }
}

function requestAttributes(
  state: RequestState,
  { sampling, choices, maxTokens, selection }: Generation,
  stream: boolean,
): Attributes {
  return {
    [names.requestId]: state.id,
    [names.source]: selection.source,
    [names.kvPolicy]: selection.kv?.name ?? "full",
    [names.stream]: stream,
    [names.outputType]: "text",
    [names.responseModel]: selection.entry.info.id,
    [names.temperature]: sampling.temperature,
    [names.topP]: sampling.topP,
    [names.frequencyPenalty]: sampling.frequencyPenalty,
    [names.presencePenalty]: sampling.presencePenalty,
    ...choices === 1 ? {} : { [names.choices]: choices },
    ...sampling.topK === 0 ? {} : { [names.topK]: sampling.topK },
    ...maxTokens === undefined ? {} : { [names.maxTokens]: maxTokens },
  };
}

/** Numbers and flags alone: strings may hold parts of an answer. */
function numbersOf(values: Readonly<Record<string, unknown>>, prefix: string): Attributes {
  const kept = Object.entries(values).filter(([, value]) =>
    typeof value === "boolean" || typeof value === "number" && Number.isFinite(value)
  );
  return Object.fromEntries(kept.map(([name, value]) => [prefix + name, value as number]));
}

/** A code, never a message. */
function errorType(error: unknown): string {
  return toApiError(error, { requestId: "", checking: false }).code;
}

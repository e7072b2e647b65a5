/** Error class -> HTTP status and OpenAI error object. The only file that knows both. */
import {
  CapabilityError,
  ClosedError,
  ConstraintError,
  ContextLengthError,
  DeviceLostError,
  EngineError,
  FormatError,
  NotFoundError,
  OutOfMemoryError,
  OutOfPagesError,
  TemplateError,
  UpstreamError,
} from "../runtime/mod.ts";
import { RoleError, StrategyParamError } from "../strategies/mod.ts";

/** The error types of the OpenAI API that we use. */
export type ErrorType =
  | "invalid_request_error"
  | "permission_error"
  | "rate_limit_error"
  | "server_error";

/** The body of every error answer; all four keys are always there. */
export interface ErrorBody {
  readonly error: {
    readonly message: string;
    readonly type: ErrorType;
    readonly param: string | null;
    readonly code: string | null;
    readonly [extra: string]: unknown;
  };
}

/** Optional parts of an {@link ApiError}. */
export interface ApiErrorOptions {
  /** Path of the offending field, e.g. `messages.3.content`. */
  readonly param?: string | undefined;
  readonly headers?: Readonly<Record<string, string>>;
  /** Further members of the error object. */
  readonly extra?: Readonly<Record<string, unknown>>;
  readonly cause?: unknown;
}

/** An error that already knows its answer. */
export class ApiError extends Error {
  override readonly name = "ApiError";
  readonly param: string | undefined;
  readonly headers: Readonly<Record<string, string>>;
  readonly extra: Readonly<Record<string, unknown>>;

  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
    options: ApiErrorOptions = {},
  ) {
    super(message, { cause: options.cause });
    this.param = options.param;
    this.headers = options.headers ?? {};
    this.extra = options.extra ?? {};
  }

  get type(): ErrorType {
    if (this.status === 429) return "rate_limit_error";
    if (this.status === 403) return "permission_error";
    return this.status >= 500 ? "server_error" : "invalid_request_error";
  }

  /** The OpenAI error object. */
  body(): ErrorBody {
    return {
      error: {
        message: this.message,
        type: this.type,
        param: this.param ?? null,
        code: this.code,
        ...this.extra,
      },
    };
  }
}

/** 400: a field has a value we do not take. */
export function invalidValue(param: string | undefined, message: string): ApiError {
  return new ApiError(400, "invalid_value", message, { param });
}

/** 400: a field we know but cannot honour. */
export function unsupported(param: string, message: string): ApiError {
  return new ApiError(400, "unsupported_parameter", message, { param });
}

/** 400: a field that must be there. */
export function missing(param: string, message: string): ApiError {
  return new ApiError(400, "missing_required_parameter", message, { param });
}

/** The client went away. Nobody receives the answer; the log shows it. */
export function clientClosed(): ApiError {
  return new ApiError(499, "client_closed_request", "The client closed the request");
}

/** The request ran into its deadline. */
export function deadlineExceeded(ms: number): ApiError {
  return new ApiError(504, "deadline_exceeded", `The request did not finish within ${ms} ms`, {
    headers: { "x-should-retry": "false" },
  });
}

/** The gateway ends; another instance may answer. */
export function shuttingDown(): ApiError {
  return new ApiError(503, "shutting_down", "The gateway is shutting down", {
    headers: { "retry-after": "5" },
  });
}

/** How {@link toApiError} reads what it is given. */
export interface ErrorContext {
  readonly requestId: string;
  /**
   * Whether the error arose while the request was checked, before any work: then a plain RangeError
   * is about the request. Later it is our bug.
   */
  readonly checking: boolean;
}

/** The answer for anything thrown. Unknown errors become a 500 that tells only the request id. */
export function toApiError(error: unknown, context: ErrorContext): ApiError {
  if (error instanceof ApiError) return error;
  return fromRequest(error) ?? fromEngine(error) ?? fromCheck(error, context) ??
    new ApiError(
      500,
      "internal_error",
      `Internal error; the log has it under request id ${context.requestId}`,
      { cause: error },
    );
}

function fromRequest(error: unknown): ApiError | undefined {
  if (error instanceof StrategyParamError) {
    const { param: name } = error;
    // "n" is the request's own field; strategies have no parameter of that name.
    const param = name === "n" ? "n" : ["decoding.params", name].filter(Boolean).join(".");
    return new ApiError(400, "invalid_strategy_param", error.message, { param });
  }
  if (error instanceof RoleError) {
    return invalidValue(`decoding.models.${error.role}`, error.message);
  }
  if (error instanceof ContextLengthError) {
    return new ApiError(400, "context_length_exceeded", error.message, {
      param: "messages",
      extra: { n_prompt_tokens: error.promptTokens, n_ctx: error.limit },
    });
  }
  if (error instanceof NotFoundError) return notFound(error);
  if (error instanceof CapabilityError) {
    return new ApiError(400, "strategy_unsupported", error.message);
  }
  if (error instanceof TemplateError) return invalidValue("messages", error.message);
  if (error instanceof FormatError) return new ApiError(400, "invalid_schema", error.message);
  return undefined;
}

function notFound(error: NotFoundError): ApiError | undefined {
  if (error.kind === "model") {
    return new ApiError(404, "model_not_found", error.message, { param: "model" });
  }
  if (error.kind === "strategy") {
    return new ApiError(400, "unknown_strategy", error.message, { param: "decoding.strategy" });
  }
  if (error.kind === "policy") return invalidValue("decoding.kv_policy.name", error.message);
  return undefined;
}

function fromEngine(error: unknown): ApiError | undefined {
  if (error instanceof OutOfPagesError || error instanceof OutOfMemoryError) {
    // The same request will never fit: `x-should-retry` stops clients that retry every 503.
    return new ApiError(503, "overloaded", error.message, {
      headers: { "retry-after": "60", "x-should-retry": "false" },
    });
  }
  if (error instanceof ClosedError) {
    return new ApiError(503, "model_loading", "The model was unloaded", {
      headers: { "retry-after": "5" },
      cause: error,
    });
  }
  if (error instanceof DeviceLostError) {
    return new ApiError(503, "device_lost", "The device was lost; try again", {
      headers: { "retry-after": "5" },
      cause: error,
    });
  }
  if (error instanceof UpstreamError) return fromUpstream(error);
  if (error instanceof ConstraintError) {
    return new ApiError(500, "engine_error", error.message, { cause: error });
  }
  if (error instanceof EngineError) {
    return new ApiError(500, "engine_error", "The engine failed while decoding", { cause: error });
  }
  return undefined;
}

/** Longest pause we ask clients for, in seconds. */
const maxRetrySeconds = 60;

/** What the upstream said keeps its class: the client's mistakes stay 4xx, ours and its become 5xx. */
function fromUpstream(error: UpstreamError): ApiError {
  const { kind, status, code, message } = error;
  const seconds = Math.ceil((error.retryAfterMs ?? 1000) / 1000);
  const later = { "retry-after": String(Math.min(maxRetrySeconds, Math.max(1, seconds))) };
  const answer = (status: number, code: string, headers: Record<string, string> = {}) =>
    new ApiError(status, code, message, { headers, cause: error });
  switch (kind) {
    case "rejected":
      return answer(status === 413 ? 413 : 400, code ?? "upstream_rejected");
    case "rate_limited":
      return answer(429, "rate_limit_exceeded", later);
    case "busy":
      return answer(429, "queue_full", later);
    case "unavailable":
      return answer(503, "overloaded", later);
    case "circuit_open":
      return answer(503, "circuit_open", later);
    case "timeout":
      return answer(504, "upstream_timeout");
    case "invalid":
      return answer(502, "upstream_invalid_response");
    case "truncated":
      return answer(502, "upstream_stream_truncated");
    case "refused":
      // Our key or address is wrong: trying again changes nothing.
      return answer(502, "upstream_error", { "x-should-retry": "false" });
    case "unreachable":
    case "failed":
      return answer(502, "upstream_error");
  }
}

function fromCheck(error: unknown, context: ErrorContext): ApiError | undefined {
  if (context.checking && error instanceof RangeError) {
    return invalidValue(undefined, error.message);
  }
  return undefined;
}

/** The answer to a failed request. */
export function errorResponse(error: ApiError): Response {
  return Response.json(error.body(), { status: error.status, headers: error.headers });
}

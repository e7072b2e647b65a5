/**
 * The error classes of the runtime. Fields carry the data, the message is for people.
 * Only `routes/errors.ts` knows which HTTP status each becomes.
 */

/** Where a {@link FormatError} was found. */
export interface FormatErrorOptions {
  /** What was being read: "model.safetensors", "tokenizer.json", "json schema". Never a full path. */
  readonly source: string;
  /** Byte (or character) offset, where one is known. */
  readonly offset?: number | undefined;
  readonly cause?: unknown;
}

/** Unreadable file, grammar or schema. */
export class FormatError extends SyntaxError {
  override readonly name = "FormatError";
  readonly source: string;
  readonly offset: number | undefined;

  constructor(message: string, options: FormatErrorOptions) {
    const place = options.offset === undefined ? "" : ` at offset ${options.offset}`;
    super(`Cannot read ${options.source}${place}: ${message}`, { cause: options.cause });
    this.source = options.source;
    this.offset = options.offset;
  }
}

/** A chat template that cannot render these messages. */
export class TemplateError extends Error {
  override readonly name = "TemplateError";
}

/** Tensor shapes that do not go together. */
export class ShapeError extends TypeError {
  override readonly name = "ShapeError";
  constructor(readonly op: string, readonly detail: string) {
    super(`Cannot run ${op}: ${detail}`);
  }
}

/** Something looked up by name is not there. */
export class NotFoundError extends Error {
  override readonly name = "NotFoundError";
  constructor(
    readonly kind: "model" | "strategy" | "policy" | "file" | "repository" | "backend",
    readonly subject: string,
    readonly known: readonly string[] = [],
  ) {
    const list = known.length > 0 ? `; known: ${known.join(", ")}` : "";
    super(`Unknown ${kind} ${JSON.stringify(subject)}${list}`);
  }
}

/** A KV policy that a model cannot run, or not with these parameters. */
export class PolicyError extends Error {
  override readonly name = "PolicyError";
  /** @param param the parameter that does not fit, if it is one */
  constructor(readonly policy: string, readonly detail: string, readonly param?: string) {
    super(`Cannot use KV policy ${JSON.stringify(policy)}: ${detail}`);
  }
}

/** A backend that cannot run on this machine. */
export class BackendError extends Error {
  override readonly name = "BackendError";
  constructor(readonly backend: string, readonly reason: string) {
    super(`Cannot use the backend ${JSON.stringify(backend)}: ${reason}`);
  }
}

/** A strategy needs what a model lacks. */
export class CapabilityError extends Error {
  override readonly name = "CapabilityError";
  constructor(
    readonly model: string,
    readonly missing: readonly string[],
    readonly use: { readonly strategy?: string; readonly role?: string } = {},
  ) {
    const what = use.strategy === undefined ? "" : ` strategy ${JSON.stringify(use.strategy)} on`;
    const role = use.role === undefined ? "" : ` as role ${JSON.stringify(use.role)}`;
    super(
      `Cannot run${what} model ${JSON.stringify(model)}${role}: missing ${missing.join(", ")}`,
    );
  }
}

/** Prompt plus requested tokens do not fit the model's context. */
export class ContextLengthError extends RangeError {
  override readonly name = "ContextLengthError";
  constructor(
    readonly promptTokens: number,
    readonly maxTokens: number,
    readonly limit: number,
  ) {
    super(
      maxTokens > 0
        ? `Cannot fit ${promptTokens} prompt tokens and ${maxTokens} new tokens: the context holds ${limit}`
        : `Cannot fit ${promptTokens} prompt tokens: the context holds ${limit}`,
    );
  }
}

/** A sequence that can never fit the page pool; retrying will not help. */
export class OutOfPagesError extends Error {
  override readonly name = "OutOfPagesError";
  constructor(readonly needed: number, readonly total: number) {
    super(`Cannot hold the sequence: it needs ${needed} KV pages, the pool has ${total}`);
  }
}

/** Memory that a request needs and that will never be there; retrying will not help. */
export class OutOfMemoryError extends Error {
  override readonly name = "OutOfMemoryError";
  /** Bytes; `needed` is Infinity if there is no memory that could hold it. */
  constructor(what: string, readonly needed: number, readonly left: number) {
    const mib = (bytes: number) => `${(bytes / 2 ** 20).toFixed(1)} MiB`;
    super(
      Number.isFinite(needed)
        ? `Cannot hold ${what}: it takes ${mib(needed)}, ${mib(left)} are left`
        : `Cannot hold ${what}: it is more than the backend can bind`,
    );
  }
}

/** A constraint left no way on in the middle of a completion, or failed itself. */
export class ConstraintError extends Error {
  override readonly name = "ConstraintError";
  constructor(readonly constraint: string, detail: string, options?: { readonly cause?: unknown }) {
    super(`Constraint ${JSON.stringify(constraint)} ${detail}`, options);
  }
}

/** A session was used after it, or its request, was closed. */
export class ClosedError extends Error {
  override readonly name = "ClosedError";
}

/** The engine itself failed in a step. */
export class EngineError extends Error {
  override readonly name = "EngineError";
}

/** The GPU device went away; the request may be retried. */
export class DeviceLostError extends Error {
  override readonly name = "DeviceLostError";
  constructor(readonly reason: string) {
    super(`The GPU device was lost: ${reason}`);
  }
}

/**
 * How an upstream failed. `rejected`: the request itself; `refused`: our key, address or model name;
 * `rate_limited`, `unavailable`, `failed`: as it said; `busy`: all our connections to it are taken;
 * `unreachable`: no connection; `timeout`: silence; `truncated`: it broke off; `invalid`: it answered
 * what nobody can read; `circuit_open`: it failed so often that it is left alone for now.
 */
export type UpstreamFailure =
  | "rejected"
  | "refused"
  | "rate_limited"
  | "unavailable"
  | "failed"
  | "busy"
  | "unreachable"
  | "timeout"
  | "truncated"
  | "invalid"
  | "circuit_open";

/** More about a failure. */
export interface UpstreamErrorOptions {
  /** @default "failed" */
  readonly kind?: UpstreamFailure | undefined;
  /** When it may be tried again. */
  readonly retryAfterMs?: number | undefined;
  /** The upstream's error code, where it is one that we know. */
  readonly code?: string | undefined;
  readonly cause?: unknown;
}

/** An upstream engine failed. */
export class UpstreamError extends Error {
  override readonly name = "UpstreamError";
  readonly kind: UpstreamFailure;
  readonly retryAfterMs: number | undefined;
  readonly code: string | undefined;
  constructor(
    readonly upstream: string,
    readonly status: number | undefined,
    message: string,
    options: UpstreamErrorOptions = {},
  ) {
    super(`Upstream ${JSON.stringify(upstream)} failed: ${message}`, { cause: options.cause });
    this.kind = options.kind ?? "failed";
    this.retryAfterMs = options.retryAfterMs;
    this.code = options.code;
  }
}

/** Runs any strategy for one request: checks, scope, stop strings, limits, usage, cancellation. */
import type {
  ChatOptions,
  Constraint,
  KvChoice,
  LanguageModel,
  Meter,
  Prompt,
  SamplingParams,
  TokenId,
} from "../runtime/mod.ts";
import type { Strategy } from "./strategy.ts";

/** How much the response tells about the decoding. */
export type TraceLevel = "none" | "summary" | "steps";

/** One request for a strategy, already free of HTTP. */
export interface RunRequest {
  readonly id: string;
  readonly strategy: Strategy;
  /** Unvalidated parameters. */
  readonly params: Readonly<Record<string, unknown>>;
  /** A model per role of the strategy. */
  readonly models: Readonly<Record<string, LanguageModel>>;
  readonly prompt: Prompt;
  readonly chat: ChatOptions;
  readonly sampling: SamplingParams;
  /** Per choice; stop tokens count. */
  readonly maxTokens: number;
  readonly choices: number;
  /** Top log-probabilities per token; undefined = no log-probabilities. */
  readonly logprobs: number | undefined;
  /** Strings that end a choice; the text never contains them. */
  readonly stop: readonly string[];
  /** Further tokens that end a choice. */
  readonly stopTokens: readonly TokenId[];
  readonly ignoreStop: boolean;
  readonly constraint: Constraint | undefined;
  readonly kv: KvChoice | undefined;
  readonly cacheSalt: string;
  readonly trace: TraceLevel;
  readonly signal: AbortSignal;
}

/** A token's text, bytes and log-probability. */
export interface TextCandidate {
  readonly token: string;
  readonly bytes: readonly number[];
  readonly logprob: number;
}

/** Log-probabilities of one emitted token. */
export interface TextLogprob extends TextCandidate {
  readonly top: readonly TextCandidate[];
}

/** Output in order. Per choice: any number of "text", then exactly one "finish". */
export type RunEvent =
  | {
    readonly type: "text";
    readonly choice: number;
    /** Whole characters; may be empty when only tokens or log-probabilities are new. */
    readonly text: string;
    /** Tokens behind the text, without the one that stopped the choice. */
    readonly tokens: readonly TokenId[];
    /** Present exactly when the request asked for log-probabilities. Bytes joined equal the text's. */
    readonly logprobs?: readonly TextLogprob[];
  }
  | {
    readonly type: "finish";
    readonly choice: number;
    readonly reason: "stop" | "length";
    /** The stop string or token that ended the choice, if one did. */
    readonly stoppedBy?: string | TokenId;
  };

/** What a request used and how its strategy fared. */
export interface RunResult {
  readonly usage: {
    readonly promptTokens: number;
    readonly cachedTokens: number;
    /** Emitted tokens of all returned choices, stop tokens included. */
    readonly completionTokens: number;
    /** Tokens drawn at all models together, emitted or not. */
    readonly drawnTokens: number;
  };
  readonly meters: Readonly<Record<string, Meter>>;
  readonly metrics: Readonly<Record<string, number>>;
  readonly choices: readonly Readonly<Record<string, number>>[];
  /** Events recorded at trace level "steps". */
  readonly steps: readonly Readonly<Record<string, unknown>>[];
}

/** A parameter that does not validate. */
export class StrategyParamError extends RangeError {
  override readonly name = "StrategyParamError";
  constructor(readonly strategy: string, readonly param: string, readonly detail: string) {
    super(`Invalid parameter ${JSON.stringify(param)} of strategy ${strategy}: ${detail}`);
  }
}

/**
 * Runs a strategy. Everything that can be refused is refused when this is called, before the first
 * `next()`; breaking out closes all sessions.
 *
 * @throws {StrategyParamError} synchronously, for unknown or out-of-range parameters
 * @throws {CapabilityError} synchronously, if a model lacks what its role needs
 * @throws {ContextLengthError} synchronously, if prompt plus maxTokens do not fit a model
 */
export function runStrategy(_request: RunRequest): AsyncGenerator<RunEvent, RunResult, void> {
  throw new Error("written next");
}

/** What a strategy is run with, and what a run gives: plain data on both sides of run.ts. */
import type {
  CallCounts,
  ChatOptions,
  Constraint,
  ConstraintSpec,
  KvChoice,
  LanguageModel,
  Meter,
  Prompt,
  SamplingParams,
  TextLogprob,
  TokenId,
} from "../runtime/mod.ts";
import type { Calibration } from "./_cascade_rule.ts";
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
  /** Undefined as well where every model honours `format` by itself. */
  readonly constraint: Constraint | undefined;
  /** What the constraint says, where it can be said. @default the constraint is a function */
  readonly format?: ConstraintSpec | undefined;
  readonly kv: KvChoice | undefined;
  readonly cacheSalt: string;
  readonly trace: TraceLevel;
  /** Told of every trace event when it happens, whatever the level. */
  readonly onStep?: ((event: Readonly<Record<string, unknown>>) => void) | undefined;
  readonly signal: AbortSignal;
  /** Milliseconds, never going back: lets strategies measure what passes cost. */
  readonly clock?: () => number;
  /** Counts the calls made to upstreams. @default nobody counts */
  readonly calls?: CallCounts;
  /** Calibrated rules by name. @default none */
  readonly calibrations?: ReadonlyMap<string, Calibration>;
}

/** Output in order. Per choice: any number of "text", then exactly one "finish". */
export type RunEvent =
  | {
    readonly type: "text";
    readonly choice: number;
    /** Whole characters; may be empty when only tokens or log-probabilities are new. */
    readonly text: string;
    /** What the model thought before the text, where it is told apart. */
    readonly reasoning?: string;
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
  /** Model that each choice came from, from strategies that choose one. */
  readonly servedBy?: readonly string[];
  /** Events recorded at trace level "steps". */
  readonly steps: readonly Readonly<Record<string, unknown>>[];
}

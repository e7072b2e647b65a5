/** Strategy: a decoding method that turns a prompt into output, independent of HTTP and hardware. */
import type {
  Capability,
  ChatOptions,
  Constraint,
  LanguageModel,
  Prompt,
  Rng,
  SamplingParams,
  TokenId,
  TokenLogprob,
} from "../runtime/mod.ts";

/** Role -> capabilities it needs. The request's `model` takes the first role declared. */
export type Roles = Readonly<Record<string, readonly Capability[]>>;

/** Anything that validates; we use zod. */
export interface Schema<P> {
  parse(value: unknown): P;
}

/** Everything a strategy gets for one request. */
export interface StrategyContext<P, R extends Roles> {
  /** Request-scoped: every session opened through them is closed when the request ends. */
  readonly models: { readonly [K in keyof R]: LanguageModel<R[K][number]> };
  readonly prompt: Prompt;
  readonly chat: ChatOptions;
  readonly params: P;
  readonly sampling: SamplingParams;
  /** Upper bound on emitted tokens per choice; stop tokens count. */
  readonly maxTokens: number;
  /** How many alternatives to return (OpenAI `n`). */
  readonly choices: number;
  /** How many top log-probabilities to attach per emitted token; undefined = none at all. */
  readonly logprobs: number | undefined;
  readonly constraint: Constraint | undefined;
  /** Go on past the model's stop tokens. */
  readonly ignoreStop: boolean;
  /** Seeded per request; fork(key) for branches. */
  readonly rng: Rng;
  /** Every pending ask rejects when it fires. */
  readonly signal: AbortSignal;
  /** Records one trace event; does nothing unless the request asked for steps. */
  readonly trace: (event: Readonly<Record<string, unknown>>) => void;
}

/**
 * Output of one choice. Tokens include the stop token that ended the choice, if any; `run.ts` takes
 * it out of the text. Log-probabilities run parallel to the tokens.
 */
export type Chunk =
  & { readonly choice: number }
  & (
    | { readonly tokens: readonly TokenId[]; readonly logprobs?: readonly TokenLogprob[] }
    | { readonly text: string }
  );

/** How a strategy ended. */
export interface Finish {
  /** One per choice. */
  readonly reasons: readonly ("stop" | "length")[];
  /** Sums and scores for the response's `decoding` object, e.g. { proposed: 40, accepted: 31 }. */
  readonly metrics?: Readonly<Record<string, number>>;
  /** Per choice: score and the like, for `decoding.choices`. */
  readonly choices?: readonly Readonly<Record<string, number>>[];
}

/** A decoding method. */
export interface Strategy<P = unknown, R extends Roles = Roles> {
  /** Public name, kebab-case. */
  readonly name: string;
  /** One line for tables and listings. */
  readonly summary: string;
  /** Paper or specification. */
  readonly source: string;
  /** How output arrives: token by token, in bursts, or only at the end. */
  readonly streaming: "tokens" | "bursts" | "end";
  /** Whether it honours a constraint; otherwise a request with one is refused. */
  readonly constrained: boolean;
  readonly needs: R;
  readonly params: Schema<P>;
  /** Upper bound on sessions held at once, for limits and admission. */
  readonly sequences: (params: P, choices: number) => number;
  /** What `needs` cannot say, e.g. "same vocabulary". @throws {RangeError} */
  check?(models: StrategyContext<P, R>["models"]): void;
  run(context: StrategyContext<P, R>): AsyncGenerator<Chunk, Finish, void>;
}

/** Infers parameter and role types. */
export function defineStrategy<P, const R extends Roles>(strategy: Strategy<P, R>): Strategy<P, R> {
  return strategy;
}

/** Strategy: a decoding method that turns a prompt into output, independent of HTTP and hardware. */
import type {
  Capability,
  ChatOptions,
  Constraint,
  ConstraintSpec,
  LanguageModel,
  Prompt,
  Rng,
  SamplingParams,
  TextLogprob,
  TokenId,
  TokenLogprob,
  Vocab,
} from "../runtime/mod.ts";
import type { Calibration } from "./_cascade_rule.ts";

/** Role -> capabilities it needs. The request's `model` takes the first role declared. */
export type Roles = Readonly<Record<string, readonly Capability[]>>;

/** No roles at all. */
export type NoRoles = Readonly<Record<never, readonly Capability[]>>;

/** Anything that validates; we use zod. */
export interface Schema<P> {
  parse(value: unknown): P;
}

/**
 * Follows one sequence and tells when the request ends it: by a stop string, by one of the request's
 * stop tokens, or (unless they are ignored) by one of the model's.
 */
export interface StopCheck {
  /** Whether the sequence ends with this piece; pieces after that are refused. */
  push(piece: TokenId | string): boolean;
  /** Text so far, up to the stop string. */
  text(): string;
  /** Independent copy, for a forked sequence. */
  fork(): StopCheck;
}

/** What a request asks for beyond its models, as far as it can be checked before any work. */
export interface StrategyDemand<P> {
  readonly params: P;
  readonly choices: number;
  readonly sampling: SamplingParams;
  readonly constraint: Constraint | undefined;
  /** What the constraint says, where it can be said. */
  readonly format: ConstraintSpec | undefined;
  /** Tokens that end a choice besides the model's own. */
  readonly stopTokens: readonly TokenId[];
  readonly calibrations: ReadonlyMap<string, Calibration>;
}

/** Everything a strategy gets for one request. */
export interface StrategyContext<P, R extends Roles, O extends Roles = NoRoles> {
  /** Request-scoped: every session opened through them is closed when the request ends. */
  readonly models:
    & { readonly [K in keyof R]: LanguageModel<R[K][number]> }
    & { readonly [K in keyof O]?: LanguageModel<O[K][number]> };
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
  /** What the constraint says, for models that honour it by themselves. */
  readonly format: ConstraintSpec | undefined;
  /** Go on past the model's stop tokens. */
  readonly ignoreStop: boolean;
  /**
   * A check for a new completion. Branches that nobody sees yet end here too.
   *
   * @param vocab whose tokens it will be shown; default: the first role's
   */
  readonly createStopCheck: (vocab?: Vocab) => StopCheck;
  /** Seeded per request; fork(key) for branches. */
  readonly rng: Rng;
  /** Every pending ask rejects when it fires. */
  readonly signal: AbortSignal;
  /** Milliseconds, never going back; undefined where nobody measures. Output must not depend on it. */
  readonly clock: (() => number) | undefined;
  /** Calibrated rules by the names the configuration gave them. */
  readonly calibrations: ReadonlyMap<string, Calibration>;
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
    | {
      /** From models whose tokens never cross the wire. */
      readonly text: string;
      /** How many tokens the text stands for. */
      readonly count: number;
      /** What the model thought before the text. */
      readonly reasoning?: string;
      /** Its tokens, where log-probabilities were asked for. */
      readonly textLogprobs?: readonly TextLogprob[];
    }
  );

/** How a strategy ended. */
export interface Finish {
  /** One per choice that came out; searches may find fewer than were asked for, none are padded. */
  readonly reasons: readonly ("stop" | "length")[];
  /** Sums and scores for the response's `decoding` object, e.g. { proposed: 40, accepted: 31 }. */
  readonly metrics?: Readonly<Record<string, number>>;
  /** Per choice: score and the like, for `decoding.choices`. */
  readonly choices?: readonly Readonly<Record<string, number>>[];
  /** Id of the model whose answer each choice is, where that is not the same for every request. */
  readonly servedBy?: readonly string[];
}

/** A decoding method. */
export interface Strategy<P = unknown, R extends Roles = Roles, O extends Roles = Roles> {
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
  /** Further roles and what they need, where the parameters ask for them; see {@link roles}. */
  readonly optionalNeeds?: O;
  /**
   * Roles of {@link optionalNeeds} that these parameters use. Those must be filled, the others must
   * not be.
   */
  roles?(params: P): readonly (keyof O & string)[];
  /**
   * Whether models that honour a constraint by themselves are left to it, told by `format`, instead of
   * having what `constrainedNeeds` asks for. @default false
   */
  readonly delegates?: boolean;
  /** What it needs besides when there is a constraint. */
  readonly constrainedNeeds?: Roles;
  readonly params: Schema<P>;
  /** Upper bound on sessions held at once, for limits and admission. */
  sequences(params: P, choices: number): number;
  /**
   * What `needs` cannot say, e.g. "same vocabulary" or "at most num_beams choices".
   *
   * @throws {RangeError | CapabilityError}
   */
  check?(models: StrategyContext<P, R, O>["models"], demand: StrategyDemand<P>): void;
  run(context: StrategyContext<P, R, O>): AsyncGenerator<Chunk, Finish, void>;
}

/** Infers parameter and role types. */
export function defineStrategy<P, const R extends Roles, const O extends Roles = NoRoles>(
  strategy: Strategy<P, R, O>,
): Strategy<P, R, O> {
  return strategy;
}

/** Roles a run with these parameters fills, in order, and what each needs. */
export function usedRoles(strategy: Strategy, params: unknown): Roles {
  const { needs, optionalNeeds = {} } = strategy;
  const chosen = strategy.roles?.(params) ?? [];
  return {
    ...needs,
    ...Object.fromEntries(chosen.map((role) => [role, optionalNeeds[role] ?? []])),
  };
}

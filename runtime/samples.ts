/** What models say of tokens, and how they are asked to draw them. Plain data. */
import type { ConstraintSpec } from "./constraint_spec.ts";
import type { SamplingParams } from "./sampling.ts";
import type { TokenId } from "./vocab.ts";

/** A token and its natural-log probability. */
export interface Candidate {
  readonly token: TokenId;
  readonly logprob: number;
}

/** Log-probabilities of one emitted token, of the raw model distribution (temperature 1, no masks). */
export interface TokenLogprob extends Candidate {
  /** The most likely tokens, best first; as many as asked for. */
  readonly top: readonly Candidate[];
}

/** A token's text and log-probability, where its id means nothing here. */
export interface TextCandidate {
  readonly token: string;
  /** UTF-8; of part of a character, where the token is one. */
  readonly bytes: readonly number[];
  readonly logprob: number;
}

/** An emitted token as text, and what else was likely. */
export interface TextLogprob extends TextCandidate {
  readonly top: readonly TextCandidate[];
}

/** A token drawn by the model. */
export interface Sampled extends TokenLogprob {
  /** Entropy of the raw distribution in nats, where the model can tell. */
  readonly entropy?: number;
  /** Probability of what the mask allowed, where it was asked for and the model can tell. */
  readonly mass?: number;
  /** Text of this piece, for models whose tokens never cross the wire; `token` is -1 then. */
  readonly text?: string;
  /** How many tokens the text stands for. @default 1 */
  readonly count?: number;
  /** What the model thought before this text, where an upstream tells it apart. */
  readonly reasoning?: string;
  /** The text's tokens one by one, where they were asked for and the model tells them. */
  readonly textLogprobs?: readonly TextLogprob[];
}

/** The k most likely tokens of one position. */
export interface TopK {
  /** Best first; ties by lower token id. Natural logs of the raw distribution. */
  readonly candidates: readonly Candidate[];
  /** Probability not covered by the candidates, in [0, 1]. */
  readonly rest: number;
}

/** One draw; data only, so that it can become a WGSL uniform or JSON for an upstream. */
export interface SampleOptions {
  readonly sampling: SamplingParams;
  /** One bit per allowed token, least significant first, [ceil(vocab / 32)]; absent = all. */
  readonly mask?: Uint32Array;
  /** How many most likely raw log-probabilities to return with the token. @default 0 */
  readonly topLogprobs?: number;
  /**
   * Whether to tell the probability of what the mask allows, at this temperature, before filters.
   * @default false
   */
  readonly mass?: boolean;
}

/** Decoding by the model itself. */
export interface GenerateOptions {
  readonly sampling: SamplingParams;
  /** Upper bound on drawn tokens. */
  readonly maxTokens: number;
  /** How many most likely raw log-probabilities to return per token. @default 0 */
  readonly topLogprobs?: number;
  /** Draw beyond the model's stop tokens. @default false */
  readonly ignoreStop?: boolean;
  /** Whether anybody reads the log-probabilities; some models save work without. @default true */
  readonly logprobs?: boolean;
  /** What the text must be; only for models that say they see to it, see `honours`. */
  readonly format?: ConstraintSpec | undefined;
}

/** What is asked about rows of logits where they lie, and what comes back. */
import type { Candidate } from "../model.ts";
import type { SamplingParams } from "../sampling.ts";
import type { AttentionRow } from "./kv_pool.ts";
import type { Tensor } from "./tensor.ts";

/** One draw from a row of logits on the device; see sampling/draw.ts for what it means. */
export interface DrawSpec {
  /** Row of the logits. */
  readonly row: number;
  /** Place in the sequence the token would take. */
  readonly position: number;
  readonly sampling: SamplingParams;
  readonly mask?: Uint32Array | undefined;
  readonly promptTokens: readonly number[];
  readonly completionTokens: readonly number[];
  /** How many most likely tokens to name; asked only of backends with a {@link Backend.view}. @default 0 */
  readonly topLogprobs?: number;
  /** Whether to tell the probability of what the mask allows, see sampling/mass.ts. @default false */
  readonly mass?: boolean;
}

/** What a draw came to. */
export interface Drawn {
  readonly token: number;
  readonly logprob: number;
  readonly entropy: number;
  /** The most likely tokens where they were asked for, best first. */
  readonly top?: readonly Candidate[];
  /** Where it was asked for and the backend tells it. */
  readonly mass?: number;
}

/** What is asked about a row of logits. */
export interface LogitsAsk {
  readonly row: number;
  /** How many most likely tokens to name. */
  readonly top: number;
  /** A token whose logit is wanted. */
  readonly target?: number;
}

/** What a row of logits says; the numbers are those of sampling/rows.ts and sampling/top_k.ts. */
export interface LogitsSummary {
  readonly best: number;
  readonly logNormalizer: number;
  /** In nats. */
  readonly entropy: number;
  /** The most likely tokens with their raw log-probabilities, best first; ties by lower id. */
  readonly top: readonly Candidate[];
  /** The logit of {@link LogitsAsk.target}, where the backend was asked for one. */
  readonly target?: number;
}

/** What {@link Ops.tell} returns, for {@link Backend.told}. */
export interface Told {
  readonly stats: Tensor;
  readonly top?: Tensor;
  readonly ids?: Tensor;
  readonly targets?: Tensor;
}

/** A step of one token and one draw per row, in one order; the arrays it was recorded with. */
export interface AheadStep {
  readonly tokens: Uint32Array;
  readonly positions: Uint32Array;
  readonly rows: readonly AttentionRow[];
  /** What {@link Ops.draw} returned. */
  readonly result: Tensor;
}

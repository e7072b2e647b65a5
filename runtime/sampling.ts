/** Sampling parameters as plain data, and the sampler that defines what they mean. */
import type { TokenId } from "./model.ts";
import type { Seed } from "./rng.ts";

/** Complete: options are resolved at the edge, inner code has no defaults. */
export interface SamplingParams {
  /** 0 = arg max (ties: lower token id). */
  readonly temperature: number;
  /** Keep the k most likely tokens; 0 = off. */
  readonly topK: number;
  /** Nucleus, in (0, 1]; 1 = off. */
  readonly topP: number;
  /** Keep tokens with at least this share of the best one's probability, in [0, 1]; 0 = off. */
  readonly minP: number;
  /** Locally typical sampling, in (0, 1]; 1 = off. */
  readonly typicalP: number;
  /** Divides positive and multiplies negative logits of tokens seen in prompt or completion; 1 = off. */
  readonly repetitionPenalty: number;
  /** Subtracted once from logits of tokens in the completion, -2..2; 0 = off. */
  readonly presencePenalty: number;
  /** Subtracted per occurrence in the completion, -2..2; 0 = off. */
  readonly frequencyPenalty: number;
  /** Added to logits, per token. */
  readonly logitBias: readonly (readonly [token: TokenId, bias: number])[];
  /** Noise is keyed by (seed, position, token id). */
  readonly seed: Seed;
}

/** Greedy decoding with nothing else switched on. */
export const greedySampling: SamplingParams = {
  temperature: 0,
  topK: 0,
  topP: 1,
  minP: 0,
  typicalP: 1,
  repetitionPenalty: 1,
  presencePenalty: 0,
  frequencyPenalty: 0,
  logitBias: [],
  seed: { low: 0, high: 0 },
};

export {
  argMax,
  entropy,
  expNonPositive,
  logNormalizer,
  logSoftmax,
  type RowStats,
  rowStats,
} from "./sampling/rows.ts";
export { largest, topCandidates, topK, withRest } from "./sampling/top_k.ts";
export { type DrawContext, hasPenalties } from "./sampling/adjust.ts";
export { allowedMass } from "./sampling/mass.ts";
export {
  type DrawnToken,
  sampleRow,
  type SampleRowOptions,
  warpedLogprobs,
} from "./sampling/draw.ts";

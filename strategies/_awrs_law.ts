/** The next-token law p of a step. */
import {
  allowedMass,
  expNonPositive,
  hasPenalties,
  type SamplingParams,
  type TokenId,
  warpedLogprobs,
} from "../runtime/mod.ts";

/** What a law depends on besides the logits. */
export interface LawContext {
  readonly sampling: SamplingParams;
  readonly promptTokens: readonly TokenId[];
  readonly completionTokens: readonly TokenId[];
}

/** A law over the tokens that a mask allows. */
export interface StepLaw {
  /** Sum 1, [vocab]; 0 also where a probability is too small for a double. */
  readonly probs: Float64Array;
  /** A new array: natural logs, -Infinity where impossible, [vocab]. */
  logprobs(): Float64Array;
  /** Probability of the allowed tokens before the filters (top-k, top-p, min-p, typical-p). */
  kept(): number;
}

/**
 * p over the tokens a mask allows (all without one), at least one of which is possible.
 *
 * @param row logits, shape [vocab]
 */
export function stepLaw(
  row: Float32Array,
  mask: Uint32Array | undefined,
  context: LawContext,
): StepLaw {
  if (isPlain(context.sampling)) return plainLaw(row, mask, context.sampling.temperature);
  const logprobs = warpedLogprobs(row, { ...context, mask });
  return {
    ...lawFrom(logprobs),
    kept: () => mask ? allowedMass(row, mask, context) : 1,
  };
}

/** The law with these log-probabilities, all of what there is. */
export function lawFrom(logprobs: Float64Array): StepLaw {
  return { probs: logprobs.map(Math.exp), logprobs: () => logprobs.slice(), kept: () => 1 };
}

/** Nothing but a temperature. */
function isPlain(sampling: SamplingParams): boolean {
  const { temperature, topK, topP, minP, typicalP, logitBias } = sampling;
  return temperature > 0 && topK === 0 && topP >= 1 && minP <= 0 && typicalP >= 1 &&
    logitBias.length === 0 && !hasPenalties(sampling);
}

/** One pass of exponentials, where anything else takes six. */
function plainLaw(row: Float32Array, mask: Uint32Array | undefined, temperature: number): StepLaw {
  const isAllowed = (token: number) => !mask || (mask[token >> 5]! >>> (token & 31) & 1) === 1;
  let best = -Infinity, highest = -Infinity;
  for (let i = 0; i < row.length; i++) {
    if (row[i]! > highest) highest = row[i]!;
    if (row[i]! > best && isAllowed(i)) best = row[i]!;
  }
  const scale = 1 / temperature;
  const probs = new Float64Array(row.length);
  let sum = 0, others = 0;
  for (let i = 0; i < row.length; i++) {
    const score = (row[i]! - best) * scale;
    if (isAllowed(i)) sum += probs[i] = score < -49 ? Math.exp(score) : expNonPositive(score);
    else others += Math.exp((row[i]! - highest) * scale);
  }
  for (let i = 0; i < probs.length; i++) probs[i]! /= sum;
  const logSum = Math.log(sum);
  return {
    probs,
    logprobs: () =>
      Float64Array.from(
        row,
        (logit, i) => isAllowed(i) ? (logit - best) * scale - logSum : -Infinity,
      ),
    kept: () => 1 / (1 + others / sum * Math.exp((highest - best) * scale)),
  };
}

/** The same law without filters at temperature 1: the order in which arg max would go on. */
export function rankedLaw(row: Float32Array, context: LawContext): Float64Array {
  return warpedLogprobs(row, {
    ...context,
    sampling: { ...unfiltered(context.sampling), temperature: 1 },
  });
}

function unfiltered(sampling: SamplingParams): SamplingParams {
  return { ...sampling, topK: 0, topP: 1, minP: 0, typicalP: 1 };
}

/** Whether a mask leaves a token that has any probability. */
export function isPossible(row: Float32Array, mask: Uint32Array): boolean {
  for (let word = 0; word < mask.length; word++) {
    for (let bits = mask[word]!; bits !== 0; bits &= bits - 1) {
      const token = word * 32 + 31 - Math.clz32(bits & -bits);
      if (token < row.length && row[token]! > -Infinity) return true;
    }
  }
  return false;
}

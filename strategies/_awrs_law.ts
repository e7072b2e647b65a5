/** The next-token law p of a step, and how much of it a mask lets through. */
import {
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

/**
 * Probability of the tokens a mask allows, after bias, penalties and temperature, before the filters
 * (top-k, top-p, min-p, typical-p), which work on what the mask left.
 *
 * @param row logits, shape [vocab]
 * @param mask one bit per token, [ceil(vocab / 32)]
 */
export function allowedMass(row: Float32Array, mask: Uint32Array, context: LawContext): number {
  const { sampling } = context;
  if (!isShaped(sampling)) return plainMass(row, mask, sampling.temperature);
  const logprobs = warpedLogprobs(row, { ...context, sampling: unfiltered(sampling) });
  let mass = 0;
  eachAllowed(mask, row.length, (token) => mass += Math.exp(logprobs[token]!));
  return mass;
}

/** Log-probabilities of p over the tokens a mask allows (all without one), normalised, [vocab]. */
export function stepLaw(
  row: Float32Array,
  mask: Uint32Array | undefined,
  context: LawContext,
): Float64Array {
  return warpedLogprobs(row, { ...context, mask });
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

/** Whether anything but the temperature moves the logits. */
function isShaped(sampling: SamplingParams): boolean {
  return sampling.logitBias.length > 0 || hasPenalties(sampling);
}

/** Two passes over the row: what an exact-mask step costs beside its draw. */
function plainMass(row: Float32Array, mask: Uint32Array, temperature: number): number {
  let best = -Infinity;
  for (let i = 0; i < row.length; i++) if (row[i]! > best) best = row[i]!;
  const scale = 1 / temperature;
  let total = 0, allowed = 0;
  for (let i = 0; i < row.length; i++) {
    const score = (row[i]! - best) * scale;
    if (score <= -49) continue; // less than a double's rounding of the sum
    const mass = expNonPositive(score);
    total += mass;
    if ((mask[i >> 5]! >>> (i & 31) & 1) === 1) allowed += mass;
  }
  if (allowed === 0) {
    eachAllowed(mask, row.length, (token) => allowed += Math.exp((row[token]! - best) * scale));
  }
  return Math.min(1, allowed / total);
}

/** Whether a mask leaves a token that has any probability. */
export function isPossible(row: Float32Array, mask: Uint32Array): boolean {
  let found = false;
  eachAllowed(mask, row.length, (token) => found ||= row[token]! > -Infinity);
  return found;
}

function eachAllowed(mask: Uint32Array, vocab: number, visit: (token: TokenId) => void): void {
  for (let word = 0; word < mask.length; word++) {
    for (let bits = mask[word]!; bits !== 0; bits &= bits - 1) {
      const token = word * 32 + 31 - Math.clz32(bits & -bits);
      if (token < vocab) visit(token);
    }
  }
}

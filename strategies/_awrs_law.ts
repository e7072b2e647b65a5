/** The next-token law p of a step. */
import { type SamplingParams, type TokenId, warpedLogprobs } from "../runtime/mod.ts";

/** What a law depends on besides the logits. */
export interface LawContext {
  readonly sampling: SamplingParams;
  readonly promptTokens: readonly TokenId[];
  readonly completionTokens: readonly TokenId[];
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

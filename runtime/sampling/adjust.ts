/** Changes to logits that come before temperature: bias, penalties, mask. */
import type { TokenId } from "../model.ts";
import type { SamplingParams } from "../sampling.ts";

/** What a draw depends on besides the logits. */
export interface DrawContext {
  readonly sampling: SamplingParams;
  /** One bit per allowed token, least significant first, [ceil(vocab / 32)]; absent = all. */
  readonly mask?: Uint32Array | undefined;
  /** Tokens before the completion, for the repetition penalty. */
  readonly promptTokens: readonly TokenId[];
  /** Tokens of the completion so far, for all penalties. */
  readonly completionTokens: readonly TokenId[];
}

/** Whether {@link adjust} would leave the logits as they are. */
export function isUnadjusted({ sampling, mask }: DrawContext): boolean {
  return mask === undefined && sampling.logitBias.length === 0 && !hasPenalties(sampling);
}

/** Whether the draw depends on the tokens before it. */
export function hasPenalties(sampling: SamplingParams): boolean {
  return sampling.repetitionPenalty !== 1 || sampling.presencePenalty !== 0 ||
    sampling.frequencyPenalty !== 0;
}

/**
 * Adds the bias, then applies the repetition, frequency and presence penalties, then drops what the
 * mask forbids (as -Infinity). Changes `row` in place.
 *
 * @param counts scratch, [vocab], all zero; zero again on return
 * @throws {RangeError} if a token id is outside the vocabulary or the mask is too short
 */
export function adjust(row: Float64Array, counts: Int32Array, context: DrawContext): void {
  const { sampling, mask } = context;
  for (const [token, bias] of sampling.logitBias) {
    requireToken(token, row.length);
    row[token]! += bias;
  }
  if (hasPenalties(sampling)) penalise(row, counts, context);
  if (mask) applyMask(row, mask);
}

function penalise(row: Float64Array, counts: Int32Array, context: DrawContext): void {
  const { sampling, promptTokens, completionTokens } = context;
  const { repetitionPenalty, presencePenalty, frequencyPenalty } = sampling;
  const seen = repetitionPenalty === 1 ? [completionTokens] : [promptTokens, completionTokens];
  for (const tokens of seen) for (const token of tokens) requireToken(token, row.length);
  for (const token of completionTokens) counts[token]!++;
  for (const tokens of seen) {
    for (const token of tokens) {
      const count = counts[token]!;
      if (count < 0) continue; // already done
      let x = row[token]!;
      if (repetitionPenalty !== 1) x = x > 0 ? x / repetitionPenalty : x * repetitionPenalty;
      if (count > 0) x -= count * frequencyPenalty + presencePenalty;
      row[token] = x;
      counts[token] = -1;
    }
  }
  for (const tokens of seen) for (const token of tokens) counts[token] = 0;
}

function applyMask(row: Float64Array, mask: Uint32Array): void {
  if (mask.length * 32 < row.length) {
    throw new RangeError(`A mask of ${mask.length} words is too short for ${row.length} tokens`);
  }
  for (let word = 0, start = 0; start < row.length; word++, start += 32) {
    let forbidden = ~mask[word]!;
    if (forbidden === -1) {
      row.fill(-Infinity, start, start + 32);
      continue;
    }
    while (forbidden !== 0) {
      const bit = 31 - Math.clz32(forbidden);
      if (start + bit < row.length) row[start + bit] = -Infinity;
      forbidden &= ~(1 << bit);
    }
  }
}

function requireToken(token: TokenId, vocab: number): void {
  if (!Number.isInteger(token) || token < 0 || token >= vocab) {
    throw new RangeError(`Token ${token} is outside the vocabulary of ${vocab}`);
  }
}

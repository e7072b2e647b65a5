/** How much of a next-token distribution a mask lets through. */
import { type DrawContext, hasPenalties } from "./adjust.ts";
import { warpedLogprobs } from "./draw.ts";
import { weightOf } from "./filters.ts";
import { rowStats } from "./rows.ts";

/** Where 1 minus what is forbidden is less, digits are lost: what is allowed is summed instead. */
const lossy = 1e-3;

/**
 * Probability of the tokens a mask allows, after bias, penalties and temperature, before the filters
 * (top-k, top-p, min-p, typical-p), which work on what the mask left. In [0, 1].
 *
 * Whichever are fewer are summed, the allowed tokens or the forbidden ones.
 *
 * @param logits shape [vocab], natural-log scale
 * @param mask one bit per token, least significant first, [ceil(vocab / 32)]
 * @param context temperature above 0; its mask is not looked at
 * @param logNormalizer the row's, where it is known
 * @throws {EngineError} if the row holds no distribution
 */
export function allowedMass(
  logits: Float32Array,
  mask: Uint32Array,
  context: DrawContext,
  logNormalizer?: number,
): number {
  const { sampling } = context;
  if (sampling.logitBias.length > 0 || hasPenalties(sampling)) {
    const unfiltered = { ...sampling, topK: 0, topP: 1, minP: 0, typicalP: 1 };
    const row = warpedLogprobs(logits, { ...context, sampling: unfiltered, mask: undefined });
    return massOf({ row, shift: 0, scale: 1, total: 1 }, mask);
  }
  if (sampling.temperature === 1) {
    const shift = logNormalizer ?? rowStats(logits).logNormalizer;
    return massOf({ row: logits, shift, scale: 1, total: 1 }, mask);
  }
  const shift = logits[rowStats(logits).best]!;
  const scale = 1 / sampling.temperature;
  let total = 0;
  for (let i = 0; i < logits.length; i++) total += weightOf((logits[i]! - shift) * scale);
  return massOf({ row: logits, shift, scale, total }, mask);
}

/** A token's probability is e^((row[token] - shift) * scale) / total. */
interface Law {
  readonly row: Float32Array | Float64Array;
  readonly shift: number;
  readonly scale: number;
  readonly total: number;
}

function massOf(law: Law, mask: Uint32Array): number {
  const { row: { length }, total } = law;
  if (2 * countAllowed(mask, length) > length) {
    const mass = 1 - sumOver(law, mask, -1) / total;
    if (mass > lossy) return mass;
  }
  return Math.min(1, sumOver(law, mask, 0) / total);
}

/** @param flip 0 = over the tokens of the mask, -1 = over all others */
function sumOver({ row, shift, scale }: Law, mask: Uint32Array, flip: 0 | -1): number {
  let sum = 0;
  for (let word = 0, start = 0; start < row.length; word++, start += 32) {
    for (let bits = mask[word]! ^ flip; bits !== 0;) {
      const bit = 31 - Math.clz32(bits);
      bits &= ~(1 << bit);
      const token = start + bit;
      if (token < row.length) sum += weightOf(Math.min(0, (row[token]! - shift) * scale));
    }
  }
  return sum;
}

function countAllowed(mask: Uint32Array, vocab: number): number {
  let count = 0;
  for (let word = 0; word * 32 < vocab; word++) {
    let bits = mask[word]!;
    bits -= (bits >>> 1) & 0x55555555;
    bits = (bits & 0x33333333) + ((bits >>> 2) & 0x33333333);
    count += Math.imul((bits + (bits >>> 4)) & 0x0f0f0f0f, 0x01010101) >>> 24;
  }
  return count;
}

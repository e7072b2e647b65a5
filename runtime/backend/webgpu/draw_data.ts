/**
 * Draws as words of the step's data, 16 per draw: row of the logits; seed, low and high; position;
 * 1 / temperature; temperature; top-k; top-p; min-p; word of the mask, 0 for none; word of the list of
 * penalties and their number; 0 for temperature 0, else 1; 0, 0, 0.
 */
import { hasPenalties } from "../../sampling.ts";
import type { DrawSpec } from "../backend.ts";
import type { Stage } from "./stage.ts";

/** Whether single tokens' logits change. */
export function isListed({ sampling }: DrawSpec): boolean {
  return sampling.logitBias.length > 0 || hasPenalties(sampling);
}

/**
 * Puts draws into the step's data.
 *
 * @returns their word
 * @throws {RangeError} if a mask is too short or a token is unknown
 */
export function putDraws(stage: Stage, draws: readonly DrawSpec[], vocab: number): number {
  const blocks = draws.map((one) => {
    const { sampling: { seed, temperature, topK, topP, minP }, mask } = one;
    if (mask !== undefined && mask.length * 32 < vocab) {
      throw new RangeError(`A mask of ${mask.length} words is too short for ${vocab} tokens`);
    }
    const list = isListed(one) ? listOf(one, vocab) : new Uint32Array(0);
    const heat = temperature === 0 ? 1 : temperature;
    return [
      one.row,
      seed.low,
      seed.high,
      one.position,
      bits(1 / heat),
      bits(heat),
      topK,
      bits(topP),
      bits(minP),
      mask === undefined ? 0 : stage.data.put(mask),
      list.length === 0 ? 0 : stage.data.put(list),
      list.length / 4,
      temperature === 0 ? 0 : 1,
      0,
      0,
      0,
    ];
  });
  return stage.data.put(Uint32Array.from(blocks.flat()));
}

/** Tokens whose logits change: id, bias, repetition penalty, what is subtracted. */
function listOf(
  { sampling, promptTokens, completionTokens }: DrawSpec,
  vocab: number,
): Uint32Array {
  const { repetitionPenalty, presencePenalty, frequencyPenalty, logitBias } = sampling;
  const entries = new Map<number, { bias: number; seen: boolean; count: number }>();
  const entry = (token: number) => {
    if (!Number.isInteger(token) || token < 0 || token >= vocab) {
      throw new RangeError(`Token ${token} is outside the vocabulary of ${vocab}`);
    }
    let known = entries.get(token);
    if (known === undefined) entries.set(token, known = { bias: 0, seen: false, count: 0 });
    return known;
  };
  for (const [token, bias] of logitBias) entry(token).bias += bias;
  if (hasPenalties(sampling)) {
    if (repetitionPenalty !== 1) { for (const token of promptTokens) entry(token).seen = true; }
    for (const token of completionTokens) {
      const known = entry(token);
      known.seen = true;
      known.count++;
    }
  }
  const words = [...entries].flatMap(([token, { bias, seen, count }]) => [
    token,
    bits(bias),
    bits(seen ? repetitionPenalty : 1),
    bits(count > 0 ? count * frequencyPenalty + presencePenalty : 0),
  ]);
  return Uint32Array.from(words);
}

const scratch = new Float32Array(1);
const scratchBits = new Uint32Array(scratch.buffer);

function bits(value: number): number {
  scratch[0] = value;
  return scratchBits[0]!;
}

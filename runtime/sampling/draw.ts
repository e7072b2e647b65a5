/**
 * Draws a token from a row of logits. This file defines what every sampling parameter means; device
 * samplers are tested against it.
 *
 * Order: logit bias, repetition penalty, frequency and presence penalties, mask, temperature, top-k,
 * top-p, min-p, typical-p. Each filter works on what the ones before it left, renormalised, at the
 * request's temperature.
 *
 * Compared: Hugging Face transformers applies temperature, top-k, top-p, min-p, typical in this order
 * and has no presence or frequency penalty. vLLM masks first and applies min-p before top-k and
 * top-p; min-p depends on the best token alone, so only its place relative to top-p can show.
 */
import { EngineError } from "../errors.ts";
import type { Candidate, TokenId } from "../model.ts";
import type { SamplingParams } from "../sampling.ts";
import { type Seed, tokenGumbel } from "../rng.ts";
import { adjust, type DrawContext, isUnadjusted } from "./adjust.ts";
import {
  keepMinP,
  keepTopK,
  keepTopP,
  keepTypical,
  type Survivors,
  weightOf,
  type Workspace,
} from "./filters.ts";
import { type RowStats, rowStats } from "./rows.ts";
import { topCandidates } from "./top_k.ts";

/** Everything one draw depends on besides the logits. */
export interface SampleRowOptions extends DrawContext {
  /** How many most likely raw log-probabilities to return. */
  readonly topLogprobs: number;
  /** Place in the sequence the token would take, 0-based: keys the noise. */
  readonly position: number;
}

/** A drawn token and the raw distribution it came from (temperature 1, nothing applied). */
export interface DrawnToken {
  readonly token: TokenId;
  readonly logprob: number;
  /** Best first; ties by lower id. */
  readonly top: readonly Candidate[];
  /** In nats. */
  readonly entropy: number;
}

/** Reused between draws, grown to the largest vocabulary seen. */
interface Scratch extends Survivors, Workspace {
  readonly row: Float64Array;
  readonly counts: Int32Array;
}
let scratch = createScratch(0);

function createScratch(vocab: number): Scratch {
  return {
    row: new Float64Array(vocab),
    counts: new Int32Array(vocab),
    ids: new Uint32Array(vocab),
    scores: new Float64Array(vocab),
    weights: new Float64Array(vocab),
    keys: new Float64Array(vocab),
    masses: new Float64Array(vocab),
    size: 0,
  };
}

/**
 * Draws one token: the arg max of warped log-probability plus Gumbel noise keyed by (seed, position,
 * token); at temperature 0 the arg max after bias, penalties and mask, ties by lower id.
 *
 * @param logits shape [vocab], natural-log scale; not changed
 * @throws {EngineError} if the row holds no distribution (NaN, +Infinity, or nothing possible)
 * @throws {RangeError} if mask and logits leave no token, or a token id is unknown
 */
export function sampleRow(logits: Float32Array, options: SampleRowOptions): DrawnToken {
  const stats = rowStats(logits);
  const token = chooseToken(logits, stats, options);
  return {
    token,
    logprob: logits[token]! - stats.logNormalizer,
    top: options.topLogprobs > 0
      ? topCandidates(logits, options.topLogprobs, stats.logNormalizer)
      : [],
    entropy: stats.entropy,
  };
}

function chooseToken(logits: Float32Array, stats: RowStats, options: SampleRowOptions): TokenId {
  const { sampling } = options;
  if (sampling.temperature === 0) {
    return isUnadjusted(options) ? stats.best : bestOf(adjusted(logits, options));
  }
  return argMaxWithNoise(survivorsOf(logits, options), sampling.seed, options.position);
}

/**
 * The distribution a draw is made from, as log-probabilities: 0 and -Infinity at temperature 0.
 *
 * @param logits shape [vocab]; not changed
 * @throws {EngineError | RangeError} as {@link sampleRow}
 */
export function warpedLogprobs(logits: Float32Array, context: DrawContext): Float64Array {
  rowStats(logits); // refuses rows without a distribution
  const out = new Float64Array(logits.length).fill(-Infinity);
  if (context.sampling.temperature === 0) {
    out[bestOf(adjusted(logits, context))] = 0;
    return out;
  }
  const { ids, scores, size } = survivorsOf(logits, context);
  let sum = 0;
  for (let i = 0; i < size; i++) sum += weightOf(scores[i]!);
  const normalizer = Math.log(sum);
  for (let i = 0; i < size; i++) out[ids[i]!] = scores[i]! - normalizer;
  return out;
}

/** The logits after bias, penalties and mask, in scratch memory. */
function adjusted(logits: Float32Array, context: DrawContext): Float64Array {
  if (scratch.row.length < logits.length) scratch = createScratch(logits.length);
  const row = scratch.row.subarray(0, logits.length);
  row.set(logits);
  adjust(row, scratch.counts, context);
  return row;
}

/** Arg max, ties by lower id. @throws {RangeError} if nothing is left */
function bestOf(row: Float64Array): TokenId {
  let best = 0;
  for (let i = 1; i < row.length; i++) if (row[i]! > row[best]!) best = i;
  if (row[best] === -Infinity) throw new RangeError("Cannot sample: no token is allowed here");
  if (!Number.isFinite(row[best])) throw new EngineError("A logit is not a number");
  return best;
}

/** The tokens a draw at temperature > 0 is among, with scores relative to the best, in scratch. */
function survivorsOf(logits: Float32Array, context: DrawContext): Survivors {
  const row = adjusted(logits, context);
  return filtered(row, undefined, row[bestOf(row)]!, context.sampling);
}

/**
 * As a draw's own filters, on those of a row's tokens that a kernel has picked: what is not among
 * them must be what the first filter that is on would drop.
 *
 * @param ids ascending
 * @param logits of these tokens, nothing to be adjusted
 * @param best the largest logit of the row
 * @param sampling temperature > 0
 * @returns in memory that the next draw overwrites
 */
export function filterPicked(
  ids: Uint32Array,
  logits: Float32Array,
  best: number,
  sampling: SamplingParams,
): Survivors {
  const room = scratch.row.length;
  if (room < logits.length) scratch = createScratch(Math.max(logits.length, 2 * room));
  return filtered(logits, ids, best, sampling);
}

function filtered(
  row: Float64Array | Float32Array,
  ids: Uint32Array | undefined,
  best: number,
  { temperature, topK, topP, minP, typicalP }: SamplingParams,
): Survivors {
  const survivors: Survivors = scratch;
  let size = 0;
  for (let i = 0; i < row.length; i++) {
    const score = (row[i]! - best) / temperature;
    if (score === -Infinity) continue;
    survivors.ids[size] = ids === undefined ? i : ids[i]!;
    survivors.scores[size++] = score;
  }
  survivors.size = size;
  keepTopK(survivors, topK, scratch); // the only filter that needs no weights, and often the last
  if (topP >= 1 && minP <= 0 && typicalP >= 1) return survivors;
  for (let i = 0; i < survivors.size; i++) survivors.weights[i] = weightOf(survivors.scores[i]!);
  keepTopP(survivors, topP, scratch);
  keepMinP(survivors, minP);
  keepTypical(survivors, typicalP, scratch);
  return survivors;
}

/** Largest value {@link tokenGumbel} can give: -ln(-ln((2^32 - 0.5) / 2^32)), rounded up. */
const largestNoise = 22.9;

/**
 * Arg max of score plus noise. Noise is only computed for tokens that could still win with the
 * largest noise there is.
 */
export function argMaxWithNoise(survivors: Survivors, seed: Seed, position: number): TokenId {
  const { ids, scores, size } = survivors;
  let winner = -1;
  let highest = -Infinity;
  let block = -1;
  for (let i = 0; i < size; i++) {
    const score = scores[i]!;
    if (score + largestNoise < highest) continue;
    const id = ids[i]!;
    if (id >> 2 !== block) {
      block = id >> 2;
      tokenGumbel(noise, seed, position, block);
    }
    const value = score + noise[id & 3]!;
    if (value > highest) {
      highest = value;
      winner = id;
    }
  }
  return winner;
}
const noise = new Float64Array(4);

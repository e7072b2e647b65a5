/**
 * Draws on the device: the sampler's steps as dispatches, so that a token comes back and not its row
 * of logits. runtime/sampling/draw.ts defines what a draw is; here it is done in f32, and where the
 * rounding of f32 might decide between two tokens (or 64 candidates are too few to apply top-k or
 * top-p) the device says so and the host draws from the logits. So the tokens are the host's.
 */
import * as kernels from "../../../shaders/mod.ts";
import { ShapeError } from "../../errors.ts";
import { hasPenalties } from "../../sampling.ts";
import type { Drawn, DrawSpec } from "../backend.ts";
import { matrix } from "../cpu/tensor.ts";
import { isListed, putDraws } from "./draw_data.ts";
import { stepData, type Target, target } from "./recorder.ts";
import type { Stage } from "./stage.ts";
import type { GpuTensor, Slice } from "./tensor.ts";

/** Results of a draw: statistics of its raw, adjusted and perturbed row, see draw_result.wgsl. */
export const WIDTH = 24;
/** Tokens one workgroup looks at, and candidates it keeps. */
const PART = 1024;
export const KEPT = 64;
/** Steps of one loop at most: some drivers end longer ones. */
const MOST_PARTS = 32_768;
/** Scores closer than this may be in another order in double precision. */
const MARGIN = 1e-4;

/** Whether the device can try; other draws, and those that are to be refused, are the host's. */
export function canDraw(one: DrawSpec, vocab: number): boolean {
  const { sampling: { temperature, typicalP, logitBias }, mask } = one;
  if (vocab > PART * MOST_PARTS || typicalP < 1 || (temperature !== 0 && !(temperature >= 1e-3))) {
    return false;
  }
  if (mask !== undefined && mask.length * 32 < vocab) return false;
  if (one.mass && (temperature !== 1 || mask === undefined || isListed(one))) return false;
  const isKnown = (token: number) => Number.isInteger(token) && token >= 0 && token < vocab;
  if (!logitBias.every(([token]) => isKnown(token))) return false;
  return !hasPenalties(one.sampling) ||
    (one.promptTokens.every(isKnown) && one.completionTokens.every(isKnown));
}

/**
 * @param logits [rows, padded vocabulary]
 * @returns [draws, 24], to be read with {@link drawnFrom}
 * @throws {RangeError} if a mask is too short or a token is unknown
 */
export function draw(
  stage: Stage,
  logits: GpuTensor,
  vocab: number,
  draws: readonly DrawSpec[],
): GpuTensor {
  const [rows, stride] = matrix("draw", logits);
  if (vocab > stride || draws.some(({ row }) => row >= rows)) {
    throw new ShapeError("draw", `logits are [${rows}, ${stride}], ${vocab} tokens are drawn from`);
  }
  const count = draws.length, from = logits.target;
  const at = stage.draws = putDraws(stage, draws, vocab);
  const stats = stage.slice("draw", [count, WIDTH]);
  const parts = Math.ceil(vocab / PART);
  const room = (label: string, ...shape: number[]) => stage.slice(label, shape);
  const found = partsOf(stage, count, vocab);
  const shape = { vocab, at, count, found, stats };
  const summarise = (x: Slice | undefined, word: number, options: { TEMPERED?: 1 }) =>
    x === undefined
      ? rowStats(stage, from, stride, word, shape, { ...options, RAW: 1 })
      : rowStats(stage, all(x), vocab, word, shape, options);
  summarise(undefined, 0, {});
  const isGreedy = draws.every(({ sampling }) => sampling.temperature === 0);
  if (draws.every(isPlain)) {
    stage.dispatch(
      kernels.drawResult,
      [count, stride, at],
      [from, stepData, stepData, stepData, all(stats)],
      [Math.ceil(count / 64), 1, 1],
      { GREEDY: 1, PLAIN: 1 },
    );
    return stage.tensor("draw", [count, WIDTH], stats);
  }
  const work = room("draw", count, vocab);
  stage.dispatch(
    kernels.adjustLogits,
    [vocab, stride, at],
    [from, stepData, all(work)],
    [parts, count, 1],
  );
  if (draws.some(isListed)) {
    stage.dispatch(kernels.penaliseLogits, [vocab, at], [stepData, all(work)], [1, count, 1]);
  }
  summarise(work, 8, { TEMPERED: 1 });
  let cuts = stats, flags = stats;
  if (!isGreedy) {
    cuts = room("draw", count, 4);
    flags = room("draw", count);
    cut(stage, { draws, vocab, at, work, stats, cuts, flags });
    const noisy = room("draw", count, vocab);
    stage.dispatch(
      kernels.perturbLogits,
      [vocab, at],
      [all(work), all(stats), all(cuts), stepData, all(noisy), all(flags)],
      [Math.ceil(vocab / 256), count, 1],
    );
    summarise(noisy, 16, {});
  }
  stage.dispatch(
    kernels.drawResult,
    [count, stride, at],
    [from, isGreedy ? stepData : all(cuts), isGreedy ? stepData : all(flags), stepData, all(stats)],
    [Math.ceil(count / 64), 1, 1],
    isGreedy ? { GREEDY: 1 } : {},
  );
  return stage.tensor("draw", [count, WIDTH], stats);
}

export const all = ({ result, offset, bytes }: Slice) => target(result, offset, bytes);

/** Statistics of rows, into 8 words of theirs in `stats` from `word` on. */
export function rowStats(
  stage: Stage,
  x: Target,
  stride: number,
  word: number,
  { vocab, at, count, found, stats }: {
    readonly vocab: number;
    /** Word of the draws. */
    readonly at: number;
    readonly count: number;
    readonly found: Slice;
    readonly stats: Slice;
  },
  options: { readonly RAW?: 1; readonly TEMPERED?: 1 },
): void {
  const parts = Math.ceil(vocab / PART), { RAW: _, ...merging } = options;
  stage.dispatch(
    kernels.rowStats,
    [vocab, stride, at],
    [x, stepData, all(found)],
    [parts, count, 1],
    options,
  );
  stage.dispatch(
    kernels.rowStatsMerge,
    [parts, word, at],
    [all(found), stepData, all(stats)],
    [count, 1, 1],
    merging,
  );
}

/** Parts of rows that statistics are made of, 8 words each. */
export function partsOf(stage: Stage, count: number, vocab: number): Slice {
  return stage.slice("row_stats", [count, Math.ceil(vocab / PART), 8]);
}

/** The arg max of the row as it is. */
function isPlain(one: DrawSpec): boolean {
  return one.sampling.temperature === 0 && one.mask === undefined && !isListed(one);
}

interface Cutting {
  readonly draws: readonly DrawSpec[];
  readonly vocab: number;
  readonly at: number;
  readonly work: Slice;
  readonly stats: Slice;
  readonly cuts: Slice;
  readonly flags: Slice;
}

/** Finds the 64 largest logits where a filter needs them, and from them the smallest one left. */
function cut(stage: Stage, { draws, vocab, at, work, stats, cuts, flags }: Cutting): void {
  const count = draws.length;
  const needsTop = draws.some(({ sampling: { topK, topP, minP } }) =>
    topK > 0 || topP < 1 || minP > 0
  );
  // Without a filter the list is not looked at.
  const top = needsTop ? topOf(stage, all(work), count, vocab).values : work;
  stage.dispatch(
    kernels.samplingCut,
    [vocab, at],
    [all(top), all(stats), stepData, all(cuts), all(flags)],
    [count, 1, 1],
  );
}

/**
 * The 64 largest values of each row and where they are, largest first.
 *
 * @param stride numbers from row to row
 * @param at word of the numbers of the rows; 0: all in order
 */
export function topOf(
  stage: Stage,
  x: Target,
  rows: number,
  count: number,
  { stride = count, at = 0 }: { readonly stride?: number; readonly at?: number } = {},
) {
  let values = x, ids = x, left = count, apart = stride;
  do {
    const lists = Math.ceil(left / PART);
    const top = stage.slice("top_k", [rows, lists * KEPT]);
    const names = stage.slice("top_k", [rows, lists * KEPT]);
    const isFirst = values === x;
    stage.dispatch(
      kernels.topK,
      [left, apart, isFirst ? at : 0],
      [values, ids, stepData, all(top), all(names)],
      [lists, rows, 1],
      isFirst ? {} : { PAIRS: 1 },
    );
    values = all(top);
    ids = all(names);
    left = apart = lists * KEPT;
    if (left <= KEPT) return { values: top, ids: names };
  } while (true);
}

/**
 * What the draws came to; undefined where the host has to draw.
 *
 * @param values of the tensor that {@link draw} returned
 */
export function drawnFrom(
  values: Float32Array,
  draws: readonly DrawSpec[],
): (Drawn | undefined)[] {
  const words = new Uint32Array(values.buffer, values.byteOffset, values.length);
  return draws.map((one, d) => {
    const at = d * WIDTH;
    const largest = values[at]!, sum = values[at + 3]!, weighted = values[at + 4]!;
    // Masks and arg max are exact; adjusted values are rounded.
    const isExact = one.sampling.temperature === 0 && !isListed(one);
    const best = values[at + (draws.every(isPlain) ? 0 : 8)]!;
    const isWrong = words[at + 5]! > 0 || !(sum >= 1); // not a distribution: the host says so
    const isEmpty = !(best > -3.3e38); // no token is allowed: likewise
    const isUnsure = words[at + 14]! > 0 || (!isExact && !(values[at + 15]! > MARGIN));
    if (isWrong || isEmpty || isUnsure) return undefined;
    const logSum = Math.log(sum);
    return {
      token: words[at + 6]!,
      logprob: values[at + 7]! - largest - logSum,
      entropy: Math.max(0, logSum - weighted / sum),
      // At temperature 1 what is adjusted is the row under its mask.
      ...one.mass &&
        { mass: Math.min(1, Math.exp(values[at + 8]! - largest) * values[at + 11]! / sum) },
    };
  });
}

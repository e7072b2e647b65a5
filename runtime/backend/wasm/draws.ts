/**
 * Draws over large vocabularies: the tokens, log-probabilities and entropies that sampling/draw.ts
 * gives, to the bit. Kernels do the passes over the vocabulary; what decides is computed here, by the
 * same functions in double precision. Where a sum in another order of additions could decide, the
 * host draws.
 */
import { hasPenalties } from "../../sampling/adjust.ts";
import { argMaxWithNoise, filterPicked } from "../../sampling/draw.ts";
import { tokenGumbel } from "../../rng.ts";
import type { SamplingParams } from "../../sampling.ts";
import type { Drawn, DrawSpec } from "../backend.ts";
import { cutOf } from "./filters.ts";
import { SCAN_TOKENS } from "./kernels/noise_scan.ts";
import { candidatesOf, type RowSummary, summarise } from "./row_summaries.ts";
import { lowestWith, pick, type Picked, type Workspace, workspace } from "./selection.ts";
import type { Step } from "./step.ts";
import type { WasmTensor } from "./tensor.ts";

/** Lowest temperature: its inverse and quotients by it are f32. */
const COLDEST = 1e-30;

/**
 * Whether {@link draw} can make it: logits are changed by nothing but a mask, and locally typical
 * sampling comes after a filter that leaves it few tokens.
 */
export function canDraw({ sampling, mask }: DrawSpec, vocab: number): boolean {
  const { temperature, topK, topP, minP, typicalP, logitBias } = sampling;
  if (vocab < SCAN_TOKENS || logitBias.length > 0 || hasPenalties(sampling)) return false;
  if (mask !== undefined && mask.length * 32 < vocab) return false;
  if (temperature === 0) return true;
  return temperature >= COLDEST && (typicalP >= 1 || topK > 0 || topP < 1 || minP > 0);
}

/**
 * Draws from the first `vocab` columns of rows of logits.
 *
 * @returns per draw, undefined where the row holds no distribution, its mask leaves no token, or the
 * host has to draw
 */
export function draw(
  step: Step,
  logits: WasmTensor,
  vocab: number,
  draws: readonly DrawSpec[],
): readonly (Drawn | undefined)[] {
  const { summaries, table } = summarise(step, logits, vocab, draws.map(({ row }) => row));
  const isPlain = (spec: DrawSpec) =>
    spec.mask === undefined && !spec.topLogprobs &&
    (spec.sampling.temperature === 0 || !isFiltered(spec.sampling));
  const work = draws.every(isPlain) ? undefined : workspace(step, vocab, table);
  const masked = draws.some(({ mask }) => mask !== undefined)
    ? {
      mask: step.scope.block("mask", Math.ceil(vocab / 8) + 4),
      row: step.scope.block("masked", 4 * vocab),
    }
    : undefined;
  const place = step.scope.block("next token", 4);
  return draws.map((spec) => {
    const row = summaries.get(spec.row);
    if (row === undefined) return undefined;
    let token = isMaskedLate(spec, row.best) ? choose(step, row, spec, work, place) : undefined;
    if (token === undefined || !isAllowed(spec.mask!, token)) {
      const from = spec.mask === undefined ? row : maskedRow(step, row, spec.mask, masked!, work!);
      token = from && choose(step, from, spec, work, place);
    }
    if (token === undefined) return undefined;
    const top = spec.topLogprobs ?? 0;
    return {
      token,
      logprob: step.heap.floats[row.address / 4 + token]! - row.logNormalizer,
      entropy: row.entropy,
      ...top > 0 ? { top: candidatesOf(step, row, top, work!) } : {},
    };
  });
}

/**
 * Whether the best of all tokens, if it is allowed, is the best of those allowed. Models that follow a
 * constraint rarely draw anything else, and then no masked row has to be made.
 *
 * @param likeliest of all tokens: has to be allowed too, because scores are differences from it, rounded
 */
function isMaskedLate({ mask, sampling }: DrawSpec, likeliest: number): boolean {
  return mask !== undefined && isAllowed(mask, likeliest) &&
    (sampling.temperature === 0 || !isFiltered(sampling));
}

function isAllowed(mask: Uint32Array, token: number): boolean {
  return (mask[token >> 5]! >>> (token & 31) & 1) === 1;
}

function isFiltered({ topK, topP, minP, typicalP }: SamplingParams): boolean {
  return topK > 0 || topP < 1 || minP > 0 || typicalP < 1;
}

/** What tokens are drawn from: `total` is the sum of its weights at temperature 1, where known. */
type DrawRow = Omit<RowSummary, "logNormalizer" | "entropy" | "total"> & {
  readonly total?: number;
};

/** The row with -Infinity where the mask has no bit; undefined if nothing is left. */
function maskedRow(
  step: Step,
  { address, vocab }: RowSummary,
  mask: Uint32Array,
  to: { readonly mask: number; readonly row: number },
  work: Workspace,
): DrawRow | undefined {
  const { heap, kernels } = step;
  heap.words.set(mask.subarray(0, Math.ceil(vocab / 32)), to.mask / 4);
  kernels.maskRow(address, vocab, to.mask, to.row);
  kernels.groupMax(to.row, vocab, Math.ceil(vocab / 16) * 16, work.out);
  const max = heap.floats[work.out / 4]!;
  if (max === -Infinity) return undefined;
  const row = { address: to.row, vocab, max };
  return { ...row, best: pick(step, row, max, work).ids[0]! };
}

/** The drawn token; undefined where the host has to draw. */
function choose(
  step: Step,
  row: DrawRow,
  { sampling, position }: DrawSpec,
  work: Workspace | undefined,
  place: number,
): number | undefined {
  if (sampling.temperature === 0) return row.best;
  const { seed, temperature } = sampling;
  if (!isFiltered(sampling)) {
    return perturbed(step, row, { seed, temperature, position, lowest: -Infinity, place });
  }
  const cut = cutOf(step, row, sampling, work!);
  if (cut === undefined) return undefined;
  const picked: Picked = cut.picked ?? pick(step, row, cut.lowest, work!);
  const survivors = filterPicked(picked.ids, picked.logits, row.max, cut.rest);
  if (survivors.size <= FEW || sampling.typicalP < 1) {
    return argMaxWithNoise(survivors, seed, position);
  }
  let score = 0;
  for (let i = 0; i < survivors.size; i++) score = Math.min(score, survivors.scores[i]!);
  const lowest = lowestWith(score, row.max, temperature);
  return perturbed(step, row, { seed, temperature, position, lowest, place });
}

/** Up to here the noise of each token costs less than a pass over the vocabulary. */
const FEW = 64;

interface Perturbation extends Pick<SamplingParams, "seed" | "temperature"> {
  readonly position: number;
  /** Tokens below it take no part. */
  readonly lowest: number;
  /** Where the kernel writes a number. */
  readonly place: number;
}

/** Room for rounding in the kernel's bound. */
const SLACK = 1.001;

/** Arg max of score plus noise, ties by lower id. */
function perturbed(
  { heap, kernels }: Step,
  { address, vocab, best, max }: DrawRow,
  { seed, temperature, position, lowest, place }: Perturbation,
): number {
  const noise = new Float64Array(4), { floats } = heap, first = address / 4;
  let winner = -1, highest = -Infinity;
  /** Scores the tokens of one block of four, as sampling/draw.ts does. */
  const score = (block: number) => {
    tokenGumbel(noise, seed, position, block);
    for (let id = 4 * block; id < Math.min(vocab, 4 * block + 4); id++) {
      const logit = floats[first + id]!;
      if (logit < lowest) continue;
      const value = (logit - max) / temperature + noise[id & 3]!;
      if (value > highest || (value === highest && id < winner)) {
        highest = value;
        winner = id;
      }
    }
  };
  const whole = vocab - vocab % SCAN_TOKENS;
  score(best >> 2);
  for (let block = whole >> 2; 4 * block < vocab; block++) score(block);
  const inverse = 1 / temperature;
  for (let from = 0; from < whole; from += SCAN_TOKENS) {
    const limit = SLACK * Math.exp(-highest);
    kernels.noiseScan(
      address,
      from,
      vocab,
      max,
      inverse,
      lowest,
      limit,
      position,
      seed.low,
      seed.high,
      place,
    );
    from = heap.words[place / 4]!;
    if (from >= whole) break;
    for (let block = from >> 2; 4 * block < from + SCAN_TOKENS; block++) score(block);
  }
  return winner;
}

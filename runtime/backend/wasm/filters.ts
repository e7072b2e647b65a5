/**
 * What top-k, top-p and min-p leave of a row of logits, in that order, as runtime/sampling/filters.ts
 * defines them: the tokens not below some logit, ties included. Where few tokens are left to decide
 * about, they are handed over with the filters that are still to be applied.
 */
import type { SamplingParams } from "../../sampling.ts";
import { expNonPositive } from "../../sampling/rows.ts";
import { largest } from "../../sampling/top_k.ts";
import {
  floorOf,
  groupsOf,
  kthLargest,
  type LogitRow,
  lowestWith,
  massThreshold,
  pick,
  type Picked,
  weightSum,
  type Workspace,
} from "./selection.ts";
import type { Step } from "./step.ts";

/** Tokens that the filters may still keep. */
export interface Cut {
  /** Tokens below it are dropped. */
  readonly lowest: number;
  /** All others, where they are at hand. */
  readonly picked?: Picked;
  /** Filters that are to be applied to them, the others off. */
  readonly rest: SamplingParams;
}

/** Up to this k what is left after top-k goes to the sampler's own filters. */
const SMALL_K = 4096;
/** Tokens that most nuclei lie within. */
const NUCLEUS = 256;

/**
 * @param row of logits; `total` is the sum of e^(logit - max), where it is known
 * @returns undefined where rounding could decide
 */
export function cutOf(
  step: Step,
  row: LogitRow & { readonly total?: number },
  sampling: SamplingParams,
  work: Workspace,
): Cut | undefined {
  const { temperature, topK, topP, minP } = sampling;
  const { vocab, max } = row;
  const off = { ...sampling, topK: 0, topP: 1, minP: 0 };
  /** Tokens of at least a score. */
  const from = (score: number) => lowestWith(score, max, temperature);
  const scoreOf = (logit: number) => (logit - max) / temperature;
  let lowest = from(-Infinity);
  if (topK > 0 && topK < vocab) {
    if (topK <= groupsOf(vocab) / 2) {
      // A few more than k, which is for the sampler to see.
      return { lowest: from(scoreOf(floorOf(step, row, topK, work))), rest: sampling };
    }
    lowest = Math.max(lowest, from(scoreOf(kthLargest(step, row, topK, work))));
    if (topK <= SMALL_K) return { lowest, rest: { ...sampling, topK: 0 } };
  }
  if (topP < 1) {
    const isWhole = topK <= 0 || topK >= vocab;
    const total = isWhole && temperature === 1 && row.total !== undefined
      ? row.total
      : weightSum(step, row, lowest, temperature, work);
    const target = topP * total, margin = total * (vocab + 1000) * 2 ** -50;
    const nucleus = isWhole ? smallNucleus(step, row, { temperature, target, margin }, work) : null;
    if (nucleus === undefined) return undefined;
    if (nucleus !== null) return { ...nucleus, rest: { ...off, minP } };
    const goal = { lowest, temperature, target, margin };
    const threshold = massThreshold(step, row, goal, work);
    if (threshold === undefined) return undefined;
    lowest = Math.max(lowest, from(scoreOf(threshold)));
  }
  if (minP > 0) lowest = Math.max(lowest, from(Math.log(minP)));
  return { lowest, rest: off };
}

/**
 * The smallest set of most likely tokens whose weights add up to the target, if it is among the
 * largest few hundred logits.
 *
 * @returns null if it is not; undefined where rounding could decide
 */
function smallNucleus(
  step: Step,
  row: LogitRow,
  { temperature, target, margin }: {
    readonly temperature: number;
    readonly target: number;
    readonly margin: number;
  },
  work: Workspace,
): Pick<Cut, "lowest" | "picked"> | null | undefined {
  const { vocab, max } = row;
  const k = Math.min(NUCLEUS, groupsOf(vocab) >> 1);
  if (k < 1) return null;
  const scoreOf = (logit: number) => (logit - max) / temperature;
  const floor = floorOf(step, row, k, work);
  const picked = pick(step, row, lowestWith(scoreOf(floor), max, temperature), work);
  if (picked.ids.length > MOST_SORTED) return null;
  let sum = 0;
  for (const index of largest(picked.logits, picked.logits.length)) {
    const score = scoreOf(picked.logits[index]!);
    if (score < NEGLIGIBLE) return null;
    const before = sum;
    sum += expNonPositive(score);
    if (sum < target - margin) continue;
    if (sum < target + margin || before >= target - margin) return undefined;
    const lowest = lowestWith(score, max, temperature);
    return { lowest, picked: above(picked, lowest) };
  }
  return null;
}

/** More are cheaper to cut by kernels. */
const MOST_SORTED = 2048;
/** Weights below e to this power are 0 to kernels. */
const NEGLIGIBLE = -49;

/** Those not below `lowest`. */
function above({ ids, logits }: Picked, lowest: number): Picked {
  const isKept = (_: number, i: number) => logits[i]! >= lowest;
  return { ids: ids.filter(isKept), logits: logits.filter((logit) => logit >= lowest) };
}

/**
 * Deferral curves: what answers are worth when the least confident share of them goes to the large
 * model.
 *
 * Source: Gupta et al. 2024, https://arxiv.org/abs/2404.10136, section 2.2.
 */
import { taskRng } from "../models/recipe/rng.ts";

/** One prompt: how confident the small model's answer looks, and what both answers are worth. */
export interface Judged {
  /** High = confident. */
  readonly score: number;
  /** Quality of the small and of the large model's answer. */
  readonly small: number;
  readonly large: number;
}

/** A mean with its 95 % interval. */
export interface Estimate {
  readonly mean: number;
  readonly low: number;
  readonly high: number;
}

/**
 * Mean quality when the k prompts of the lowest scores are deferred, for k = 0 to all. Prompts of equal
 * score go in no order: each counts as the mean of its like.
 */
export function deferralCurve(prompts: readonly Judged[]): number[] {
  const sorted = prompts.toSorted((a, b) => a.score - b.score);
  const count = sorted.length;
  const curve = [sorted.reduce((sum, { small }) => sum + small, 0) / count];
  for (let from = 0; from < count;) {
    let to = from;
    let gain = 0;
    for (; to < count && sorted[to]!.score === sorted[from]!.score; to++) {
      gain += sorted[to]!.large - sorted[to]!.small;
    }
    for (let i = from; i < to; i++) curve.push(curve.at(-1)! + gain / (to - from) / count);
    from = to;
  }
  return curve;
}

/** Area under a curve over rates 0 to 1, by trapezoids. */
export function areaUnder(curve: readonly number[]): number {
  let sum = 0;
  for (let i = 1; i < curve.length; i++) sum += (curve[i - 1]! + curve[i]!) / 2;
  return sum / (curve.length - 1);
}

/** Scores that know the answers: the best any rule could do. */
export function oracle(prompts: readonly Judged[]): Judged[] {
  return prompts.map(({ small, large }) => ({ small, large, score: small - large }));
}

/** A rule that knows nothing: the chord between both models. */
export function chord(prompts: readonly Judged[]): Judged[] {
  return prompts.map(({ small, large }) => ({ small, large, score: 0 }));
}

/** What is read off a curve, with intervals. */
export interface CurveSummary {
  readonly area: Estimate;
  /** Area less that of random deferral, paired by prompt. */
  readonly gain: Estimate;
  /** Quality at rates 0, 0.05, ..., 1. */
  readonly points: readonly { readonly rate: number; readonly quality: Estimate }[];
}

const rates = Array.from({ length: 21 }, (_, i) => i / 20);

/** Percentile bootstrap over prompts, seeded. @throws {RangeError} for no prompts */
export function summarise(
  prompts: readonly Judged[],
  { seed, resamples = 1000 }: { readonly seed: string; readonly resamples?: number },
): CurveSummary {
  if (prompts.length === 0) throw new RangeError("There is no curve without prompts");
  const rng = taskRng(`deferral ${seed}`);
  const read = (drawn: readonly Judged[]) => {
    const curve = deferralCurve(drawn);
    const area = areaUnder(curve);
    return {
      area,
      gain: area - areaUnder(deferralCurve(chord(drawn))),
      points: rates.map((rate) => at(curve, rate)),
    };
  };
  const real = read(prompts);
  const drawn = Array.from(
    { length: resamples },
    () => read(prompts.map(() => prompts[rng.int(prompts.length)]!)),
  );
  const estimate = (of: (one: ReturnType<typeof read>) => number): Estimate => {
    const values = drawn.map(of).sort((a, b) => a - b);
    const level = (q: number) => values[Math.min(resamples - 1, Math.floor(q * resamples))]!;
    return { mean: of(real), low: level(0.025), high: level(0.975) };
  };
  return {
    area: estimate(({ area }) => area),
    gain: estimate(({ gain }) => gain),
    points: rates.map((rate, i) => ({ rate, quality: estimate(({ points }) => points[i]!) })),
  };
}

/** Quality at a rate between two prompts is linear. */
function at(curve: readonly number[], rate: number): number {
  const place = rate * (curve.length - 1);
  const low = Math.floor(place);
  const share = place - low;
  return share === 0 ? curve[low]! : curve[low]! * (1 - share) + curve[low + 1]! * share;
}

// deno-lint-ignore-file camelcase -- names as in the file
/** From answers of two models to calibrated rules. Pure: no clock, no files, seeded. */
import { taskRng } from "../models/recipe/rng.ts";
import {
  type CalibratedRule,
  type Calibration,
  featuresOf,
  forward,
  quantileOf,
  routerScore,
  scoreOf,
} from "../strategies/mod.ts";
import {
  type CurveSummary,
  deferralCurve,
  type Estimate,
  type Judged,
  summarise,
} from "./curve.ts";
import { type Answered, trainNetwork, trainRouter } from "./train.ts";

/** What to calibrate for. */
export interface CalibrateOptions {
  /** Ids, small and large. */
  readonly models: readonly [string, string];
  /** ISO date. */
  readonly created: string;
  /** What asking the large model costs, in quality: 0.1 = as much as one right answer in ten. */
  readonly price: number;
  /** Defer this share instead of what the price suggests. */
  readonly deferRate: number | undefined;
  readonly seed: string;
}

/** Levels of the quantile rule that are calibrated. */
export const levels = [0, 0.05, 0.1, 0.25, 0.5] as const;
const folds = 5;

/** A rule's calibration and its curve in full. */
export interface RuleResult {
  readonly label: string;
  readonly entry: CalibratedRule;
  readonly judged: readonly Judged[];
  readonly summary: CurveSummary;
}

/**
 * Calibrates every rule on the same records. What is learned is scored on records it was not fitted to
 * (five folds); the file gets the fit to all of them.
 *
 * @throws {RangeError} for fewer than 20 records
 */
export function calibrate(
  records: readonly Answered[],
  options: CalibrateOptions,
): { readonly calibration: Calibration; readonly results: readonly RuleResult[] } {
  if (records.length < 20) {
    throw new RangeError(`20 prompts are the least to calibrate on, got ${records.length}`);
  }
  const simple = (rule: "sum" | "average" | "quantile", alpha: number) =>
    records.map(({ logprobs }) => scoreOf({ rule, alpha, calibrated: undefined }, logprobs)!);
  const { seed } = options;
  const learned = crossFit(records, seed, (fit) => {
    const network = trainNetwork(fit, seed);
    return ({ logprobs }) => -forward(network, featuresOf(logprobs));
  });
  const routed = crossFit(records, seed, (fit) => {
    const router = trainRouter(fit, seed);
    return ({ prompt }) => -routerScore(router, prompt);
  });
  const results = [
    resultOf("sum", records, simple("sum", 0), options, { rule: "sum" }),
    resultOf("average", records, simple("average", 0), options, { rule: "average" }),
    ...levels.map((alpha_q) =>
      resultOf(`quantile ${alpha_q}`, records, simple("quantile", alpha_q), options, {
        rule: "quantile",
        alpha_q,
      })
    ),
    resultOf("learned", records, learned, options, {
      rule: "learned",
      network: trainNetwork(records, seed),
    }),
    resultOf("router", records, routed, options, {
      rule: "router",
      router: trainRouter(records, seed),
    }),
  ];
  const quality = (of: "small" | "large") => meanOf(results[0]!.summary, of);
  const calibration: Calibration = {
    version: 1,
    created: options.created,
    models: [...options.models],
    prompts: records.length,
    quality: [quality("small"), quality("large")],
    rules: results.map(({ entry }) => entry),
  };
  return { calibration, results };
}

/** Curves begin at the small model's quality and end at the large one's. */
function meanOf({ points }: CurveSummary, of: "small" | "large"): Estimate {
  return points.at(of === "small" ? 0 : -1)!.quality;
}

/** Scores of records by a fit to the other folds. */
function crossFit(
  records: readonly Answered[],
  seed: string,
  fit: (others: readonly Answered[]) => (record: Answered) => number,
): number[] {
  const order = taskRng(`folds ${seed}`).sample(records.keys().toArray(), records.length);
  const foldOf = new Map(order.map((index, place) => [index, place % folds]));
  const scores = new Array<number>(records.length);
  for (let fold = 0; fold < folds; fold++) {
    const score = fit(records.filter((_, i) => foldOf.get(i) !== fold));
    records.forEach((record, i) => {
      if (foldOf.get(i) === fold) scores[i] = score(record);
    });
  }
  return scores;
}

function resultOf(
  label: string,
  records: readonly Answered[],
  scores: readonly number[],
  { price, deferRate, seed }: CalibrateOptions,
  rule: Pick<CalibratedRule, "rule" | "alpha_q" | "network" | "router">,
): RuleResult {
  const judged = records.map(({ small, large }, i) => ({ small, large, score: scores[i]! }));
  const summary = summarise(judged, { seed });
  const sorted = scores.toSorted((a, b) => a - b);
  const rate = deferRate ?? bestRate(deferralCurve(judged), price);
  const entry: CalibratedRule = {
    ...rule,
    scores: Array.from({ length: 101 }, (_, i) => quantileOf(sorted, i / 100)),
    threshold: thresholdFor(sorted, rate),
    defer_rate: rate,
    area: summary.area,
    curve: summary.points.map(({ rate, quality }) => [
      rate,
      quality.mean,
      quality.low,
      quality.high,
    ]),
  };
  return { label, entry, judged, summary };
}

/**
 * The rate where quality less the price of deferring is greatest: the empirical form of "defer if the
 * expected gain is above the price".
 */
function bestRate(curve: readonly number[], price: number): number {
  const count = curve.length - 1;
  let best = 0;
  curve.forEach((quality, k) => {
    if (quality - price * k / count > curve[best]! - price * best / count + 1e-12) best = k;
  });
  return best / count;
}

/** Between the last score that is deferred and the first that is not. */
function thresholdFor(sorted: readonly number[], rate: number): number {
  const deferred = Math.round(rate * sorted.length);
  if (deferred === 0) return sorted[0]!;
  if (deferred === sorted.length) return sorted.at(-1)! + 1e-6 * (1 + Math.abs(sorted.at(-1)!));
  return (sorted[deferred - 1]! + sorted[deferred]!) / 2;
}

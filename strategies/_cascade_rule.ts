/**
 * Rules that decide whether a small model's answer is good enough: scores from its log-probabilities,
 * and what calibration adds to them. High score = confident; an answer is deferred when its score is
 * below the threshold.
 *
 * Source: Gupta et al. 2024, "Language Model Cascades: Token-Level Uncertainty and Beyond",
 * https://arxiv.org/abs/2404.10136, section 3 (Chow-Sum, Chow-Average, Chow-Quantile, post-hoc rules).
 */
import * as z from "zod";
import { featuresOf, forward, networkSchema } from "./_cascade_network.ts";
import { quantileOf } from "./_quantile.ts";
import { routerSchema, routerScore } from "./_cascade_router.ts";

/** Rules by name. */
export const ruleNames = ["sum", "average", "quantile", "learned", "router"] as const;
/** Name of a rule. */
export type RuleName = (typeof ruleNames)[number];

const finite = z.number().min(-1e9).max(1e9);

const interval = z.strictObject({ mean: finite, low: finite, high: finite });

/** One rule as calibration found it. */
const calibratedRule = z.strictObject({
  rule: z.enum(ruleNames),
  alpha_q: z.number().min(0).max(1).optional(),
  /** Scores of the calibration prompts, their 0, 1, ..., 100 % quantiles. */
  scores: z.array(finite).length(101),
  /** What calibration recommends, and the share of prompts it defers. */
  threshold: finite,
  defer_rate: z.number().min(0).max(1),
  /** Area under the deferral curve. */
  area: interval,
  /** Rate, quality, and its 95 % interval. */
  curve: z.array(z.tuple([finite, finite, finite, finite])),
  network: networkSchema.optional(),
  router: routerSchema.optional(),
});

/** What `deno task calibrate` writes. */
export const calibrationSchema = z.strictObject({
  version: z.literal(1),
  created: z.string(),
  /** Ids, small to large. */
  models: z.tuple([z.string(), z.string()]),
  prompts: z.int().min(1),
  /** Mean quality of each model alone. */
  quality: z.tuple([interval, interval]),
  rules: z.array(calibratedRule).min(1),
});

/** A calibration, checked. */
export type Calibration = z.output<typeof calibrationSchema>;
/** One rule of it. */
export type CalibratedRule = Calibration["rules"][number];

/** @throws {RangeError} naming what is wrong with the file */
export function parseCalibration(value: unknown): Calibration {
  const result = calibrationSchema.safeParse(value);
  if (result.success) return result.data;
  const [issue] = result.error.issues;
  throw new RangeError(`calibration: ${issue!.path.map(String).join(".")}: ${issue!.message}`);
}

/** The calibrated rule of that name and level, if there is one. */
export function findRule(
  { rules }: Calibration,
  name: RuleName,
  alpha: number,
): CalibratedRule | undefined {
  return rules.find(({ rule, alpha_q }) =>
    rule === name && (rule !== "quantile" || alpha_q === alpha)
  );
}

/** The threshold that defers this share of the calibration prompts. */
export function thresholdAt({ scores }: CalibratedRule, rate: number): number {
  // At 1 even the best of them is to be deferred.
  return rate === 1
    ? scores.at(-1)! + 1e-9 + Math.abs(scores.at(-1)!) * 1e-9
    : quantileOf(scores, rate);
}

/** How a link scores answers. */
export interface Scoring {
  readonly rule: RuleName;
  readonly alpha: number;
  readonly calibrated: CalibratedRule | undefined;
}

/**
 * The score of an answer by its tokens' natural-log probabilities, in order. Undefined for an answer
 * without any: nothing speaks for it.
 */
export function scoreOf(
  { rule, alpha, calibrated }: Scoring,
  logprobs: readonly number[],
): number | undefined {
  if (logprobs.length === 0) return undefined;
  const sum = () => logprobs.reduce((total, logprob) => total + logprob, 0);
  switch (rule) {
    case "sum":
      return sum();
    case "average":
      return sum() / logprobs.length;
    case "quantile":
      return quantileOf(logprobs.toSorted((a, b) => a - b), alpha);
    case "learned":
      // The network estimates how much better the large model's answer is.
      return -forward(calibrated!.network!, featuresOf(logprobs));
    case "router":
      throw new TypeError("A router scores prompts, not answers");
  }
}

/** The score of a prompt. */
export function promptScore({ calibrated }: Scoring, text: string): number {
  return -routerScore(calibrated!.router!, text);
}

/**
 * The best score an answer that begins so can still get: every further token counts as certain, and
 * there are as many as help. Undefined where nothing is known.
 *
 * @param most tokens an answer may have
 */
export function bestPossible(
  { rule, alpha }: Scoring,
  logprobs: readonly number[],
  most: number,
): number | undefined {
  const sum = logprobs.reduce((total, logprob) => total + logprob, 0);
  switch (rule) {
    case "sum":
      return sum;
    case "average":
      return sum / Math.max(most, logprobs.length);
    case "quantile": {
      if (alpha === 0) return Math.min(...logprobs);
      const sorted = logprobs.toSorted((a, b) => a - b);
      // Certain tokens stand at the upper end, so only the number of them matters.
      return quantileOf(sorted, alpha, Math.max(most, logprobs.length));
    }
    default:
      return undefined;
  }
}

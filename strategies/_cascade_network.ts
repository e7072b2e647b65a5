/**
 * The learned rule: a small network over quantiles of an answer's log-probabilities.
 *
 * Source: Gupta et al. 2024, https://arxiv.org/abs/2404.10136, section 4.2 ("Post-Hoc-Quantile").
 * Differs: two hidden layers of 32 instead of five of unknown size; sum, mean and length are features
 * beside the quantiles.
 */
import * as z from "zod";
import { quantileOf } from "./_quantile.ts";

/** Levels of the quantiles among the features. */
export const featureLevels = [0, .01, .02, .05, .1, .2, .3, .4, .5, .6, .7, .8, .9, 1];
/** Number of features: quantiles, sum, mean, length. */
export const featureCount = featureLevels.length + 3;

const weight = z.number().min(-1e6).max(1e6);
const layer = z.strictObject({
  /** [outputs][inputs] */
  weights: z.array(z.array(weight).max(256)).min(1).max(256),
  bias: z.array(weight).min(1).max(256),
});

/** A network as it is stored. Features are standardised with mean and deviation first. */
export const networkSchema = z.strictObject({
  mean: z.array(weight).length(featureCount),
  deviation: z.array(z.number().gt(0).max(1e6)).length(featureCount),
  layers: z.array(layer).min(1).max(4),
}).refine(({ layers }) => {
  const inputs = [featureCount, ...layers.map(({ bias }) => bias.length)];
  return layers.at(-1)!.bias.length === 1 &&
    layers.every(({ weights, bias }, i) =>
      weights.length === bias.length && weights.every((row) => row.length === inputs[i])
    );
}, { message: "the layers do not fit each other" });

/** A network. */
export type Network = z.output<typeof networkSchema>;

/** Features of an answer. @throws {RangeError} for no tokens */
export function featuresOf(logprobs: readonly number[]): number[] {
  const sorted = logprobs.toSorted((a, b) => a - b);
  const sum = logprobs.reduce((total, logprob) => total + logprob, 0);
  return [
    ...featureLevels.map((level) => quantileOf(sorted, level)),
    sum,
    sum / logprobs.length,
    logprobs.length,
  ];
}

/** The network's output. Hidden layers are rectified. */
export function forward({ mean, deviation, layers }: Network, features: readonly number[]): number {
  let values = features.map((value, i) => (value - mean[i]!) / deviation[i]!);
  layers.forEach(({ weights, bias }, at) => {
    const isLast = at === layers.length - 1;
    values = weights.map((row, out) => {
      let sum = bias[out]!;
      for (let i = 0; i < row.length; i++) sum += row[i]! * values[i]!;
      return isLast ? sum : Math.max(0, sum);
    });
  });
  return values[0]!;
}

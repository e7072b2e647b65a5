/**
 * Samples without replacement: k different completions, drawn like k plain samples from which
 * duplicates are left out, in that order.
 *
 * Beams carry their log-probability and the largest Gumbel-perturbed log-probability below them.
 * Children get noise of their own, conditioned on their largest value being the parent's; the k
 * largest go on. The first completion is what `sample` draws with the same seed.
 *
 * Source: Kool et al. 2019, https://arxiv.org/abs/1903.06059, algorithm 1, with the numerically stable
 * form of the conditioning from its appendix.
 * Differs: the root's value is drawn, not fixed at 0. The sample is the same; weights need it.
 * The distribution is the request's: temperature, filters, bias, penalties and constraint apply to
 * every token, renormalised. Completions end where the request ends them, the token limit included;
 * they differ in tokens, their texts may still coincide. Beams in a dead end of the constraint drop
 * out, so that fewer than k may come.
 * Cost: one ask per live beam and token, all in one step; at most 2 * `num_beams` sessions.
 */
import * as z from "zod";
import { StrategyParamError } from "./_errors.ts";
import { drawBeams, type Leaf } from "./_gumbel_search.ts";
import { tokensOf } from "./_beams.ts";
import { defineStrategy } from "./strategy.ts";

const name = "stochastic-beam";

/** Stochastic beam search. */
export const stochasticBeam = defineStrategy({
  name,
  summary: "Samples completions without replacement, with their inclusion probabilities",
  source: "https://arxiv.org/abs/1903.06059",
  streaming: "end",
  constrained: true,
  needs: { model: ["edit", "logits"] },
  params: z.strictObject({
    num_beams: z.int().min(1).max(64).default(4).describe("different completions to draw"),
  }),
  sequences: ({ num_beams: beams }) => 2 * beams,
  check(_, { params: { num_beams: beams }, choices }) {
    if (choices > beams) {
      throw new StrategyParamError(name, "n", `${choices} choices of ${beams} beams`);
    }
  },
  async *run(context) {
    const { params, choices, logprobs, trace } = context;
    const { leaves, threshold, steps } = await drawBeams(context, params.num_beams);
    for (const { logprob, perturbed, length } of leaves) {
      trace({ type: "sample", logprob, perturbed, tokens: length });
    }
    const best = leaves.slice(0, choices);
    // The largest value that is not returned.
    const limit = leaves[choices]?.perturbed ?? threshold;
    for (const [choice, { path }] of best.entries()) {
      const tokens = tokensOf(path);
      yield {
        choice,
        tokens: tokens.map(({ token }) => token),
        ...logprobs === undefined ? {} : { logprobs: tokens },
      };
    }
    return {
      reasons: best.map(({ reason }) => reason),
      metrics: {
        samples: leaves.length,
        steps,
        ...limit === undefined ? {} : { threshold: limit },
      },
      choices: best.map((leaf) => scoresOf(leaf, limit)),
    };
  },
});

/**
 * With threshold kappa, a completion of log-probability phi is among those returned with probability
 * q = 1 - e^(-e^(phi - kappa)). Sums of weight * f estimate the mean of f without bias, where weight
 * is e^phi / q. Without a threshold everything there is was returned: q is 1.
 */
function scoresOf(leaf: Leaf, threshold: number | undefined): Record<string, number> {
  const { logprob, perturbed, length } = leaf;
  const rate = threshold === undefined ? Infinity : Math.exp(logprob - threshold);
  const inclusion = -Math.expm1(-rate);
  // Below the smallest double q is the rate itself.
  const weight = inclusion > 0 ? Math.exp(logprob) / inclusion : Math.exp(threshold!);
  return { logprob, perturbed, inclusion_probability: inclusion, weight, tokens: length };
}

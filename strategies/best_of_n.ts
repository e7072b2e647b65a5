/**
 * Samples several completions and returns the ones the model itself finds most likely, best first.
 *
 * Source: sampling with reranking by likelihood, as OpenAI's `best_of`; Adiwardana et al. 2020,
 * https://arxiv.org/abs/2001.09977, section 2.3 ("sample-and-rank").
 * Differs: ranks by the raw log-probability (temperature 1, before masks, bias and penalties), stop
 * token included; the mean per token by default, so that length is neither punished nor rewarded.
 * Cost: `num_samples` asks per token, which share a step; `num_samples` sessions.
 */
import { z } from "zod";
import { CapabilityError } from "../runtime/mod.ts";
import { branchSeeds, chunkOf, complete, type Completion, openBranches } from "./_branches.ts";
import { StrategyParamError } from "./_errors.ts";
import { defineStrategy } from "./strategy.ts";

const name = "best-of-n";

/** Sample and rank. */
export const bestOfN = defineStrategy({
  name,
  summary: "Samples several completions and returns the most likely ones",
  source: "https://arxiv.org/abs/2001.09977",
  streaming: "end",
  constrained: true,
  needs: { model: ["generate"] },
  constrainedNeeds: { model: ["sample", "edit"] },
  params: z.strictObject({
    num_samples: z.int().min(1).max(64).default(4).describe("completions to draw"),
    score: z.enum(["mean_logprob", "sum_logprob"]).default("mean_logprob")
      .describe("what completions are ranked by, in nats"),
  }),
  sequences: ({ num_samples: samples }) => samples,
  check({ model }, { params: { num_samples: samples }, choices }) {
    if (choices > samples) {
      throw new StrategyParamError(name, "n", `${choices} choices of ${samples} samples`);
    }
    if (!model.vocab) {
      throw new CapabilityError(model.id, ["log-probabilities"], { strategy: name, role: "model" });
    }
  },
  async *run(context) {
    const { sampling, choices, params, trace } = context;
    const seeds = branchSeeds(sampling.seed, params.num_samples);
    const samples = await complete(
      openBranches(context, seeds.map((seed) => ({ ...sampling, seed }))),
    );
    const ranked = samples
      .map((sample, index) => ({ ...sample, index, ...scoresOf(sample) }))
      .sort((a, b) => compare(b[params.score], a[params.score]) || a.index - b.index);
    for (const { index, sum_logprob: sum, mean_logprob: mean, draws } of ranked) {
      trace({ type: "sample", index, sum_logprob: sum, mean_logprob: mean, tokens: draws.length });
    }
    const best = ranked.slice(0, choices);
    for (const [choice, { draws }] of best.entries()) yield chunkOf(choice, draws, context);
    return {
      reasons: best.map(({ reason }) => reason),
      metrics: { samples: samples.length },
      choices: best.map(({ index, sum_logprob, mean_logprob, draws }) => ({
        sample: index,
        score: params.score === "mean_logprob" ? mean_logprob : sum_logprob,
        sum_logprob,
        mean_logprob,
        tokens: draws.length,
      })),
    };
  },
});

function scoresOf({ draws }: Completion): { sum_logprob: number; mean_logprob: number } {
  const sum = draws.reduce((total, { logprob }) => total + logprob, 0);
  return { sum_logprob: sum, mean_logprob: draws.length > 0 ? sum / draws.length : 0 };
}

/** Also orders infinities, whose difference is not a number. */
function compare(a: number, b: number): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

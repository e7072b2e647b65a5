/**
 * Samples several completions and returns the ones the model itself finds most likely, best first.
 *
 * Source: sampling with reranking by likelihood, as OpenAI's `best_of`; Adiwardana et al. 2020,
 * https://arxiv.org/abs/2001.09977, section 2.3 ("sample-and-rank").
 * Differs: ranks by the raw log-probability (temperature 1, before masks, bias and penalties), stop
 * token included; the mean per token by default, so that length is neither punished nor rewarded.
 * Cost: `num_samples` asks per token, which share a step; `num_samples` sessions.
 */
import * as z from "zod";
import { CapabilityError } from "../runtime/mod.ts";
import { tellsLogprobs } from "./_checks.ts";
import {
  branchSeeds,
  chunkOf,
  complete,
  type Completion,
  logprobsOf,
  openBranches,
} from "./_branches.ts";
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
  delegates: true,
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
    if (!tellsLogprobs(model)) {
      throw new CapabilityError(model.id, ["log-probabilities"], { strategy: name, role: "model" });
    }
  },
  async *run(context) {
    const { sampling, choices, params, trace } = context;
    const seeds = branchSeeds(sampling.seed, params.num_samples);
    const samples = await complete(
      openBranches({ ...context, isScored: true }, seeds.map((seed) => ({ ...sampling, seed }))),
    );
    const ranked = samples
      .map((sample, index) => ({ ...sample, index, ...scoresOf(sample) }))
      .sort((a, b) => compare(b[params.score], a[params.score]) || a.index - b.index);
    for (const { index, sum_logprob: sum, mean_logprob: mean, tokens } of ranked) {
      trace({ type: "sample", index, sum_logprob: sum, mean_logprob: mean, tokens });
    }
    const best = ranked.slice(0, choices);
    for (const [choice, { draws }] of best.entries()) yield chunkOf(choice, draws, context);
    return {
      reasons: best.map(({ reason }) => reason),
      metrics: { samples: samples.length },
      choices: best.map(({ index, sum_logprob, mean_logprob, tokens }) => ({
        sample: index,
        score: params.score === "mean_logprob" ? mean_logprob : sum_logprob,
        sum_logprob,
        mean_logprob,
        tokens,
      })),
    };
  },
});

function scoresOf({ draws }: Completion) {
  const logprobs = logprobsOf(draws);
  const sum = logprobs.reduce((total, logprob) => total + logprob, 0);
  const tokens = logprobs.length;
  return { sum_logprob: sum, mean_logprob: tokens > 0 ? sum / tokens : 0, tokens };
}

/** Also orders infinities, whose difference is not a number. */
function compare(a: number, b: number): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

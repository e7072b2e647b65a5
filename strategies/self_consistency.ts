/**
 * Samples several completions, takes the answer each one ends in, and returns the first completion
 * with the answer most of them agree on. Worth its price where answers are short and exact.
 *
 * Source: Wang et al. 2022, https://arxiv.org/abs/2203.11171, section 2, unweighted majority vote.
 * Differs: returns a whole completion rather than the bare answer; ties go to the answer that came
 * first. Where no completion has an answer, the first is returned and `answered` is 0.
 * Cost: `num_samples` asks per token, which share a step; `num_samples` sessions.
 */
import * as z from "zod";
import { branchSeeds, chunkOf, complete, openBranches } from "./_branches.ts";
import { StrategyParamError } from "./_errors.ts";
import { extractAnswer, majority } from "./_votes.ts";
import { defineStrategy } from "./strategy.ts";

const name = "self-consistency";

/** Majority vote over sampled answers. */
export const selfConsistency = defineStrategy({
  name,
  summary: "Samples several completions and returns one with the most common answer",
  source: "https://arxiv.org/abs/2203.11171",
  streaming: "end",
  constrained: true,
  delegates: true,
  needs: { model: ["generate"] },
  constrainedNeeds: { model: ["sample", "edit"] },
  params: z.strictObject({
    num_samples: z.int().min(1).max(64).default(5).describe("completions to draw"),
    answer: z.enum(["last-number", "last-line", "text"]).default("last-number")
      .describe("where in a completion its answer is"),
  }),
  sequences: ({ num_samples: samples }) => samples,
  check(_, { choices }) {
    if (choices > 1) throw new StrategyParamError(name, "n", "a vote has one winner, n must be 1");
  },
  async *run(context) {
    const { sampling, params, trace } = context;
    const seeds = branchSeeds(sampling.seed, params.num_samples);
    const samples = await complete(
      openBranches(context, seeds.map((seed) => ({ ...sampling, seed }))),
    );
    const answers = samples.map(({ text }) => extractAnswer(text, params.answer));
    answers.forEach((answer, index) => trace({ type: "answer", index, answer: answer ?? null }));
    const { winner, votes, answered, distinct } = majority(answers);
    const { draws, reason } = samples[winner]!;
    yield chunkOf(0, draws, context);
    return {
      reasons: [reason],
      metrics: { samples: samples.length, answered, distinct, votes },
      choices: [{ sample: winner, votes }],
    };
  },
});

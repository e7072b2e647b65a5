/**
 * Keeps the `num_beams` most likely partial completions and returns the most likely complete ones.
 *
 * Source: beam search as in Hugging Face transformers 4.57 (`generation/utils.py`, `_beam_search`):
 * a stop token completes a hypothesis only if it ranks among the first `num_beams` candidates; its
 * score is the sum of log-probabilities over length^length_penalty, stop token counted.
 * Differs: one beam is greedy, whatever the stopping rule; beams start as one, not as copies at
 * -1e9; ties go to the better beam, then to the lower token id; the stop strings and stop tokens of
 * the request complete a hypothesis as the model's own stop token does. Bias and penalties change
 * the logits and the result is normalised again (there they are added to log-probabilities). A
 * constraint removes tokens without renormalising, so that the search finds the most likely
 * completions that satisfy it. Temperature and filters have no effect: nothing is drawn.
 * Cost: one ask per live beam and token, all in one step; at most 2 * `num_beams` sessions.
 */
import * as z from "zod";
import { StrategyParamError } from "./_errors.ts";
import { searchBeams } from "./_beam_search.ts";
import { tokensOf } from "./_beams.ts";
import { hasAdjustments } from "./_beam_rows.ts";
import { requireCapabilities } from "../runtime/mod.ts";
import { defineStrategy } from "./strategy.ts";

const name = "beam";

/** Plain beam search. */
export const beam = defineStrategy({
  name,
  summary: "Keeps several partial completions and returns the most likely complete ones",
  source: "https://huggingface.co/docs/transformers/generation_strategies#beam-search",
  streaming: "end",
  constrained: true,
  needs: { model: ["edit", "topk"] },
  constrainedNeeds: { model: ["logits"] },
  params: z.strictObject({
    num_beams: z.int().min(1).max(64).default(4).describe("partial completions kept per step"),
    length_penalty: z.number().min(-10).max(10).default(1)
      .describe("exponent of the length a sum of log-probabilities is divided by; 0 = off"),
    early_stopping: z.union([z.boolean(), z.literal("never")]).default(false)
      .describe(
        "stop at num_beams hypotheses (true), when improvement is unlikely (false), or " +
          'only when it is impossible ("never")',
      ),
  }),
  sequences: ({ num_beams: beams }) => 2 * beams,
  check({ model }, { params: { num_beams: beams }, choices, sampling }) {
    if (choices > beams) {
      throw new StrategyParamError(name, "n", `${choices} choices of ${beams} beams`);
    }
    if (hasAdjustments(sampling)) {
      requireCapabilities(model, ["logits"], { strategy: name, role: "model" });
    }
  },
  async *run(context) {
    const { params, choices, logprobs } = context;
    const { groups, steps } = await searchBeams(context, {
      width: params.num_beams,
      penalty: params.length_penalty,
      earlyStopping: params.early_stopping,
    });
    const hypotheses = groups.flat();
    const best = hypotheses.slice(0, choices);
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
      metrics: { hypotheses: hypotheses.length, steps },
      choices: best.map(({ score, sum, length }) => ({ score, sum_logprob: sum, tokens: length })),
    };
  },
});

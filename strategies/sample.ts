/**
 * Draws every token from the model's distribution, shaped by the request's sampling parameters in
 * the order documented in `runtime/sampling/draw.ts`. At temperature 0 this is `greedy`.
 *
 * The draw is the arg max of log-probability plus Gumbel noise keyed by (seed, position, token), so
 * a seed gives the same tokens alone or in a crowd. Choice 0 uses the request's seed, choice c the
 * seed forked by c: the first of three choices is the single choice.
 *
 * Source: Gumbel-max trick, Maddison et al. 2014, https://arxiv.org/abs/1411.0030, section 2.
 * Cost: one ask per choice and token, one session per choice.
 */
import * as z from "zod";
import { branchSeeds, chunkOf, inLockstep, openBranches } from "./_branches.ts";
import { defineStrategy } from "./strategy.ts";

/** Plain sampling. */
export const sample = defineStrategy({
  name: "sample",
  summary: "Draws each token with temperature, top-k, top-p, min-p, typical-p and penalties",
  source: "https://arxiv.org/abs/1411.0030",
  streaming: "tokens",
  constrained: true,
  delegates: true,
  needs: { model: ["generate"] },
  constrainedNeeds: { model: ["sample", "edit"] },
  params: z.strictObject({}),
  sequences: (_, choices) => choices,
  async *run(context) {
    const { sampling, choices } = context;
    const reasons = Array.from({ length: choices }, (): "stop" | "length" => "length");
    const seeds = branchSeeds(sampling.seed, choices);
    const branches = openBranches(context, seeds.map((seed) => ({ ...sampling, seed })));
    for await (const round of inLockstep(branches)) {
      for (const { branch, drawn } of round) {
        if (typeof drawn === "object") yield chunkOf(branch, [drawn], context);
        else reasons[branch] = drawn;
      }
    }
    return { reasons };
  },
});

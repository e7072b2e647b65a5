/**
 * Draws texts that satisfy a constraint with the model's own conditional distribution, asking the
 * constraint about few tokens.
 *
 * Each token is drawn from the model's law restricted to what is allowed, together with an unbiased
 * estimate of the mass that is allowed, which a mask alone throws away: the weight. One particle
 * (default) gives the texts that masking gives, and in `log_z` the estimate of how probable a valid
 * text was. With more, sequential Monte Carlo uses the weights: texts come out as the model would
 * write them if it wrote valid ones only, ever more exactly with more particles.
 *
 * Source: Lipkin et al. 2025, https://arxiv.org/abs/2504.05410; estimators `recursive` and `geometric`
 * are the ones of genlm-control. A constraint with a mask takes the exact path (`auto`, `mask`): its
 * mass is summed, not estimated. Without a constraint, and with one particle under a mask, the tokens
 * are those of `sample` with the same seed.
 * Differs: temperature 0 takes the most likely allowed token and weighs nothing. At the token limit a
 * complete text is ended, at the weight of its end; texts cut there count only if none is complete.
 * Filters (top-k, top-p, min-p, typical-p) work on what the mask, or without one pruning, has left;
 * a constraint that allows nothing of what they keep is an error.
 * Cost: one row of logits per particle and token, one session per particle. Models that show no logits
 * tell their likeliest tokens instead, and draw one of the others where that is needed: at temperature 1
 * without filters, penalties or bias (or 0), by questions alone, and no text is ended at the limit.
 */
import type { Capability } from "../runtime/mod.ts";
import { checkModel, type Opened, openSystems } from "./_awrs_open.ts";
import { checkParams, name, params } from "./_awrs_params.ts";
import type { ParticleSystem } from "./_awrs_smc.ts";
import { defineStrategy } from "./strategy.ts";

const needs = { model: ["edit"] } as const satisfies Record<
  string,
  readonly Capability[]
>;
/** Adaptive weighted rejection sampling. */
export const awrs = defineStrategy({
  name,
  summary: "Valid texts by any constraint, weighted so that the model's own odds are kept",
  source: "https://arxiv.org/abs/2504.05410",
  streaming: "bursts",
  constrained: true,
  needs,
  params,
  sequences: ({ n_particles: particles }, choices) => particles * choices,
  check({ model }, demand) {
    checkParams(demand.params);
    checkModel(model, demand);
  },
  async *run(context) {
    const { choices, constraint, logprobs } = context;
    const { all, source } = openSystems(context);
    let going = all.map((system, choice) => ({ choice, system }));
    try {
      while (going.length > 0) {
        await Promise.all(going.map(({ system }) => system.advance()));
        for (const { choice, system } of going) {
          const { tokens, logprobs: values } = system.release();
          context.trace(eventOf(choice, system, source));
          if (system.reason) system[Symbol.dispose]();
          if (tokens.length === 0) continue;
          yield { choice, tokens, ...logprobs === undefined ? {} : { logprobs: values } };
        }
        going = going.filter(({ system }) => !system.reason);
      }
    } finally {
      for (const system of all) system[Symbol.dispose]();
    }
    const isWeighed = constraint !== undefined && context.params.proper_weights &&
      context.sampling.temperature > 0;
    return {
      reasons: Array.from({ length: choices }, (_, i) => all[i]!.reason!),
      metrics: {
        checks: source.checks,
        resamplings: all.reduce((sum, { resamplings }) => sum + resamplings, 0),
      },
      choices: all.map((system) => summaryOf(system, isWeighed)),
    };
  },
});

function eventOf(choice: number, system: ParticleSystem, { checks }: Opened["source"]) {
  const { alive, complete, ess, resamplings, logZ } = system;
  return { type: "particles", choice, checks, alive, complete, ess, resamplings, log_z: logZ };
}

function summaryOf(
  system: ParticleSystem,
  isWeighed: boolean,
): Readonly<Record<string, number>> {
  const { alive, complete, ess, logZ } = system;
  return { particles: alive, complete, ess, ...isWeighed ? { log_z: logZ } : {} };
}

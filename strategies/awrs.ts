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
 * Cost: one row of logits per particle and token, one session per particle.
 */
import * as z from "zod";
import { type Capability, createRng, forkSeed, type Seed } from "../runtime/mod.ts";
import { branchSeeds } from "./_branches.ts";
import { judgedSource } from "./_awrs_judged.ts";
import { freeSource, maskedSource } from "./_awrs_masked.ts";
import { Particle } from "./_awrs_particle.ts";
import { ParticleSystem } from "./_awrs_smc.ts";
import type { TokenSource } from "./_awrs_source.ts";
import { StrategyParamError } from "./_errors.ts";
import { defineStrategy, type StrategyContext } from "./strategy.ts";

const name = "awrs";

const params = z.strictObject({
  n_particles: z.int().min(1).max(64).default(1)
    .describe("particles per choice; 1 = each token as a mask would draw it, no resampling"),
  ess_threshold: z.number().min(0).max(1).default(0.5)
    .describe("resample when the effective sample size is below this share of n_particles"),
  resampling: z.enum(["multinomial", "systematic"]).default("multinomial")
    .describe("how ancestors are drawn; systematic has less variance"),
  choose: z.enum(["draw", "heaviest"]).default("draw")
    .describe("the particle returned: drawn by weight, or of the text with the most weight"),
  estimator: z.enum(["auto", "mask", "two-loop", "recursive", "geometric"]).default("auto")
    .describe("auto: the constraint's mask if it has one, else recursive or geometric per token"),
  proper_weights: z.boolean().default(true)
    .describe("false: the first allowed token, no weights and no log_z; one particle only"),
  max_accepts: z.int().min(2).max(64).default(2)
    .describe("geometric: allowed tokens to find; more cost checks and lower the variance"),
  max_rejects: z.union([z.literal("none"), z.int().min(2).max(1_000_000)]).default("none")
    .describe("give a particle up after so many refused tokens in one place"),
  prune: z.boolean().default(true)
    .describe("leave out control tokens before drawing, without asking about them"),
});

type Params = z.output<typeof params>;
const needs = { model: ["edit", "logits"] } as const satisfies Record<
  string,
  readonly Capability[]
>;
type Context = StrategyContext<Params, typeof needs>;

/** Branches of a choice's seed: choices themselves take the small numbers. */
const particleBranch = 2 ** 20;
const smcBranch = 2 ** 21;

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
  check(_, { params }) {
    checkParams(params);
  },
  async *run(context) {
    const { choices, constraint, logprobs } = context;
    const source = sourceOf(context);
    const all = openSystems(context, source);
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

/** @throws {StrategyParamError} for parameters that do not go together */
function checkParams(params: Params): void {
  const { estimator, max_rejects: maxRejects, max_accepts: maxAccepts } = params;
  const refuse = (param: string, detail: string): never => {
    throw new StrategyParamError(name, param, detail);
  };
  if (!params.proper_weights && params.n_particles > 1) {
    refuse("n_particles", "particles compete by their weights: proper_weights is false");
  }
  if (estimator === "two-loop" && maxRejects !== "none") {
    refuse("max_rejects", "two-loop is biased when it gives up");
  }
  if (maxAccepts > 2 && estimator !== "auto" && estimator !== "geometric") {
    refuse("max_accepts", `${estimator} does not use it`);
  }
}

function sourceOf({ constraint, params, models, ignoreStop, signal }: Context): TokenSource {
  if (!constraint) return freeSource();
  const { estimator, proper_weights: isProper, prune, max_accepts: maxAccepts } = params;
  const isMasked = estimator === "mask" || (estimator === "auto" && constraint.mask !== undefined);
  return (isMasked ? maskedSource : judgedSource)({
    constraint,
    estimator,
    isProper,
    prune,
    maxAccepts,
    maxRejects: params.max_rejects === "none" ? Infinity : params.max_rejects,
    vocab: models.model.vocab!,
    ignoreStop,
    signal,
  });
}

function openSystems(context: Context, source: TokenSource): readonly ParticleSystem[] {
  const { models: { model }, prompt, params, sampling, choices, constraint } = context;
  // At temperature 0 all particles would be alike.
  const count = sampling.temperature === 0 ? 1 : params.n_particles;
  const root = model.session(prompt);
  const promptTokens = root.tokens.slice();
  const options = { ...context, source, promptTokens };
  let opened = 0;
  const particle = (seed: Seed) =>
    new Particle(options, {
      session: opened++ === 0 ? root : root.fork(),
      seed,
      stops: context.createStopCheck(),
      state: source.start(),
    });
  return branchSeeds(sampling.seed, choices).map((seed) =>
    new ParticleSystem(particleSeeds(seed, count).map(particle), {
      constraint,
      limits: limitsOf(context),
      essThreshold: params.ess_threshold,
      resampling: params.resampling,
      choose: params.choose,
      rng: createRng(forkSeed(seed, smcBranch)),
    })
  );
}

/** What the request itself takes away beside the constraint. */
function limitsOf({ sampling, params }: Context): string {
  const { topK, topP, minP, typicalP } = sampling;
  const isFiltered = topK > 0 || topP < 1 || minP > 0 || typicalP < 1;
  return (isFiltered ? ", of those that top_k, top_p, min_p and typical_p keep" : "") +
    (params.max_rejects === "none" ? "" : `, with max_rejects ${params.max_rejects}`);
}

/** The first particle has the choice's own noise. */
function particleSeeds(seed: Seed, count: number): readonly Seed[] {
  return Array.from(
    { length: count },
    (_, i) => i === 0 ? seed : forkSeed(seed, particleBranch + i),
  );
}

function eventOf(choice: number, system: ParticleSystem, { checks }: TokenSource) {
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

/** Particles of `awrs`, opened for what the model and the constraint can do. */
import {
  createRng,
  forkSeed,
  hasPenalties,
  type LanguageModel,
  type Prompt,
  requireCapabilities,
  type SamplingParams,
  type Seed,
  type Session,
} from "../runtime/mod.ts";
import { drawnUnderMask, freelyDrawn } from "./_awrs_drawn.ts";
import { judgedSource } from "./_awrs_judged.ts";
import { drawnAndJudged } from "./_awrs_judged_draws.ts";
import { freeSource, maskedSource } from "./_awrs_masked.ts";
import { type AwrsParams, name } from "./_awrs_params.ts";
import { Particle } from "./_awrs_particle.ts";
import { remoteSource } from "./_awrs_remote.ts";
import { ParticleSystem } from "./_awrs_smc.ts";
import { fromRows, type TokenSource } from "./_awrs_source.ts";
import { branchSeeds } from "./_branches.ts";
import type { StrategyContext, StrategyDemand } from "./strategy.ts";

/** What a run gets. */
export type AwrsContext = StrategyContext<AwrsParams, { readonly model: readonly ["edit"] }>;

/** Branches of a choice's seed: choices themselves take the small numbers. */
const particleBranch = 2 ** 20;
const smcBranch = 2 ** 21;

/**
 * Rows of logits, or for the sampled law itself what is told of it: the likeliest tokens, and draws.
 *
 * @throws {CapabilityError} naming what is missing
 */
export function checkModel(
  model: LanguageModel<"edit">,
  demand: StrategyDemand<AwrsParams>,
): void {
  const { sampling, constraint, params } = demand;
  const use = { strategy: name, role: "model" };
  const canTell = constraint !== undefined && params.estimator !== "mask" &&
    isRaw(sampling) && remoteNeeds.every((need) => model.capabilities.has(need));
  if (!canTell) requireCapabilities(model, rowNeeds, use);
}

const rowNeeds = ["edit", "logits"] as const;
const drawNeeds = ["edit", "logits", "sample"] as const;
const remoteNeeds = ["edit", "topk", "generate"] as const;

/** Whether tokens are drawn from the raw law, or the best of it taken. */
function isRaw(sampling: SamplingParams): boolean {
  const { temperature, topK, topP, minP, typicalP, logitBias } = sampling;
  return (temperature === 0 || temperature === 1) && topK === 0 && topP === 1 && minP === 0 &&
    typicalP === 1 && logitBias.length === 0 && !hasPenalties(sampling);
}

/** A system of particles per choice. */
export function openSystems(context: AwrsContext): Opened {
  const { models: { model }, constraint, params, ignoreStop, signal } = context;
  const canDraw = model.capabilities.has("sample");
  if (!constraint) {
    return canDraw
      ? openFor(context, requireCapabilities(model, drawNeeds), freelyDrawn())
      : openFor(context, requireCapabilities(model, rowNeeds), fromRows(freeSource()));
  }
  const { estimator, proper_weights: isProper, prune, max_accepts: maxAccepts } = params;
  const options = {
    constraint,
    estimator,
    isProper,
    prune,
    maxAccepts,
    maxRejects: params.max_rejects === "none" ? Infinity : params.max_rejects,
    vocab: model.vocab!,
    ignoreStop,
    signal,
  };
  if (!model.capabilities.has("logits")) {
    const able = requireCapabilities(model, remoteNeeds);
    return openFor(context, able, remoteSource(options, params.visible));
  }
  const isMasked = estimator === "mask" || (estimator === "auto" && constraint.mask !== undefined);
  if (canDraw) {
    const able = requireCapabilities(model, drawNeeds);
    return isMasked
      ? openFor(context, able, drawnUnderMask(options, maskedSource(options)))
      : openFor(context, able, drawnAndJudged(options));
  }
  const source = (isMasked ? maskedSource : judgedSource)(options);
  return openFor(context, requireCapabilities(model, rowNeeds), fromRows(source));
}

/** Systems of particles, and what they share. */
export interface Opened {
  readonly all: readonly ParticleSystem[];
  readonly source: { readonly checks: number };
}

function openFor<S extends Session<"edit">>(
  context: AwrsContext,
  model: { session(prompt: Prompt): S },
  source: TokenSource<S>,
): Opened {
  const { prompt, params, sampling, choices, constraint } = context;
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
  const all = branchSeeds(sampling.seed, choices).map((seed) =>
    new ParticleSystem(particleSeeds(seed, count).map(particle), {
      constraint,
      limits: limitsOf(context),
      essThreshold: params.ess_threshold,
      resampling: params.resampling,
      choose: params.choose,
      rng: createRng(forkSeed(seed, smcBranch)),
    })
  );
  return { all, source };
}

/** What the request itself takes away beside the constraint. */
function limitsOf({ sampling, params }: AwrsContext): string {
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

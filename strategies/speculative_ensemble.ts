/**
 * Draws from a combination of two to four models over one vocabulary, in fewer passes than running all
 * of them on every token: one proposes, the others check, and what the checker computed after the last
 * proposal becomes its own proposal for the others.
 *
 * `combine`: `weighted` mean of probabilities; `product`, the weighted sum of logits; `contrastive`, the
 * model's logits less `mu` times those of each other model. The result is distributed exactly so.
 * `framework`: `alternate`; `naive`, where only the proposer proposes; `plain`, every model on every
 * token. With `verify: coupled` all three give the same tokens for a seed.
 * At temperature 0 `weighted` takes the most likely token of the mixture at temperature 1
 * (`greedy_mixture` 1 in the metrics); the others take their arg max.
 *
 * Source: Fu et al. 2025, "Fast Large Language Model Collaborative Decoding via Speculation",
 * https://arxiv.org/abs/2502.01662. Differs: see `_ensemble.ts`; each model keeps its own weight; the
 * log-probabilities returned are the combination's. Acceptance of a proposer is at least its weight.
 * Cost: a pass over two tokens per call; one session per model and choice. Metrics compare the calls
 * with those of the plain ensemble.
 */
import * as z from "zod";
import type { Capability, LanguageModel } from "../runtime/mod.ts";
import { branchSeeds } from "./_branches.ts";
import { chanceFrom } from "./_chance.ts";
import { type Combination, contrast, weightedMean, weightedProduct } from "./_combine.ts";
import { createMasker } from "./_constrain.ts";
import { coupledDecider, ratioDecider } from "./_deciders.ts";
import { Ensemble } from "./_ensemble.ts";
import { StrategyParamError } from "./_errors.ts";
import { requireSameVocab } from "./_same_vocab.ts";
import { defineStrategy, type StrategyContext } from "./strategy.ts";

const name = "speculative-ensemble";

const params = z.strictObject({
  models: z.int().min(2).max(4).default(2)
    .describe("models that decide: roles model, expert2, expert3, expert4"),
  combine: z.enum(["weighted", "product", "contrastive"]).default("weighted")
    .describe("mean of probabilities, weighted sum of logits, or logits less mu times the others'"),
  weights: z.union([
    z.literal("equal"),
    z.number().min(0).max(1),
    z.array(z.number().min(0).max(1)).min(2).max(4),
  ]).default("equal")
    .describe("weighted, product: the first model's weight, or one per model with sum 1"),
  mu: z.number().min(0).max(1).default(0.1)
    .describe("contrastive: how strongly the other models' logits count against a token"),
  plausibility: z.number().min(0).max(1).default(0)
    .describe("contrastive: keep tokens with this share of the model's best probability; 0 = all"),
  framework: z.enum(["alternate", "naive", "plain"]).default("alternate")
    .describe("who proposes: all in turn, one, or nobody (every model on every token)"),
  proposer: z.int().min(1).max(4).default(2)
    .describe("which model proposes first, the cheapest for best speed; 1 = the request's model"),
  gamma: z.int().min(1).max(8).default(1).describe("tokens that model proposes at a time"),
  verify: z.enum(["ratio", "coupled"]).default("ratio")
    .describe(
      "keep proposals by probability, or by noise that makes a seed's tokens the same always",
    ),
});

type Params = z.output<typeof params>;
const needs = { model: ["edit", "logits"], expert2: ["edit", "logits"] } as const satisfies Record<
  string,
  readonly Capability[]
>;
const optionalNeeds = {
  expert3: ["edit", "logits"],
  expert4: ["edit", "logits"],
} as const satisfies Record<string, readonly Capability[]>;
const roleNames = ["model", "expert2", "expert3", "expert4"] as const;
type Context = StrategyContext<Params, typeof needs, typeof optionalNeeds>;

/** Speculative ensemble. */
export const speculativeEnsemble = defineStrategy({
  name,
  summary: "Several models decide on every token together, at less than the cost of all of them",
  source: "https://arxiv.org/abs/2502.01662",
  streaming: "bursts",
  constrained: true,
  needs,
  optionalNeeds,
  roles: ({ models }) => (["expert3", "expert4"] as const).slice(0, models - 2),
  params,
  sequences: ({ models }, choices) => models * choices,
  check(models, { params }) {
    for (const role of roleNames.slice(1)) {
      const other = models[role];
      if (other) requireSameVocab(name, role, models.model, other);
    }
    if (params.proposer > params.models) {
      throw new StrategyParamError(
        name,
        "proposer",
        `${params.proposer} of ${params.models} models`,
      );
    }
    checkWeights(params);
  },
  async *run(context) {
    const { choices } = context;
    const all = openEnsembles(context);
    let going = all.map((ensemble, choice) => ({ choice, ensemble }));
    let tokens = 0;
    try {
      while (going.length > 0) {
        const rounds = await Promise.all(going.map(({ ensemble }) => ensemble.advance()));
        for (const [i, { choice, ensemble }] of going.entries()) {
          const decided = rounds[i]!;
          tokens += decided.length;
          context.trace({ type: "turn", choice, decided: decided.length });
          if (ensemble.reason) ensemble[Symbol.dispose]();
          if (decided.length === 0) continue;
          yield {
            choice,
            tokens: decided.map(({ token }) => token),
            ...context.logprobs === undefined ? {} : { logprobs: decided },
          };
        }
        going = going.filter(({ ensemble }) => !ensemble.reason);
      }
    } finally {
      for (const ensemble of all) ensemble[Symbol.dispose]();
    }
    return {
      reasons: Array.from({ length: choices }, (_, i) => all[i]!.reason!),
      metrics: metricsOf(context, all, tokens),
    };
  },
});

function openEnsembles(context: Context): readonly Ensemble[] {
  const { prompt, params, sampling } = context;
  const { gamma, framework, proposer, verify } = params;
  const models = modelsOf(context);
  const options = { rollback: gamma + models.length + 1 };
  const first = models[0]!.session(prompt, options);
  // Token ids for the others: their templates may differ, their vocabularies do not.
  const roots = [first, ...models.slice(1).map((model) => model.session(first.tokens, options))];
  const combination = combinationOf(params);
  const masker = context.constraint &&
    createMasker(context.constraint, context.models.model.vocab!, context.ignoreStop);
  return branchSeeds(sampling.seed, context.choices).map((seed, i) =>
    new Ensemble({
      sessions: roots.map((root) => i === 0 ? root : root.fork()),
      combination,
      decider: verify === "coupled"
        ? coupledDecider(seed)
        : ratioDecider(chanceFrom(context.rng.fork(i))),
      framework,
      proposer: proposer - 1,
      gamma,
      sampling: { ...sampling, seed },
      maxTokens: context.maxTokens,
      logprobs: context.logprobs,
      stops: context.createStopCheck(),
      constraint: context.constraint,
      masker,
    })
  );
}

function modelsOf({ models, params }: Context): readonly LanguageModel<"edit" | "logits">[] {
  return roleNames.slice(0, params.models).map((role) => models[role]!);
}

function combinationOf(params: Params): Combination {
  if (params.combine === "contrastive") return contrast(params.mu, params.plausibility);
  const weights = weightsOf(params);
  return params.combine === "weighted" ? weightedMean(weights) : weightedProduct(weights);
}

/** One weight per model; those not given share what is left equally. */
function weightsOf({ weights, models }: Params): readonly number[] {
  if (typeof weights === "object") return weights;
  const first = weights === "equal" ? 1 / models : weights;
  return Array.from({ length: models }, (_, i) => i === 0 ? first : (1 - first) / (models - 1));
}

function checkWeights({ weights, models, combine }: Params): void {
  const refuse = (detail: string): never => {
    throw new StrategyParamError(name, "weights", detail);
  };
  if (weights === "equal") return;
  if (combine === "contrastive") refuse("contrastive weighs by mu");
  if (typeof weights === "number") return;
  if (weights.length !== models) refuse(`${weights.length} weights for ${models} models`);
  const sum = weights.reduce((total, weight) => total + weight, 0);
  if (Math.abs(sum - 1) > 1e-9) refuse(`the sum is ${sum}, not 1`);
}

/** Per role: calls, tokens proposed and accepted; in all: calls, and what the plain ensemble makes. */
function metricsOf(
  { params, sampling }: Context,
  all: readonly Ensemble[],
  tokens: number,
): Readonly<Record<string, number>> {
  const metrics: Record<string, number> = {};
  const sum = (role: number, count: "calls" | "proposed" | "accepted") =>
    all.reduce((total, { voices }) => total + voices[role]![count], 0);
  let calls = 0;
  for (const [i, role] of roleNames.slice(0, params.models).entries()) {
    calls += sum(i, "calls");
    metrics[`calls_${role}`] = sum(i, "calls");
    metrics[`proposed_${role}`] = sum(i, "proposed");
    metrics[`accepted_${role}`] = sum(i, "accepted");
  }
  metrics.calls = calls;
  metrics["calls_plain"] = tokens * params.models;
  if (sampling.temperature === 0 && params.combine === "weighted") metrics["greedy_mixture"] = 1;
  return metrics;
}

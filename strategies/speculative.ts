/**
 * A cheap source proposes several tokens, the model verifies all of them in one pass: the model's own
 * output in fewer passes.
 *
 * Verification: `coupled` (default) keeps proposals while they equal what the model itself would pick
 * with the noise of that position, so the output is token for token what `sample` gives with the same
 * seed, for any proposals; at temperature 0 that is `greedy`. `ratio` and `block` accept by
 * probability: the same distribution, other tokens; proposals drawn from a model's law are kept more
 * often, and `block` never less often than `ratio`.
 * Proposals: a second model (role `draft`, same vocabulary), or tables over the sequence itself
 * (`prompt-lookup`, `suffix`, `token-recycling`), which live as long as the request. A draft model and
 * `token-recycling` also make trees (`tree_nodes`): with `coupled` the target's pick at a node chooses the
 * child, exact for any tree; with `ratio` a draft model's tree branches at every node, siblings are drawn
 * without replacement and checked by recursive rejection sampling. Positions kept from a tree are computed
 * once more in the next pass.
 *
 * Sources: Leviathan et al. 2022, https://arxiv.org/abs/2211.17192; Sun et al. 2024,
 * https://arxiv.org/abs/2403.10444 (block); Daliri et al. 2024, https://arxiv.org/abs/2408.07978
 * (coupled). Differs: no proposal is made for the last token of a completion; draft and target share
 * bias, penalties, filters and constraint.
 * Cost: per round one pass of the model over gamma + 1 tokens, and an ask of the draft per proposal;
 * per choice one session at each. Choices accept different numbers of proposals and are not padded.
 * `gamma_schedule: ema` proposes as many tokens as pay, none where none do: by the costs given, or with
 * `coupled` by measured ones if the run has a clock (output does not depend on them there).
 */
import * as z from "zod";
import {
  type Capability,
  requireCapabilities,
  type SamplingParams,
  type Session,
} from "../runtime/mod.ts";
import { branchSeeds } from "./_branches.ts";
import { type Chance, chanceFrom } from "./_chance.ts";
import { createMasker } from "./_constrain.ts";
import { type Drafter, modelDrafter } from "./_drafter.ts";
import { forestDrafter } from "./_drafter_forest.ts";
import { type DraftTable, promptLookup, tableDrafter, tokenRecycling } from "./_drafter_tables.ts";
import { suffixTable } from "./_drafter_suffix.ts";
import { StrategyParamError } from "./_errors.ts";
import { type Costs, createSchedule, declaredCosts, measuredCosts } from "./_gamma.ts";
import { Speculation } from "./_speculation.ts";
import { type CostSource, SpeculationLog } from "./_speculation_log.ts";
import { requireSameVocab } from "./_same_vocab.ts";
import { defineStrategy, type StrategyContext } from "./strategy.ts";

const name = "speculative";
const draftModelLimit = 16;

const params = z.strictObject({
  draft: z.enum(["model", "prompt-lookup", "suffix", "token-recycling"]).default("model")
    .describe("where proposals come from: the model of role draft, or the text so far"),
  verify: z.enum(["coupled", "ratio", "block"]).default("coupled")
    .describe("which proposals are kept; coupled gives the tokens of `sample` with the same seed"),
  gamma: z.int().min(1).max(64).default(4)
    .describe("most proposals per round; at most 16 from a draft model"),
  gamma_schedule: z.enum(["fixed", "heuristic", "ema"]).default("fixed")
    .describe("how many of them: all, by the last round, or as many as pay by the cost model"),
  stop_below: z.number().min(0).max(0.999).default(0)
    .describe("draft model: end a round's proposals after one less probable than this; 0 = off"),
  draft_temperature: z.union([z.literal("same"), z.number().min(0).max(2)]).default("same")
    .describe("temperature of the draft model's proposals"),
  max_n: z.int().min(1).max(16).default(3).describe("prompt-lookup: longest suffix looked up"),
  min_n: z.int().min(1).max(16).default(1).describe("prompt-lookup: shortest suffix looked up"),
  max_depth: z.int().min(2).max(64).default(24).describe("suffix: longest run counted, in tokens"),
  factor: z.number().min(0).max(16).default(1).describe("suffix: proposals per matched token"),
  offset: z.number().min(0).max(64).default(0).describe("suffix: proposals beside those"),
  min_prob: z.number().min(0).max(1).default(0.1)
    .describe("suffix: end proposals before a run less probable than this"),
  min_score: z.number().min(0).max(64).default(0)
    .describe("suffix: propose nothing if fewer tokens are expected to be kept"),
  tree_nodes: z.int().min(0).max(80).default(0)
    .describe(
      "draft model, token-recycling: verify a tree of so many proposals, gamma deep; 0 = a chain",
    ),
  draft_cost: z.number().min(0).max(10).default(0.1)
    .describe("ema: one proposal, in passes of the model over one token"),
  verify_cost: z.number().min(0).max(10).default(0.02)
    .describe("ema: each further token of a pass, in passes over one token"),
});

type Params = z.output<typeof params>;
type Context = StrategyContext<Params, typeof needs, typeof optionalNeeds>;
const needs = { model: ["edit", "logits"] } as const satisfies Record<
  string,
  readonly Capability[]
>;
const optionalNeeds = { draft: ["edit", "generate", "sample", "logits"] } as const satisfies Record<
  string,
  readonly Capability[]
>;

/** Branches of a draft model's tree that go on at a time; 0 = no tree. */
function chainsOf({ tree_nodes: nodes, gamma }: Params): number {
  return nodes === 0 ? 0 : Math.max(1, Math.floor(nodes / gamma));
}

const treeNeeds = ["edit", "logits", "tree"] as const;

/** Speculative sampling. */
export const speculative = defineStrategy({
  name,
  summary: "The model's own output in fewer passes: a cheap draft proposes, the model verifies",
  source: "https://arxiv.org/abs/2211.17192",
  streaming: "bursts",
  constrained: true,
  needs,
  optionalNeeds,
  roles: ({ draft }) => draft === "model" ? ["draft"] : [],
  params,
  sequences: (params, choices) => choices * (params.draft === "model" ? 2 + chainsOf(params) : 1),
  check({ model, draft }, { params }) {
    const { draft: source, gamma, min_n: minN, max_n: maxN, tree_nodes: trees } = params;
    if (draft) requireSameVocab(name, "draft", model, draft);
    if (source === "model" && gamma > draftModelLimit) {
      throw new StrategyParamError(name, "gamma", `at most ${draftModelLimit} with a draft model`);
    }
    if (trees > 0) checkTree(model, params);
    if (minN > maxN) throw new StrategyParamError(name, "min_n", `${minN} is above max_n ${maxN}`);
  },
  async *run(context) {
    const { choices } = context;
    const source = costsOf(context);
    const log = new SpeculationLog(context, source);
    const all = openSpeculations(context, source.costs);
    let going = all.map((speculation, choice) => ({ choice, speculation }));
    try {
      while (going.length > 0) {
        const rounds = await log.round(going);
        for (const [i, { choice, speculation }] of going.entries()) {
          const { tokens } = rounds[i]!;
          if (tokens.length === 0) continue;
          yield {
            choice,
            tokens: tokens.map(({ token }) => token),
            ...context.logprobs === undefined ? {} : { logprobs: tokens },
          };
          if (speculation.reason) speculation[Symbol.dispose]();
        }
        going = going.filter(({ speculation }) => !speculation.reason);
      }
    } finally {
      for (const speculation of all) speculation[Symbol.dispose]();
    }
    return {
      reasons: Array.from({ length: choices }, (_, i) => all[i]!.reason!),
      metrics: log.metrics(),
    };
  },
});

/** Measured costs only where the output does not depend on them: a seed has to repeat. */
function costsOf({ params, clock }: Context): CostSource {
  const { verify, gamma, verify_cost: verifyCost, draft_cost: draftCost } = params;
  const measured = clock && verify === "coupled" ? measuredCosts(gamma) : undefined;
  const declared = declaredCosts(verifyCost, params.draft === "model" ? draftCost : 0);
  return { measured, costs: measured ?? declared };
}

/** @throws {StrategyParamError | CapabilityError} unless a tree can be made, and checked exactly */
function checkTree(model: Context["models"]["model"], params: Params): void {
  const refuse = (detail: string): never => {
    throw new StrategyParamError(name, "tree_nodes", detail);
  };
  if (params.draft !== "model" && params.draft !== "token-recycling") {
    refuse("a draft model or token-recycling proposes trees");
  }
  if (params.verify === "block") refuse("trees are verified by the rules coupled and ratio");
  if (params.gamma_schedule !== "fixed") refuse("the depth of trees is fixed");
  requireCapabilities(model, treeNeeds, { strategy: name, role: "model" });
}

function copies<S extends { fork(): S }>(session: S, count: number): readonly S[] {
  return Array.from({ length: count }, (_, i) => i === 0 ? session : session.fork());
}

function openSpeculations(context: Context, costs: Costs): readonly Speculation[] {
  const { models: { model, draft }, prompt, params, sampling, choices } = context;
  const { gamma } = params;
  const options = { rollback: gamma + 1 };
  const trees = params.tree_nodes > 0
    ? copies(requireCapabilities(model, treeNeeds).session(prompt, options), choices)
    : undefined;
  const targets = trees ?? copies(model.session(prompt, options), choices);
  const tokens = targets[0]!.tokens.slice();
  const drafts = draft && copies(draft.session(tokens, options), choices);
  const masker = context.constraint &&
    createMasker(context.constraint, model.vocab!, context.ignoreStop);
  return branchSeeds(sampling.seed, choices).map((seed, i) => {
    const chosen = { ...sampling, seed };
    const session = drafts?.[i];
    return new Speculation({
      ...context,
      target: targets[i]!,
      tree: trees?.[i],
      drafter: session
        ? draftWith(session, chosen, chanceFrom(context.rng.fork(2 * i + 1)), context)
        : tableDrafter(tableFor(params), tokens, model.vocab!),
      rule: params.verify,
      sampling: chosen,
      chance: chanceFrom(context.rng.fork(2 * i)),
      schedule: createSchedule(params.gamma_schedule, gamma, costs),
      stops: context.createStopCheck(),
      masker,
    });
  });
}

function draftWith(
  session: Session<typeof optionalNeeds["draft"][number]>,
  sampling: SamplingParams,
  chance: Chance,
  { params, ignoreStop, models }: Context,
): Drafter {
  const stopTokens = models.model.vocab!.stopTokens;
  const { verify, draft_temperature: temperature, stop_below: stopBelow } = params;
  const chains = chainsOf(params);
  const options = {
    sampling: temperature === "same" ? sampling : { ...sampling, temperature },
    promptLength: session.length,
    stopBelow,
    chance: verify === "coupled" ? undefined : chance,
  };
  return chains > 0
    ? forestDrafter(session, {
      ...options,
      chains,
      nodes: params.tree_nodes,
      ignoreStop,
      stopTokens,
    })
    : modelDrafter(session, options);
}

function tableFor(params: Params): DraftTable {
  if (params.draft === "prompt-lookup") {
    return promptLookup({ maxN: params.max_n, minN: params.min_n });
  }
  if (params.draft === "token-recycling") return tokenRecycling(params.tree_nodes);
  return suffixTable({
    maxDepth: params.max_depth,
    factor: params.factor,
    offset: params.offset,
    minProb: params.min_prob,
    minScore: params.min_score,
  });
}

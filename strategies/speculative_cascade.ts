/**
 * A small and a large model write one answer under a stated rule: which of them decides the next token,
 * or how their laws become one. Cost and quality are traded on a dial (`alpha`), and the law of the
 * output is exact whatever the execution.
 *
 * Rules. Position rules let one model speak: `chow`, `margin` look at the small model alone; `diff`,
 * `opt`, `oracle` at both; `always` is the large model, `never` the small one. Token rules let the small
 * model decide the tokens of a set: `token-v1`, `token-v2`, `token-v3`. `mix`, `contrast` and `proxy`
 * (with a tuned small model as role `tuned`) combine laws or logits.
 * Execution. `step`: every model on every token. `gated` (chow, margin, never, always): the small model
 * alone until it defers, then one token of the large one, and so on; the large one needs no more than to
 * continue tokens, so it may be an upstream. With `ahead` the small model goes on past its deferrals, and
 * one pass of the large one settles up to `gamma` of them: fewer passes, for which it has to tell its laws.
 * Nothing that waits is output.
 * `speculative`: the small model drafts `gamma` tokens, one pass of the large one checks them against
 * the rule's law; with `bonus: alternate` the large model's next draw is a proposal of its own, checked
 * in turn, never output as it is. `auto`: gated where the rule allows it, otherwise speculative.
 * With `verify: coupled` all executions give the same tokens for a seed.
 *
 * Sources: Narasimhan et al. 2024, https://arxiv.org/abs/2405.19261 (rules, speculative execution);
 * Zhang et al. 2024, https://arxiv.org/abs/2406.12295 (margin, gating). Differs: criteria ignore
 * temperature and filters; the request's filters shape each model's law by themselves; log-probabilities
 * are those of the rule's law at temperature 1; `mix` at temperature 0 takes the mixture's best token.
 * Cost: see above; one session per model and choice.
 */
import { type Capability, requireCapabilities } from "../runtime/mod.ts";
import { type CascadeParams, checkParams, isDrawn, name, params } from "./_collaboration_params.ts";
import { type Counts, metricsOf, openWorks } from "./_collaboration_works.ts";
import { requireSameVocab } from "./_same_vocab.ts";
import { defineStrategy, type StrategyContext, type StrategyDemand } from "./strategy.ts";

const needs = { model: ["edit"], draft: ["edit", "logits"] } as const satisfies Record<
  string,
  readonly Capability[]
>;
const optionalNeeds = { tuned: ["edit", "logits"] } as const satisfies Record<
  string,
  readonly Capability[]
>;
/** What a run gets. */
export type CascadeContext = StrategyContext<CascadeParams, typeof needs, typeof optionalNeeds>;

/** Speculative cascade. */
export const speculativeCascade = defineStrategy({
  name,
  summary: "A small and a large model write one answer by a rule that trades cost for quality",
  source: "https://arxiv.org/abs/2405.19261",
  streaming: "bursts",
  constrained: true,
  needs,
  optionalNeeds,
  roles: ({ rule }) => rule === "proxy" ? ["tuned"] : [],
  params,
  sequences: ({ rule }, choices) => choices * (rule === "proxy" ? 3 : 2),
  check(models, demand) {
    requireSameVocab(name, "draft", models.model, models.draft);
    if (models.tuned) requireSameVocab(name, "tuned", models.model, models.tuned);
    checkParams(demand.params);
    requireLarge(models, demand);
  },
  async *run(context) {
    const { choices, logprobs } = context;
    const counts: Counts = { tokens: 0, smallShare: 0 };
    const all = openWorks(context, counts);
    let going = all.map((work, choice) => ({ choice, work }));
    try {
      while (going.length > 0) {
        const rounds = await Promise.all(going.map(({ work }) => work.advance()));
        for (const [i, { choice, work }] of going.entries()) {
          const decided = rounds[i]!;
          context.trace({ type: "turn", choice, decided: decided.length });
          if (work.reason) work[Symbol.dispose]();
          if (decided.length === 0) continue;
          counts.tokens += decided.length;
          yield {
            choice,
            tokens: decided.map(({ token }) => token),
            ...logprobs === undefined ? {} : { logprobs: decided },
          };
        }
        going = going.filter(({ work }) => !work.reason);
      }
    } finally {
      for (const work of all) work[Symbol.dispose]();
    }
    return {
      reasons: Array.from({ length: choices }, (_, i) => all[i]!.reason!),
      metrics: metricsOf(context, all, counts),
    };
  },
});

/** @throws {CapabilityError} if the large model lacks what the execution needs of it */
function requireLarge(
  { model }: CascadeContext["models"],
  { params, constraint }: StrategyDemand<CascadeParams>,
): void {
  const use = { strategy: name, role: "model" };
  if (!isDrawn(params)) requireCapabilities(model, ["edit", "logits"], use);
  else if (params.rule !== "never") {
    requireCapabilities(model, ["edit", constraint ? "sample" : "generate"], use);
  }
}

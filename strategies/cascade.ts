/**
 * A small model answers; where its answer does not look good enough, a larger one answers instead, not
 * knowing of it. Two to four models, each local or upstream; the last one always answers.
 *
 * Rules: `sum`, `average` and `quantile` of the answer's log-probabilities; `learned`, a network over
 * them; `router`, from the prompt alone, so that only one model is asked. The threshold is given, or
 * comes from a calibration (`deno task calibrate`) that the configuration names.
 *
 * Source: Gupta et al. 2024, "Language Model Cascades: Token-Level Uncertainty and Beyond",
 * https://arxiv.org/abs/2404.10136, section 3; chains as in Chen et al. 2023, "FrugalGPT",
 * https://arxiv.org/abs/2305.05176.
 * Differs: an answer that runs into the token limit, and one without tokens, is deferred; the small
 * model is stopped as soon as its score can no longer reach the threshold, which changes no decision.
 * Log-probabilities are the raw model's; the stop token counts where the model shows it.
 * Streams: nothing of an answer before it is kept; the last model's token by token.
 * Cost: one ask per token, choice and model asked; a session per choice and model.
 */
import { CapabilityError, isMessages } from "../runtime/mod.ts";
import { branchSeeds } from "./_branches.ts";
import { answerAll, type ChoiceRecord, tryLink } from "./_cascade_answers.ts";
import { checkChain, type Link, linksOf } from "./_cascade_links.ts";
import { type CascadeContext, needs, optionalNeeds, params } from "./_cascade_params.ts";
import { promptScore } from "./_cascade_rule.ts";
import { tellsLogprobs } from "./_checks.ts";
import { defineStrategy } from "./strategy.ts";

const name = "cascade";
const drawing = ["sample", "edit"] as const;

/** Cascade of models. */
export const cascade = defineStrategy({
  name,
  summary: "A small model answers, a larger one where the answer does not look good enough",
  source: "https://arxiv.org/abs/2404.10136",
  streaming: "bursts",
  constrained: true,
  delegates: true,
  needs,
  optionalNeeds,
  constrainedNeeds: { large: drawing, small: drawing, middle: drawing, middle2: drawing },
  roles: ({ models }) => (["middle", "middle2"] as const).slice(0, models - 2),
  params,
  sequences: (_, choices) => choices,
  check(models, { params, ...demand }) {
    const chain = checkChain(models, params, demand);
    for (const { role, model } of chain.slice(0, -1)) {
      if (params.rule === "router" || tellsLogprobs(model)) continue;
      throw new CapabilityError(model.id, ["log-probabilities"], { strategy: name, role });
    }
  },
  async *run(context) {
    const { choices, sampling, params } = context;
    const { links, last } = linksOf(context.models, params, context.calibrations);
    const records = Array.from({ length: choices }, (): ChoiceRecord => ({}));
    const seeds = branchSeeds(sampling.seed, choices).map((seed) => ({ ...sampling, seed }));
    let open = records.map((_, choice) => choice);
    for (const link of links) {
      if (open.length === 0) break;
      if (params.rule === "router") {
        if (routes(context, link, open, records)) continue;
        yield* answerAll(context, link, { choices: open, samplings: seeds, records });
        open = [];
      } else {
        const kept = yield* tryLink(context, link, { choices: open, samplings: seeds, records });
        open = open.filter((choice) => !kept.has(choice));
      }
    }
    const deferred = open.length;
    if (deferred > 0) {
      yield* answerAll(context, last, { choices: open, samplings: seeds, records });
    }
    return {
      reasons: records.map(({ reason }) => reason!),
      metrics: { deferred, kept: choices - deferred },
      choices: records.map(({ reason: _, servedBy: __, ...rest }) => ({ ...rest })),
      servedBy: records.map(({ servedBy }) => servedBy!),
    };
  },
});

/** Whether the router passes the prompt on. */
function routes(
  context: CascadeContext,
  { role, scoring, threshold }: Link,
  choices: readonly number[],
  records: ChoiceRecord[],
): boolean {
  const score = promptScore(scoring, promptText(context));
  const isDeferred = score < threshold;
  for (const choice of choices) {
    Object.assign(records[choice]!, { score, threshold });
    context.trace({ type: "link", choice, role, score, threshold, deferred: isDeferred });
  }
  return isDeferred;
}

function promptText({ prompt, models: { small, large } }: CascadeContext): string {
  if (isMessages(prompt)) return prompt.map(({ content }) => content ?? "").join("\n");
  return (small.vocab ?? large.vocab)!.decode([...prompt as readonly number[]]);
}

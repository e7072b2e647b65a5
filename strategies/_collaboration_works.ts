/** Completions of `speculative-cascade`, opened for the execution asked for, and what they cost. */
import {
  requireCapabilities,
  sampleRow,
  type Seed,
  type Session,
  type TokenLogprob,
} from "../runtime/mod.ts";
import { branchSeeds } from "./_branches.ts";
import { Gated, generatingVoice, type LargeVoice, samplingVoice } from "./_collaboration_gated.ts";
import { contrastRule, proxyRule } from "./_collaboration_logits.ts";
import { type CascadeParams, isDrawn, isGated, ownRule } from "./_collaboration_params.ts";
import { type CascadeRule, positionRule, smallSpeaks, tokenRule } from "./_collaboration_rules.ts";
import { chanceFrom } from "./_chance.ts";
import { type Combination, weightedMean } from "./_combine.ts";
import { createMasker, type Masker } from "./_constrain.ts";
import { coupledDecider, ratioDecider } from "./_deciders.ts";
import { Ensemble, type Framework } from "./_ensemble.ts";
import type { CascadeContext } from "./speculative_cascade.ts";

/** A completion under way, however it is executed. */
export interface Work extends Disposable {
  /** Why it ended; undefined while it goes on. */
  readonly reason: "stop" | "length" | undefined;
  /** @returns tokens that are certain now, maybe none */
  advance(): Promise<readonly TokenLogprob[]>;
}

/** Sums over all choices. */
export interface Counts {
  tokens: number;
  /** Of the probability with which the small model's own draw stood. */
  smallShare: number;
}

/** One completion per choice. */
export function openWorks(context: CascadeContext, counts: Counts): readonly Work[] {
  const { constraint, models, ignoreStop } = context;
  const masker = constraint && createMasker(constraint, models.draft.vocab!, ignoreStop);
  return isDrawn(context.params)
    ? openGated(context, masker)
    : openEnsembles(context, masker, counts);
}

function openGated(context: CascadeContext, masker: Masker | undefined): readonly Gated[] {
  const { models, params, sampling, choices } = context;
  const { alpha, margin } = params;
  const rule = ownRule(params.rule)!;
  const seeds = branchSeeds(sampling.seed, choices);
  const { voices, promptTokens } = openVoices(context, seeds);
  const small = models.draft.session(promptTokens);
  return seeds.map((seed, i) =>
    new Gated({
      ...context,
      sampling: { ...sampling, seed },
      small: i === 0 ? small : small.fork(),
      large: voices[i],
      speaks: (row, shape) => smallSpeaks(rule, row, { shape, alpha, margin }),
      draw: (row, shape, position) => sampleRow(row, { ...shape, topLogprobs: 0, position }).token,
      stops: context.createStopCheck(),
      masker,
    })
  );
}

/** The large model's sessions, none for the rule that never asks it, and the prompt as it sees it. */
function openVoices(context: CascadeContext, seeds: readonly Seed[]) {
  const { models: { model }, prompt, sampling, params, constraint } = context;
  const options = (i: number) => ({ ...context, sampling: { ...sampling, seed: seeds[i]! } });
  const voicesOf = <S extends Session<"edit">>(
    root: S,
    voice: (session: S, i: number) => LargeVoice,
  ) => ({
    voices: seeds.map((_, i) => voice(i === 0 ? root : root.fork(), i)),
    promptTokens: root.tokens.slice(),
  });
  if (params.rule === "never") {
    using session = model.session(prompt);
    return { voices: [], promptTokens: session.tokens.slice() };
  }
  return constraint
    ? voicesOf(
      requireCapabilities(model, ["edit", "sample"]).session(prompt),
      (session, i) => samplingVoice(session, options(i)),
    )
    : voicesOf(
      requireCapabilities(model, ["edit", "generate"]).session(prompt),
      (session, i) => generatingVoice(session, options(i)),
    );
}

function openEnsembles(
  context: CascadeContext,
  masker: Masker | undefined,
  counts: Counts,
): readonly Ensemble[] {
  const { models, prompt, params, sampling, constraint } = context;
  const { gamma, verify } = params;
  const sessionOptions = { rollback: Math.max(gamma, params.ahead) + 4 };
  const large = requireCapabilities(models.model, ["edit", "logits"]).session(
    prompt,
    sessionOptions,
  );
  // Token ids for the others: their templates may differ, their vocabularies do not.
  const others = [models.draft, ...models.tuned ? [models.tuned] : []];
  const roots = [large, ...others.map((model) => model.session(large.tokens, sessionOptions))];
  return branchSeeds(sampling.seed, context.choices).map((seed, i) =>
    new Ensemble({
      ...context,
      sessions: roots.map((root) => i === 0 ? root : root.fork()),
      combination: counted(ruleOf(params), counts),
      decider: verify === "coupled"
        ? coupledDecider(seed)
        : ratioDecider(chanceFrom(context.rng.fork(i))),
      framework: frameworkOf(params),
      // The small model drafts; where there is a tuned one, that is closer to the rule's law.
      proposer: roots.length - 1,
      gamma,
      sampling: { ...sampling, seed },
      stops: context.createStopCheck(),
      constraint,
      masker,
    })
  );
}

function frameworkOf(params: CascadeParams): Framework {
  const { rule, alpha, margin, ahead, execution, bonus } = params;
  if (isGated(params)) {
    const own = ownRule(rule)!;
    return { ahead, speaks: (row, shape) => smallSpeaks(own, row, { shape, alpha, margin }) };
  }
  return execution === "step" ? "plain" : bonus === "alternate" ? "alternate" : "naive";
}

/** The law of a rule; rows are in the order large, small, tuned. */
export function ruleOf(params: CascadeParams): Combination | CascadeRule {
  const { rule, alpha, margin, lambda, beta, plausibility, strength } = params;
  switch (rule) {
    case "token-v1":
    case "token-v2":
    case "token-v3":
      return tokenRule(rule, alpha);
    case "mix":
      return weightedMean([1 - lambda, lambda]);
    case "contrast":
      return contrastRule(beta, plausibility);
    case "proxy":
      return proxyRule(strength);
    default:
      return positionRule(rule, alpha, margin);
  }
}

function counted(rule: Combination | CascadeRule, counts: Counts): Combination {
  if (!("smallShare" in rule)) return rule;
  return {
    raw: rule.raw,
    law(rows, shape) {
      const law = rule.law(rows, shape);
      counts.smallShare += rule.smallShare;
      return law;
    },
  };
}

/**
 * Per role: passes, tokens proposed and accepted. `deferrals`, tokens the large model drew, when gated;
 * `small_share`, how probably the small model's own draw stood, for position and token rules.
 */
export function metricsOf(
  { params }: CascadeContext,
  works: readonly Work[],
  { tokens, smallShare }: Counts,
): Readonly<Record<string, number>> {
  const metrics: Record<string, number> = {};
  const add = (key: string, value: number) => metrics[key] = (metrics[key] ?? 0) + value;
  for (const work of works) {
    if (work instanceof Gated) {
      add("deferrals", work.deferrals);
      add("calls_model", work.deferrals);
      add("calls_draft", work.steps);
    }
    if (!(work instanceof Ensemble)) continue;
    if (isGated(params)) add("deferrals", work.deferrals);
    for (const [i, role] of ["model", "draft", "tuned"].slice(0, work.voices.length).entries()) {
      const { calls, proposed, accepted } = work.voices[i]!;
      add(`calls_${role}`, calls);
      add(`proposed_${role}`, proposed);
      add(`accepted_${role}`, accepted);
    }
  }
  if (isGated(params)) {
    metrics["small_share"] = tokens === 0 ? 0 : 1 - metrics["deferrals"]! / tokens;
  } else if (!["mix", "contrast", "proxy"].includes(params.rule) && tokens > 0) {
    metrics["small_share"] = smallShare / tokens;
  }
  return metrics;
}

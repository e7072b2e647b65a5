/**
 * Samples as usual while the model is confident. Where the next token's entropy is high it draws
 * several trials, each to the end of a clause, and keeps the one of lowest perplexity.
 *
 * Source: "Cautious Next Token Prediction", ACL Findings 2025, https://arxiv.org/abs/2507.03038,
 * algorithm 1; schedule `code` and all else as in the authors' code, which differs from the figure.
 * This changes the distribution towards its modes; it is not exact sampling.
 * Differs: a token ends a clause by its last character (`exact`: by its id, as in the authors' code);
 * a trial is at most `trial_max_tokens` long and ends at stop strings; entropy is exact (1e-10 is
 * added inside the logarithm there); trials run side by side. At temperature 0 the warped entropy
 * is 0 and this is `greedy`; under `raw` single tokens are then the most likely ones and trials are
 * drawn at temperature 1, as the authors' code does without sampling.
 * Seeds: single draws use the noise of `sample`, so that one trial everywhere is `sample`; each
 * trial has noise of its own.
 * Cost: one ask per token or live trial, all in one step; `n_max` sessions per choice.
 *
 * Where a model tells no logits but the likeliest tokens (upstreams), the top-k form runs: see
 * `_trials_topk.ts`. Entropies are then lower bounds, all of the raw distribution, and the metrics say
 * `topk_form` 1.
 */
import * as z from "zod";
import { requireCapabilities } from "../runtime/mod.ts";
import { type Branch, branchSeeds, inLockstep } from "./_branches.ts";
import { canEncode, endsByLastCharacter, endsByToken } from "./_clauses.ts";
import { StrategyParamError } from "./_errors.ts";
import type { Drawn, TrialCounts } from "./_trial_sequence.ts";
import { drawWithTrials } from "./_trials.ts";
import { drawWithTopkTrials } from "./_trials_topk.ts";
import { type Chunk, defineStrategy, type StrategyContext } from "./strategy.ts";

const name = "cautious-ntp";

const params = z.strictObject({
  n_max: z.int().min(1).max(64).default(10).describe("most trials at one place"),
  h_min: z.number().min(0).max(20).default(0.01).describe(
    "entropy in nats below which there is one trial",
  ),
  h_max: z.number().min(0).max(20).default(1.5)
    .describe("entropy in nats from which there are n_max trials; above h_min"),
  schedule: z.enum(["code", "paper", "fixed", "negative"]).default("code")
    .describe(
      "trials by entropy: the authors' code, algorithm 1 of the paper, always n_max, or " +
        "(negative) n_max + 1 minus what code gives",
    ),
  scope: z.enum(["auto", "warped", "raw"]).default("auto")
    .describe(
      "distribution of entropies and perplexities: after the sampling parameters, or before; " +
        "auto = after, where the model tells logits",
    ),
  stop_chars: z.string().min(1).max(64).regex(/^[\n\r\t\P{Cc}]+$/u).default(".,\n?!:;)]}")
    .describe("characters that end a clause"),
  stop_match: z.enum(["last-character", "exact"]).default("last-character")
    .describe("a token ends a clause by its last character, or by being a character's first token"),
  trial_max_tokens: z.int().min(1).max(512).default(64).describe("longest trial in tokens"),
}).refine(({ h_min: low, h_max: high }) => high > low, {
  path: ["h_max"],
  message: "has to be above h_min",
});

type Params = z.output<typeof params>;

/** What the number of trials depends on. */
export type Schedule = Pick<z.infer<typeof params>, "n_max" | "h_min" | "h_max" | "schedule">;

/** Number of trials, 1 to `n_max`, at an entropy in nats. */
export function trialsAt(
  entropy: number,
  { n_max: most, h_min: low, h_max: high, schedule }: Schedule,
): number {
  const share = (entropy - low) / (high - low);
  const code = Math.trunc(1 + (most - 1) * Math.min(1, Math.max(0, share)));
  switch (schedule) {
    case "code":
      return code;
    case "paper":
      return Math.max(1, Math.min(most, Math.floor(share * most)));
    case "fixed":
      return most;
    case "negative":
      return most - code + 1;
  }
}

/** Cautious next token prediction. */
export const cautiousNtp = defineStrategy({
  name,
  summary:
    "Samples, and where the model is uncertain tries several clauses and keeps the likeliest",
  source: "https://arxiv.org/abs/2507.03038",
  streaming: "bursts",
  constrained: true,
  needs: { model: ["generate", "edit", "topk"] },
  constrainedNeeds: { model: ["logits"] },
  params,
  sequences: ({ n_max: most }, choices) => most * choices,
  check({ model }, { params: { stop_chars: characters, stop_match: match, scope } }) {
    const { vocab } = model;
    if (scope === "warped") {
      requireCapabilities(model, ["logits"], { strategy: name, role: "model" });
    }
    if (match !== "exact") return;
    for (const character of characters) {
      if (canEncode(vocab!, character)) continue;
      const detail = `${JSON.stringify(character)} is not in the vocabulary`;
      throw new StrategyParamError(name, "stop_chars", detail);
    }
  },
  async *run(context) {
    const { models: { model }, logprobs } = context;
    const isExact = model.capabilities.has("logits");
    const branches = isExact ? openExact(context) : openByTopk(context);
    const reasons = branches.map((): "stop" | "length" => "length");
    for await (const round of inLockstep(branches)) {
      for (const { branch, drawn } of round) {
        if (typeof drawn === "string") reasons[branch] = drawn;
        else if (drawn.length > 0) yield chunkOf(branch, drawn, logprobs !== undefined);
      }
    }
    const counts = branches.map((branch) => branch.counts);
    return {
      reasons,
      metrics: { ...sumOf(counts), ...isExact ? {} : { ["topk_form"]: 1 } },
      choices: counts.map((count) => ({ ...count })),
    };
  },
});

type Context = StrategyContext<
  Params,
  { readonly model: readonly ["generate", "edit", "topk"] }
>;
type TrialBranch = Branch<readonly Drawn[]> & { readonly counts: TrialCounts };

/** What both forms share. */
function shared({ models: { model }, params }: Context) {
  const ends = params.stop_match === "exact" ? endsByToken : endsByLastCharacter;
  return {
    endsClause: ends(model.vocab!, params.stop_chars),
    maxTokens: params.trial_max_tokens,
  };
}

function openExact(context: Context): TrialBranch[] {
  const { prompt, params, sampling, choices } = context;
  const model = requireCapabilities(context.models.model, ["edit", "logits"]);
  const scope = params.scope === "raw" ? "raw" : "warped";
  const isGreedy = sampling.temperature === 0 && scope === "warped";
  const options = shared(context);
  const root = model.session(prompt);
  return branchSeeds(sampling.seed, choices).map((seed, choice) =>
    drawWithTrials(choice === 0 ? root : root.fork(), { ...context, models: { model } }, {
      ...options,
      choice,
      seed,
      // All trials would be the same.
      trialsAt: (entropy) => isGreedy ? 1 : trialsAt(entropy, params),
      scope,
    })
  );
}

/** Most alternatives that are asked for: what all servers give. */
const mostAlternatives = 20;

function openByTopk(context: Context): TrialBranch[] {
  const { models: { model }, prompt, params, sampling, choices, logprobs = 0 } = context;
  const alternatives = Math.min(mostAlternatives, model.topLogprobs ?? mostAlternatives);
  const options = shared(context);
  const root = model.session(prompt, { rollback: 1 });
  return branchSeeds(sampling.seed, choices).map((seed, choice) =>
    drawWithTopkTrials(choice === 0 ? root : root.fork(), context, {
      ...options,
      choice,
      seed,
      trialsAt: (entropy) => trialsAt(entropy, params),
      alternatives: Math.max(alternatives, logprobs),
    })
  );
}

function chunkOf(choice: number, drawn: readonly Drawn[], isShown: boolean): Chunk {
  const tokens = drawn.map(({ token }) => token);
  if (!isShown) return { choice, tokens };
  return { choice, tokens, logprobs: drawn.map(({ shown }) => shown!) };
}

function sumOf(counts: readonly TrialCounts[]): Record<string, number> {
  const sum = (of: (count: TrialCounts) => number) =>
    counts.reduce((total, count) => total + of(count), 0);
  return {
    branchings: sum(({ branchings }) => branchings),
    trials: sum(({ trials }) => trials),
    drawn: sum(({ drawn }) => drawn),
    kept: sum(({ kept }) => kept),
  };
}

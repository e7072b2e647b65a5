/**
 * Beam search in groups: each group is charged for repeating what the groups before it did, so that
 * their answers differ. Within a group everything is as in `beam.ts`; one group is `beam`.
 *
 * Source: Vijayakumar et al. 2016, https://arxiv.org/abs/1610.02424, algorithm 1; diversity functions
 * in `_diversity.ts`. As both reference implementations do, beams add up the charged
 * log-probabilities, and a token is charged once per beam that has it.
 * Differs: control tokens, stop tokens and tokens without an alternative are never charged; a group
 * that is done charges nothing any more. Choices are the best of group 1, of group 2, ..., then the
 * second bests, because scores with charges do not compare between groups; `raw_logprob` does.
 * Cost: one ask per live beam and token, all in one step; at most 2 * `num_beams` sessions. A group
 * whose charges reach beyond the candidates it read asks again, which is a step more; `embedding`
 * takes a step more, and one session, for tokens it has not seen before.
 */
import * as z from "zod";
import { requireCapabilities } from "../runtime/mod.ts";
import { searchBeams } from "./_beam_search.ts";
import { hasAdjustments } from "./_beam_rows.ts";
import { type Hypothesis, tokensOf } from "./_beams.ts";
import { cumulative, type Diversity, embedding, hamming, ngram } from "./_diversity.ts";
import { StrategyParamError } from "./_errors.ts";
import { defineStrategy } from "./strategy.ts";

const name = "diverse-beam";

const params = z.strictObject({
  num_beams: z.int().min(1).max(64).default(4).describe("partial completions kept per step"),
  num_groups: z.union([z.int().min(1).max(64), z.literal("num_beams")]).default("num_beams")
    .describe('groups the beams are divided into, a divisor of num_beams; "num_beams": one each'),
  diversity: z.number().min(0).max(1e6).default(0.5)
    .describe("charge per repetition in nats (lambda); 0.2 to 0.8 is advised"),
  diversity_fn: z.enum(["hamming", "cumulative", "ngram", "embedding"]).default("hamming")
    .describe("what counts as a repetition of an earlier group"),
  ngram_size: z.int().min(1).max(16).default(2).describe("tokens per n-gram, for ngram"),
  cumulative_temperature: z.number().min(0.01).max(1000).default(1)
    .describe("how slowly differences make up for a common path, for cumulative"),
  length_penalty: z.number().min(-10).max(10).default(1)
    .describe("exponent of the length a sum of log-probabilities is divided by; 0 = off"),
  early_stopping: z.union([z.boolean(), z.literal("never")]).default(false)
    .describe(
      "a group stops at all its hypotheses (true), when improvement is unlikely (false), or " +
        'only when it is impossible ("never")',
    ),
}).refine(
  ({ num_beams: beams, num_groups: groups }) => groups === "num_beams" || beams % groups === 0,
  {
    path: ["num_groups"],
    message: "num_beams has to be a multiple of it",
  },
);

type Params = z.infer<typeof params>;

/** Diverse beam search. */
export const diverseBeam = defineStrategy({
  name,
  summary: "Beam search in groups that are charged for repeating each other",
  source: "https://arxiv.org/abs/1610.02424",
  streaming: "end",
  constrained: true,
  needs: { model: ["edit", "topk"] },
  constrainedNeeds: { model: ["logits"] },
  params,
  sequences: ({ num_beams: beams }) => 2 * beams + 1,
  check({ model }, { params, choices, sampling }) {
    const { num_beams: beams, diversity_fn: fn } = params;
    if (choices > beams) {
      throw new StrategyParamError(name, "n", `${choices} choices of ${beams} beams`);
    }
    if (fn === "embedding" && groupsOf(params) > 1 && !model.capabilities.has("hidden")) {
      const detail =
        `embedding needs a model that shows its embeddings (hidden), ${model.id} does not`;
      throw new StrategyParamError(name, "diversity_fn", detail);
    }
    if (hasAdjustments(sampling)) {
      requireCapabilities(model, ["logits"], { strategy: name, role: "model" });
    }
  },
  async *run(context) {
    const { models: { model }, params, choices, logprobs, trace } = context;
    const { vocab } = model;
    const count = groupsOf(params);
    const { groups, steps } = await searchBeams(context, {
      width: params.num_beams / count,
      penalty: params.length_penalty,
      earlyStopping: params.early_stopping,
      groups: count,
      charge: count === 1 ? undefined : {
        diversity: diversityOf(params, () => requireCapabilities(model, ["hidden"])),
        strength: params.diversity,
        isExempt: (token) => vocab!.isSpecial(token) || vocab!.stopTokens.has(token),
        vocabSize: vocab!.size,
      },
    });
    const ranked = byRank(groups).map((found) => ({ ...found, scores: scoresOf(found) }));
    for (const { scores } of ranked) trace({ type: "hypothesis", ...scores });
    const best = ranked.slice(0, choices);
    for (const [choice, { hypothesis }] of best.entries()) {
      const tokens = tokensOf(hypothesis.path);
      yield {
        choice,
        tokens: tokens.map(({ token }) => token),
        ...logprobs === undefined ? {} : { logprobs: tokens },
      };
    }
    return {
      reasons: best.map(({ hypothesis }) => hypothesis.reason),
      metrics: { hypotheses: ranked.length, groups: count, steps },
      choices: best.map(({ scores }) => scores),
    };
  },
});

function groupsOf({ num_beams: beams, num_groups: groups }: Params): number {
  return groups === "num_beams" ? beams : groups;
}

function diversityOf(
  { diversity_fn: fn, ngram_size: size, cumulative_temperature: temperature }: Params,
  readable: () => Parameters<typeof embedding>[0],
): Diversity {
  switch (fn) {
    case "hamming":
      return hamming();
    case "cumulative":
      return cumulative(temperature);
    case "ngram":
      return ngram(size);
    case "embedding":
      return embedding(readable());
  }
}

/** A hypothesis, the group that found it (from 1), and its place there (from 1). */
interface Found {
  readonly hypothesis: Hypothesis;
  readonly group: number;
  readonly rank: number;
}

/** The best of every group, then the second bests, and so on. */
function byRank(groups: readonly (readonly Hypothesis[])[]): Found[] {
  return groups
    .flatMap((found, g) =>
      found.map((hypothesis, i) => ({ hypothesis, group: g + 1, rank: i + 1 }))
    )
    .sort((a, b) => a.rank - b.rank || a.group - b.group);
}

function scoresOf({ hypothesis, group, rank }: Found): Record<string, number> {
  const { path, sum, score, length } = hypothesis;
  const raw = tokensOf(path).reduce((total, { logprob }) => total + logprob, 0);
  return { group, rank, score, sum_logprob: sum, raw_logprob: raw, tokens: length };
}

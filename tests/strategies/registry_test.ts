import { assertEquals, assertThrows } from "@std/assert";
import { NotFoundError } from "../../runtime/mod.ts";
import { getStrategy, listStrategies } from "../../strategies/mod.ts";
import { type StrategyCase, testStrategy } from "../conformance/strategy.ts";
import { hashModel } from "../fakes/mod.ts";

const greedy = getStrategy("greedy");
const sample = getStrategy("sample");
const beam = getStrategy("beam");

/** What each strategy declares. Strategies without an entry are tested with their defaults. */
const cases: Readonly<Record<string, StrategyCase>> = {
  awrs: {
    params: [
      {},
      { n_particles: 4, ess_threshold: 1 },
      { estimator: "recursive", n_particles: 3, choose: "heaviest", resampling: "systematic" },
      { proper_weights: false, prune: false },
    ],
    same: [
      { params: {}, as: sample },
      { params: { estimator: "geometric" }, sampling: { topP: 0.8 }, as: sample },
      { params: { n_particles: 5 }, sampling: { temperature: 0 }, as: greedy },
    ],
  },
  sample: { same: [{ params: {}, sampling: { temperature: 0 }, as: greedy }] },
  beam: {
    params: [{}, { num_beams: 3, length_penalty: 0, early_stopping: true }, {
      num_beams: 8,
      early_stopping: "never",
    }],
    same: [
      { params: { num_beams: 1 }, as: greedy },
      { params: { num_beams: 1, early_stopping: "never", length_penalty: 2 }, as: greedy },
      {
        params: { num_beams: 1 },
        sampling: { presencePenalty: 1, logitBias: [[3, 2]] },
        as: greedy,
      },
    ],
  },
  "best-of-n": {
    params: [{}, { num_samples: 3, score: "sum_logprob" }],
    same: [
      { params: { num_samples: 1 }, as: sample },
      { params: {}, sampling: { temperature: 0 }, as: greedy },
    ],
  },
  cascade: {
    // Scores are at most 0: all of these defer, most of them after one token.
    params: [
      { rule: "sum", threshold: 1 },
      { threshold: 1, small_decoding: "request", early_stop: false },
      { rule: "average", models: 3, threshold: [1, 1] },
    ],
    models: () => {
      const [large, small, middle] = [1, 2, 3].map((seed) => hashModel({ seed, stopBias: 0.5 }));
      return { large: large!, small: small!, middle: middle!, model: large! };
    },
    steps: ({ tokens }) => 3 * tokens,
    same: [
      { params: { threshold: 1 }, as: sample },
      { params: { rule: "sum", threshold: 1 }, sampling: { temperature: 0 }, as: greedy },
    ],
  },
  "cautious-ntp": {
    params: [
      {},
      { h_max: 0.5, schedule: "paper", scope: "raw", stop_chars: "abc" },
      { n_max: 3, schedule: "fixed", stop_chars: "ae", trial_max_tokens: 5 },
      { n_max: 4, schedule: "negative", stop_match: "exact", stop_chars: "a" },
    ],
    // A trial may run to the limit, and be dropped for one of a single token.
    steps: ({ tokens }) => tokens * (tokens + 1) / 2,
    same: [
      { params: { n_max: 1 }, as: sample },
      { params: { n_max: 1 }, sampling: { topP: 0.7, presencePenalty: 0.5 }, as: sample },
      { params: { stop_chars: "abcd" }, sampling: { temperature: 0 }, as: greedy },
      { params: { stop_chars: "abcd" }, sampling: { topK: 1 }, as: greedy },
      {
        params: { schedule: "fixed" },
        sampling: { temperature: 0, presencePenalty: 1 },
        as: greedy,
      },
    ],
  },
  "diverse-beam": {
    params: [
      {},
      { num_beams: 6, num_groups: 3, diversity: 2, early_stopping: true, length_penalty: 0 },
      { num_beams: 6, num_groups: 2, diversity_fn: "cumulative", cumulative_temperature: 3 },
      { num_beams: 3, diversity_fn: "ngram", early_stopping: "never" },
      { num_beams: 4, num_groups: 2, diversity_fn: "embedding" },
    ],
    // Charges may ask for more candidates, and embeddings of new tokens take a step.
    steps: ({ tokens, params }) => {
      const { diversity_fn: fn } = params as { diversity_fn: string };
      return fn === "hamming" || fn === "cumulative" ? tokens : 6 * tokens;
    },
    same: [
      { params: { num_beams: 1 }, as: greedy },
      { params: { num_groups: 1, diversity: 3 }, as: beam },
      {
        params: { num_beams: 5, num_groups: 1, early_stopping: "never", length_penalty: 0 },
        sampling: { frequencyPenalty: 0.5 },
        as: beam,
        asParams: { num_beams: 5, early_stopping: "never", length_penalty: 0 },
      },
      { params: { num_beams: 6, num_groups: 2 }, as: beam, asParams: { num_beams: 3 } },
    ],
  },
  "stochastic-beam": {
    params: [{}, { num_beams: 16 }],
    same: [
      { params: {}, as: sample },
      { params: { num_beams: 1 }, sampling: { topP: 0.8, frequencyPenalty: 0.5 }, as: sample },
      { params: { num_beams: 9 }, sampling: { temperature: 0 }, as: greedy },
    ],
  },
  speculative: {
    params: [
      {},
      { verify: "ratio", gamma: 3, stop_below: 0.1 },
      { verify: "block", gamma_schedule: "ema" },
      { draft: "prompt-lookup", gamma: 10 },
      { draft: "suffix", verify: "ratio", gamma_schedule: "heuristic" },
      { draft: "token-recycling" },
      { draft: "token-recycling", tree_nodes: 16 },
      { tree_nodes: 12 },
      { tree_nodes: 12, verify: "ratio" },
    ],
    // A draft takes a step per proposal, of a round that gives one token at least.
    steps: ({ tokens, params }) => tokens * Number(Object(params).gamma),
    same: [
      { params: {}, as: sample },
      { params: { gamma: 16, draft_temperature: 0.3 }, sampling: { topP: 0.8 }, as: sample },
      { params: { draft: "suffix" }, sampling: { presencePenalty: 0.7, minP: 0.1 }, as: sample },
      { params: {}, sampling: { temperature: 0 }, as: greedy },
      { params: { verify: "ratio" }, sampling: { temperature: 0 }, as: greedy },
      {
        params: { verify: "block", draft_temperature: 1 },
        sampling: { temperature: 0 },
        as: greedy,
      },
    ],
  },
  "speculative-cascade": {
    params: [
      {},
      { rule: "chow", alpha: 0.3 },
      { rule: "chow", alpha: 0.6, gamma: 3, ahead: 8 },
      { rule: "opt", alpha: 0.3, gamma: 2, bonus: "none" },
      { rule: "proxy", strength: 0.5, execution: "step", verify: "coupled" },
      { rule: "contrast", beta: 1.5, verify: "coupled" },
    ],
    // Rejections waste calls, and choices that wait for different models do not share steps.
    steps: ({ tokens, params }) => 3 * (1 + Number(Object(params).gamma)) * tokens,
    same: [
      { params: { rule: "always", verify: "coupled", execution: "step" }, as: sample },
      { params: { rule: "always", verify: "coupled", gamma: 3 }, as: sample },
      {
        params: { rule: "always", verify: "coupled", execution: "gated", ahead: 6 },
        sampling: { presencePenalty: 0.5, topP: 0.9 },
        as: sample,
      },
      {
        params: { rule: "always", execution: "gated" },
        sampling: { presencePenalty: 0.5, topP: 0.9 },
        as: sample,
      },
    ],
    skip: [{
      law: "log-probabilities are the raw model's",
      reason: "they are the rule's; speculative_cascade_test.ts",
    }],
  },
  "speculative-ensemble": {
    params: [
      {},
      { framework: "naive", gamma: 3, combine: "contrastive", verify: "coupled" },
      { models: 3, combine: "product", proposer: 1, gamma: 2 },
      { framework: "plain", models: 4 },
    ],
    // Rejections waste calls, and choices that wait for different models do not share steps.
    steps: ({ tokens, params }) => 3 * (1 + Number(Object(params).gamma)) * tokens,
    skip: [{
      law: "log-probabilities are the raw model's",
      reason: "they are the combination's; speculative_ensemble_test.ts",
    }],
  },
  "self-consistency": {
    maxChoices: 1,
    params: [{}, { num_samples: 2, answer: "text" }, { answer: "last-line" }],
    same: [
      { params: { num_samples: 1 }, as: sample },
      { params: { answer: "text" }, sampling: { temperature: 0 }, as: greedy },
    ],
  },
};

for (const strategy of listStrategies()) testStrategy(strategy, cases[strategy.name]);

Deno.test("cases name strategies that exist", () => {
  const names = listStrategies().map(({ name }) => name);
  assertEquals(Object.keys(cases).filter((name) => !names.includes(name)), []);
});

Deno.test("listStrategies() is sorted and names are kebab-case", () => {
  const names = listStrategies().map(({ name }) => name);
  assertEquals(names, [...names].sort());
  for (const name of names) assertEquals(/^[a-z]+(-[a-z]+)*$/.test(name), true, name);
});

Deno.test("getStrategy() names the known ones when it fails", () => {
  const error = assertThrows(() => getStrategy("gready"), NotFoundError, "greedy");
  assertEquals([error.kind, error.subject], ["strategy", "gready"]);
});

/**
 * What the strategy layer itself costs per token: scope, stop strings, text, events, bookkeeping.
 *
 * The model is a table over 32 tokens. Each round runs the strategy through `runStrategy` and then
 * asks the bare model the same questions without any strategy; the difference is the layer's.
 */
import { sampleRow } from "../../runtime/sampling.ts";
import {
  argMax,
  type Constraint,
  greedySampling,
  type LanguageModel,
  type Prompt,
  regexConstraint,
  requireCapabilities,
  seedFrom,
  type Vocab,
} from "../../runtime/mod.ts";
import { getStrategy, type RunRequest, runStrategy } from "../../strategies/mod.ts";
import { type FakeModel, fakeVocab, tableModel } from "../../tests/fakes/mod.ts";
import { type Report, round, summary } from "../_report.ts";
import { benchJsonCost } from "./json_cost_bench.ts";
import { benchSampling } from "./sampling_bench.ts";

const maxTokens = 500;
const warmUp = 5;
const runs = 30;
const prompt: Prompt = [1, 2, 3];

interface Case {
  readonly strategy: string;
  readonly params?: Readonly<Record<string, unknown>>;
  readonly choices?: number;
  readonly logprobs?: number;
  readonly constraint?: (vocab: Vocab) => Constraint;
  /** The same asks, without the strategy. */
  readonly bare: (model: LanguageModel) => Promise<void>;
}

const sampling = { ...greedySampling, temperature: 1, seed: seedFrom(1) };

/** Draws side by side, as sampling strategies do. */
const draws = (rows: number, topLogprobs = 0): Case["bare"] => async (model) => {
  await Promise.all(Array.from({ length: rows }, async () => {
    using session = model.session(prompt);
    let drawn = 0;
    const options = { sampling, maxTokens, topLogprobs, ignoreStop: true };
    for await (const _ of session.generate(options)) drawn++;
    if (drawn !== maxTokens) throw new Error(`Expected ${maxTokens} tokens, got ${drawn}`);
  }));
};

/** Reads the followers of `rows` sessions, as beam search does. */
const reads = (rows: number): Case["bare"] => async (model) => {
  const sessions = Array.from({ length: rows }, () => model.session(prompt));
  for (let i = 0; i < maxTokens; i++) {
    const answers = await Promise.all(sessions.map((session) => session.topk(3 * rows)));
    sessions.forEach((session, j) => session.append([answers[j]![0]!.candidates[0]!.token]));
  }
  for (const session of sessions) session[Symbol.dispose]();
};

/** Reads whole rows of `rows` sessions; draws from them as the model would, if asked to. */
const rows = (rows: number, drawing = false): Case["bare"] => async (model) => {
  const able = requireCapabilities(model, ["edit", "logits"]);
  const sessions = Array.from({ length: rows }, () => able.session(prompt));
  for (let i = 0; i < maxTokens; i++) {
    const answers = await Promise.all(sessions.map((session) => session.logits()));
    sessions.forEach((session, j) => {
      const [row] = answers[j]!;
      const options = { sampling, promptTokens: [], completionTokens: [] };
      const token = drawing
        ? sampleRow(row!, { ...options, topLogprobs: 0, position: session.length }).token
        : argMax(row!);
      session.append([token]);
    });
  }
  for (const session of sessions) session[Symbol.dispose]();
};

/** Proposes and verifies, all accepted, as speculation does with a draft that is the target. */
const verifies = (gamma: number): Case["bare"] => async (model) => {
  using target = model.session(prompt, { rollback: gamma + 1 });
  using draft = model.session(prompt, { rollback: gamma + 1 });
  for (let made = 0; made < maxTokens; made += gamma + 1) {
    const proposed: number[] = [];
    const options = { sampling, maxTokens: gamma, ignoreStop: true };
    for await (const { token } of draft.generate(options)) proposed.push(token);
    target.append(proposed);
    await target.logits({ last: gamma + 1 });
    for (const session of [target, draft]) session.append([0]);
  }
};

/** Reads the last rows of logits, sessions in turn, once per token. */
const readsRows = (last: number, sessions: number): Case["bare"] => async (model) => {
  const open = Array.from({ length: sessions }, () => model.session(prompt));
  for (let i = 0; i < maxTokens; i += sessions) {
    for (const session of open) {
      session.append([0, 1].slice(0, last));
      await session.logits({ last });
    }
  }
  for (const session of open) session[Symbol.dispose]();
};

/** Any text, with a mask per token. */
const anyText = (vocab: Vocab) => regexConstraint("[a-z .,!?]*", vocab);

/** The same, judged token by token. */
const anyToken = (vocab: Vocab): Constraint => {
  const { name, start, advance, accepting } = anyText(vocab);
  return { name, start, advance, accepting };
};

const cases: readonly Case[] = [
  { strategy: "greedy", bare: draws(1) },
  { strategy: "sample", bare: draws(1) },
  { strategy: "sample", logprobs: 5, bare: draws(1, 5) },
  { strategy: "sample", choices: 4, bare: draws(4) },
  { strategy: "best-of-n", params: { num_samples: 4 }, bare: draws(4) },
  { strategy: "self-consistency", params: { num_samples: 5 }, bare: draws(5) },
  { strategy: "beam", params: { num_beams: 4 }, bare: reads(4) },
  { strategy: "beam", params: { num_beams: 16 }, bare: reads(16) },
  { strategy: "speculative", bare: verifies(4) },
  { strategy: "speculative", params: { verify: "block" }, bare: verifies(4) },
  { strategy: "speculative", params: { draft: "suffix" }, bare: rows(1) },
  { strategy: "speculative-ensemble", bare: readsRows(2, 2) },
  { strategy: "diverse-beam", params: { num_beams: 4 }, bare: reads(4) },
  { strategy: "diverse-beam", params: { num_beams: 4, diversity_fn: "ngram" }, bare: reads(4) },
  {
    strategy: "diverse-beam",
    params: { num_beams: 4, diversity_fn: "cumulative" },
    bare: reads(4),
  },
  { strategy: "diverse-beam", params: { num_beams: 4, diversity_fn: "embedding" }, bare: reads(4) },
  { strategy: "stochastic-beam", params: { num_beams: 4 }, bare: rows(4) },
  { strategy: "sample", constraint: anyText, bare: rows(1, true) },
  { strategy: "awrs", constraint: anyText, bare: rows(1, true) },
  { strategy: "awrs", constraint: anyToken, bare: rows(1, true) },
  {
    strategy: "awrs",
    params: { estimator: "geometric" },
    constraint: anyToken,
    bare: rows(1, true),
  },
  { strategy: "awrs", params: { n_particles: 4 }, constraint: anyText, bare: rows(4, true) },
  { strategy: "speculative-cascade", params: { execution: "step" }, bare: rows(2) },
  { strategy: "speculative-cascade", params: { rule: "chow", alpha: 1 }, bare: rows(1, true) },
  // One trial everywhere: what the entropy costs. Then ten trials of eight tokens everywhere.
  { strategy: "cautious-ntp", params: { n_max: 1 }, bare: rows(1, true) },
  {
    strategy: "cautious-ntp",
    params: { schedule: "fixed", stop_chars: "!", trial_max_tokens: 8 },
    bare: rows(10, true),
  },
];

/** Measures every case, the sampler below them, and what a JSON Schema costs on a model. */
export async function benchStrategies(report: Report): Promise<void> {
  benchSampling(report);
  for (const entry of cases) report(await measure(entry));
  await benchJsonCost(report);
}

async function measure(entry: Case): Promise<Record<string, unknown>> {
  const model = letters();
  const { strategy, params = {}, choices = 1, logprobs } = entry;
  const layer: number[] = [];
  const total: number[] = [];
  for (let i = 0; i < warmUp + runs; i++) {
    const withStrategy = await timed(() => drive(requestFor(entry, model)));
    const without = await timed(() => entry.bare(model));
    if (i < warmUp) continue;
    layer.push((withStrategy - without) * 1000 / maxTokens);
    total.push(withStrategy * 1000 / maxTokens);
  }
  return {
    name: `strategies/${strategy}`,
    params,
    choices,
    logprobs: logprobs ?? null,
    constraint: entry.constraint?.(model.vocab).mask === undefined
      ? (entry.constraint ? "judged" : null)
      : "masked",
    model: "table, 32 tokens",
    prompt_tokens: prompt.length,
    output_tokens: maxTokens,
    seed: 1,
    warm_up: warmUp,
    unit: "us per step (one token of every row)",
    layer: summary(layer),
    with_model: { median: round(summary(total).median) },
  };
}

function letters(): FakeModel {
  const pieces = [..."abcdefghijklmnopqrstuvwxyz .,!?"];
  const vocab = fakeVocab({ pieces, chat: false });
  const next = Object.fromEntries(pieces.map((piece, i) => [piece, (i + 1) / 496]));
  return tableModel({ vocab, table: { "": next } });
}

function requestFor(entry: Case, model: FakeModel): RunRequest {
  const strategy = getStrategy(entry.strategy);
  return {
    id: "bench",
    strategy,
    params: entry.params ?? {},
    models: Object.fromEntries(
      Object.keys({ ...strategy.needs, ...strategy.optionalNeeds }).map((role) => [role, model]),
    ),
    prompt,
    chat: {},
    sampling,
    maxTokens,
    choices: entry.choices ?? 1,
    logprobs: entry.logprobs,
    stop: ["\n\n", "<end>", "zzzzzzzz"],
    stopTokens: [],
    ignoreStop: true,
    constraint: entry.constraint?.(model.vocab),
    kv: undefined,
    cacheSalt: "",
    trace: "none",
    signal: new AbortController().signal,
  };
}

async function drive(request: RunRequest): Promise<void> {
  let length = 0;
  for await (const event of runStrategy(request)) {
    if (event.type === "text") length += event.text.length;
  }
  if (length < maxTokens) throw new Error(`Expected ${maxTokens} characters, got ${length}`);
}

async function timed(fn: () => Promise<void>): Promise<number> {
  const start = performance.now();
  await fn();
  return performance.now() - start;
}

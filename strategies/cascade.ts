// deno-lint-ignore-file camelcase -- names as on the wire
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
import * as z from "zod";
import {
  CapabilityError,
  isMessages,
  type LanguageModel,
  type Sampled,
  type SamplingParams,
} from "../runtime/mod.ts";
import {
  branchSeeds,
  chunkOf,
  complete,
  type Completion,
  inLockstep,
  logprobsOf,
  openBranches,
  type TextBranch,
} from "./_branches.ts";
import { bestPossible, promptScore, ruleNames, scoreOf, type Scoring } from "./_cascade_rule.ts";
import { checkChain, type Link, linksOf } from "./_cascade_links.ts";
import { textWriter } from "./_cascade_text.ts";
import { tellsLogprobs } from "./_checks.ts";
import { type Chunk, defineStrategy, type StrategyContext } from "./strategy.ts";

const name = "cascade";
const threshold = z.number().min(-1e6).max(1e6);

const params = z.strictObject({
  models: z.int().min(2).max(4).default(2)
    .describe("models in the chain: roles small, middle, middle2, large"),
  rule: z.enum(ruleNames).default("quantile")
    .describe("what an answer is judged by; learned and router need a calibration"),
  alpha_q: z.number().min(0).max(1).default(0)
    .describe("quantile: its level; 0 = the least likely token"),
  threshold: z.union([
    z.literal("calibrated"),
    threshold,
    z.array(threshold).min(1).max(3),
  ]).default("calibrated")
    .describe(
      "answers with a score below it, in nats, are deferred; one for all links or one each",
    ),
  calibration: z.string().regex(/^[\w.-]{0,64}$/).default("")
    .describe("name of a calibration in the configuration"),
  defer_rate: z.union([z.literal("calibrated"), z.number().min(0).max(1)]).default("calibrated")
    .describe("share of the calibration's prompts to defer, instead of what it recommends"),
  small_decoding: z.enum(["greedy", "request"]).default("greedy")
    .describe("how all but the last model decode; request = as the request says"),
  early_stop: z.boolean().default(true)
    .describe("end an answer as soon as its score can no longer pass"),
});

/** Parameters of a cascade. */
export type CascadeParams = z.output<typeof params>;
const needs = { large: ["generate"], small: ["generate"] } as const;
const optionalNeeds = { middle: ["generate"], middle2: ["generate"] } as const;
const drawing = ["sample", "edit"] as const;
type Context = StrategyContext<CascadeParams, typeof needs, typeof optionalNeeds>;

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

/** What the response tells about a choice. */
interface ChoiceRecord {
  reason?: "stop" | "length";
  servedBy?: string;
  /** Of the last link that was judged. */
  score?: number;
  threshold?: number;
  /** Tokens drawn at links whose answers were dropped. */
  dropped_tokens?: number;
  tokens?: number;
}

/** Some choices at one link. */
interface Round {
  readonly choices: readonly number[];
  /** By choice. */
  readonly samplings: readonly SamplingParams[];
  readonly records: ChoiceRecord[];
}

/** Whether the router passes the prompt on. */
function routes(
  context: Context,
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

function promptText({ prompt, models: { small, large } }: Context): string {
  if (isMessages(prompt)) return prompt.map(({ content }) => content ?? "").join("\n");
  return (small.vocab ?? large.vocab)!.decode([...prompt as readonly number[]]);
}

/** Answers of a link that is not the last; gives out the ones that are kept. */
async function* tryLink(
  context: Context,
  link: Link,
  { choices, samplings, records }: Round,
): AsyncGenerator<Chunk, ReadonlySet<number>, void> {
  const { params, trace } = context;
  const isGreedy = params.small_decoding === "greedy";
  // Greedy answers are all the same: one stands for all choices.
  const drawn = isGreedy
    ? [{ ...samplings[0]!, temperature: 0 }]
    : choices.map((choice) => samplings[choice]!);
  const stopped = new Set<number>();
  const branches = openBranches(contextFor(context, link.model, true), drawn)
    .map((branch, i) => watched(branch, link, context, () => stopped.add(i)));
  const answers = await complete(branches);
  const kept = new Set<number>();
  for (const [i, choice] of choices.entries()) {
    const at = isGreedy ? 0 : i;
    const answer = answers[at]!;
    const verdict = judge(answer, link, stopped.has(at));
    const { score, isKept } = verdict;
    const { threshold, role } = link;
    const tokens = answer.draws.length;
    trace({
      type: "link",
      choice,
      role,
      ...score === undefined ? {} : { score },
      threshold,
      deferred: !isKept,
      stopped_early: stopped.has(at),
      logprobs: logprobsOf(answer.draws),
    });
    const record = records[choice]!;
    if (score !== undefined) Object.assign(record, { score, threshold });
    if (!isKept) {
      record.dropped_tokens = (record.dropped_tokens ?? 0) + tokens;
      continue;
    }
    kept.add(choice);
    Object.assign(record, { reason: answer.reason, servedBy: link.model.id, tokens });
    const write = writerOf(context, link.model, choice);
    yield write.push(answer.draws);
    yield* write.end();
  }
  return kept;
}

function judge({ draws, reason }: Completion, { scoring, threshold }: Link, isStopped: boolean) {
  const score = scoreOf(scoring, logprobsOf(draws));
  const isWhole = reason === "stop" && !isStopped;
  return { score, isKept: isWhole && score !== undefined && score >= threshold };
}

/** Ends a branch as soon as its score can no longer pass. */
function watched(
  branch: TextBranch,
  { scoring, threshold }: Link,
  { params, maxTokens }: Context,
  stopped: () => void,
): TextBranch {
  if (!params.early_stop) return branch;
  async function* draws(): TextBranch["draws"] {
    const logprobs: number[] = [];
    for (;;) {
      const next = await branch.draws.next();
      if (next.done) return next.value;
      yield next.value;
      logprobs.push(...logprobsOf([next.value]));
      if (!cannotPass(scoring, threshold, logprobs, maxTokens)) continue;
      stopped();
      await branch.draws.return("length");
      return "length";
    }
  }
  return { draws: draws(), stops: branch.stops, [Symbol.dispose]: () => branch[Symbol.dispose]() };
}

function cannotPass(
  scoring: Scoring,
  threshold: number,
  logprobs: readonly number[],
  most: number,
): boolean {
  if (logprobs.length === 0) return false;
  const best = bestPossible(scoring, logprobs, most);
  return best !== undefined && best < threshold;
}

/** Answers of a model that has the last word, as they come. */
async function* answerAll(
  context: Context,
  { model }: Pick<Link, "model">,
  { choices, samplings, records }: Round,
): AsyncGenerator<Chunk, void, void> {
  const branches = openBranches(
    contextFor(context, model, false),
    choices.map((choice) => samplings[choice]!),
  );
  const writers = choices.map((choice) => writerOf(context, model, choice));
  for (const choice of choices) Object.assign(records[choice]!, { servedBy: model.id, tokens: 0 });
  for await (const round of inLockstep(branches)) {
    for (const { branch, drawn } of round) {
      const record = records[choices[branch]!]!;
      if (typeof drawn === "object") {
        record.tokens! += drawn.count ?? 1;
        yield writers[branch]!.push([drawn]);
      } else {
        record.reason = drawn;
        yield* writers[branch]!.end();
      }
    }
  }
}

/** The context of one model's answers: its own vocabulary says what a stop token is. */
function contextFor(context: Context, model: LanguageModel<"generate">, isScored: boolean) {
  return {
    ...context,
    models: { model },
    isScored,
    createStopCheck: () => context.createStopCheck(model.vocab),
  };
}

/** Tokens where they are the response's own, text otherwise. */
function writerOf(
  context: Context,
  model: LanguageModel<"generate">,
  choice: number,
): { push(draws: readonly Sampled[]): Chunk; end(): Iterable<Chunk> } {
  const own = context.models.large.vocab;
  const { vocab } = model;
  if (vocab && vocab.fingerprint !== own?.fingerprint) {
    const { ignoreStop, logprobs } = context;
    const writer = textWriter(vocab, { choice, ignoreStop, logprobs });
    return { push: writer.push, end: () => [writer.end()] };
  }
  const shaped = contextFor(context, model, false);
  return { push: (draws) => chunkOf(choice, draws, shaped), end: () => [] };
}

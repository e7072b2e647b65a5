// deno-lint-ignore-file camelcase -- names as on the wire
/** Answers of one model of a cascade: judged, with an early end, or given out as they come. */
import type { LanguageModel, Sampled, SamplingParams } from "../runtime/mod.ts";
import {
  chunkOf,
  complete,
  type Completion,
  inLockstep,
  logprobsOf,
  openBranches,
  type TextBranch,
} from "./_branches.ts";
import type { Link } from "./_cascade_links.ts";
import type { CascadeContext } from "./_cascade_params.ts";
import { bestPossible, scoreOf, type Scoring } from "./_cascade_rule.ts";
import { textWriter } from "./_cascade_text.ts";
import type { Chunk } from "./strategy.ts";

/** What the response tells about a choice. */
export interface ChoiceRecord {
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
export interface Round {
  readonly choices: readonly number[];
  /** By choice. */
  readonly samplings: readonly SamplingParams[];
  readonly records: ChoiceRecord[];
}

/** Answers of a link that is not the last; gives out the ones that are kept. */
export async function* tryLink(
  context: CascadeContext,
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
  { params, maxTokens }: CascadeContext,
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
export async function* answerAll(
  context: CascadeContext,
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
function contextFor(context: CascadeContext, model: LanguageModel<"generate">, isScored: boolean) {
  return {
    ...context,
    models: { model },
    isScored,
    createStopCheck: () => context.createStopCheck(model.vocab),
  };
}

/** Tokens where they are the response's own, text otherwise. */
function writerOf(
  context: CascadeContext,
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

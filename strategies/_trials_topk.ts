/**
 * One choice of `cautious_ntp.ts` where a model tells its likeliest tokens but no whole distribution:
 * upstreams, over completions with log-probabilities.
 *
 * What is likely is known at every drawn token, so plain draws are one long generation, read until the
 * model becomes uncertain; the token drawn there is dropped and trials are drawn from the same place.
 * Entropy is bounded from below: the mass that is not seen counts as one token. Entropies and
 * perplexities are of the raw distribution, which is what servers tell.
 */
import {
  type Candidate,
  forkSeed,
  type Sampled,
  type SamplingParams,
  type Session,
} from "../runtime/mod.ts";
import type { Branch } from "./_branches.ts";
import type { Drawn, TrialCounts, TrialOptions } from "./_trial_sequence.ts";
import type { StopCheck, StrategyContext } from "./strategy.ts";

/** What the top-k form needs. */
export type TopkContext = StrategyContext<
  unknown,
  { readonly model: readonly ["generate", "edit", "topk"] }
>;

/** How one choice is drawn in the top-k form. */
export interface TopkTrialOptions extends Omit<TrialOptions, "scope"> {
  /** Alternatives asked for at every token. */
  readonly alternatives: number;
}

type OpenSession = Session<"generate" | "edit" | "topk">;

/** A lower bound of the entropy in nats: what is not seen counts as one token. */
export function entropyBelow(top: readonly Candidate[]): number {
  let entropy = 0;
  let seen = 0;
  for (const { logprob } of top) {
    const probability = Math.exp(logprob);
    if (probability > 0) entropy -= probability * logprob;
    seen += probability;
  }
  const rest = 1 - seen;
  return rest > 1e-9 ? entropy - rest * Math.log(rest) : entropy;
}

/** Draws one choice; yields tokens as they become certain. */
export function drawWithTopkTrials(
  session: OpenSession,
  context: TopkContext,
  options: TopkTrialOptions,
): Branch<readonly Drawn[]> & { readonly counts: TrialCounts } {
  const counts: TrialCounts = { branchings: 0, trials: 0, drawn: 0, kept: 0 };
  const open = new Set([session]);
  return {
    counts,
    draws: draw(session, { context, options, counts, open, promptLength: session.length }),
    [Symbol.dispose]() {
      for (const one of open) one[Symbol.dispose]();
    },
  };
}

interface Drawing {
  readonly context: TopkContext;
  readonly options: TopkTrialOptions;
  readonly counts: TrialCounts;
  readonly open: Set<OpenSession>;
  readonly promptLength: number;
}

async function* draw(
  start: OpenSession,
  drawing: Drawing,
): AsyncGenerator<readonly Drawn[], "stop" | "length", void> {
  const { context, options, counts, promptLength } = drawing;
  let session = start;
  let stops = context.createStopCheck();
  for (let segment = 0;; segment++) {
    const left = context.maxTokens - (session.length - promptLength);
    if (left <= 0) return "length";
    // Servers count noise from where a call begins: later calls must not repeat the first one's.
    const seed = segment === 0 ? options.seed : forkSeed(options.seed, session.length);
    const stream = session.generate(asking(context.sampling, seed, left, options));
    let trials = 0;
    let entropy = 0;
    for await (const sampled of stream) {
      counts.drawn++;
      entropy = entropyBelow(sampled.top);
      trials = options.trialsAt(entropy);
      if (trials > 1) break;
      counts.kept++;
      yield [drawnOf(sampled, context)];
      if (stops.push(sampled.token)) return "stop";
    }
    if (trials <= 1) {
      return session.ended ??
        (session.length - promptLength < context.maxTokens ? "stop" : "length");
    }
    session.truncate(session.length - 1);
    const best = yield* tryAll(session, stops, { entropy, count: trials, left }, drawing);
    counts.kept += best.draws.length;
    yield best.draws;
    if (best.reason) return best.reason;
    ({ session, stops } = best);
  }
}

function asking(
  sampling: SamplingParams,
  seed: SamplingParams["seed"],
  maxTokens: number,
  { alternatives }: TopkTrialOptions,
) {
  // Past stop tokens, which end the choice here: servers hide the one that stops them, and with it how
  // likely it was.
  return {
    sampling: { ...sampling, seed },
    maxTokens,
    topLogprobs: alternatives,
    logprobs: true,
    ignoreStop: true,
  };
}

function drawnOf({ token, logprob, top }: Sampled, { logprobs }: TopkContext): Drawn {
  if (logprobs === undefined) return { token, shown: undefined };
  return { token, shown: { token, logprob, top: top.slice(0, logprobs) } };
}

/** One trial, drawn to its end. */
interface Trial {
  readonly session: OpenSession;
  readonly stops: StopCheck;
  readonly draws: readonly Drawn[];
  /** Sum of raw log-probabilities. */
  readonly sum: number;
  readonly reason: "stop" | "length" | undefined;
}

/** Draws trials side by side, one call where the server has `n`; keeps the least surprising one. */
async function* tryAll(
  session: OpenSession,
  stops: StopCheck,
  { entropy, count, left }: {
    readonly entropy: number;
    readonly count: number;
    readonly left: number;
  },
  drawing: Drawing,
): AsyncGenerator<readonly Drawn[], Trial, void> {
  const { context, options, counts, open, promptLength } = drawing;
  yield [];
  const position = session.length;
  const base = forkSeed(options.seed, position);
  const trials = await Promise.all(Array.from({ length: count }, (_, i) => {
    const fork = i === count - 1 ? session : session.fork();
    open.add(fork);
    return drawTrial(fork, stops.fork(), { seed: forkSeed(base, i), left }, drawing);
  }));
  const perplexities = trials.map(({ sum, draws }) => Math.exp(-sum / draws.length));
  const winner = perplexities.indexOf(Math.min(...perplexities));
  counts.branchings++;
  counts.trials += count;
  context.trace({
    type: "trials",
    choice: options.choice,
    position: position - promptLength,
    entropy,
    winner,
    trials: trials.map(({ draws }, i) => ({
      tokens: draws.map(({ token }) => token),
      perplexity: perplexities[i]!,
    })),
  });
  for (const [i, { session }] of trials.entries()) {
    if (i === winner) continue;
    open.delete(session);
    session[Symbol.dispose]();
  }
  return trials[winner]!;
}

async function drawTrial(
  session: OpenSession,
  stops: StopCheck,
  { seed, left }: { readonly seed: SamplingParams["seed"]; readonly left: number },
  { context, options, counts }: Drawing,
): Promise<Trial> {
  const most = Math.min(left, options.maxTokens);
  const { sampling } = context;
  // As the authors' code: trials of a greedy request are drawn all the same.
  const shape = sampling.temperature === 0 ? { ...sampling, temperature: 1 } : sampling;
  const draws: Drawn[] = [];
  let sum = 0;
  let reason: Trial["reason"];
  for await (const sampled of session.generate(asking(shape, seed, most, options))) {
    counts.drawn++;
    draws.push(drawnOf(sampled, context));
    sum += sampled.logprob;
    if (stops.push(sampled.token)) reason = "stop";
    if (reason || options.endsClause(sampled.token)) break;
  }
  if (draws.length === 0) reason = "stop"; // a server that does not show the token that stopped it
  if (!reason && draws.length >= left) reason = "length";
  return { session, stops, draws, sum, reason };
}

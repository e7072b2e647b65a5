/** One choice of `cautious_ntp.ts`: plain draws, and trials where the model is uncertain. */
import { forkSeed, type SamplingParams, type Vocab } from "../runtime/mod.ts";
import type { Branch } from "./_branches.ts";
import { createMasker, deadEnd } from "./_constrain.ts";
import {
  type Drawing,
  type Drawn,
  entropyOf,
  extend,
  type OpenSession,
  read,
  rewarped,
  type Row,
  type Sequence,
  type TrialContext,
  type TrialCounts,
  type TrialOptions,
} from "./_trial_sequence.ts";

/** Draws one choice. Every step yields the tokens that became certain with it, often none. */
export function drawWithTrials(
  session: OpenSession,
  context: TrialContext,
  options: TrialOptions,
): Branch<readonly Drawn[]> & { readonly counts: TrialCounts } {
  const { constraint, ignoreStop, models: { model } } = context;
  const vocab: Vocab = model.vocab!;
  const counts: TrialCounts = { branchings: 0, trials: 0, drawn: 0, kept: 0 };
  const open = new Set([session]);
  const masker = constraint && createMasker(constraint, vocab, ignoreStop);
  const promptLength = session.length;
  return {
    counts,
    draws: draw(session, { context, options, promptLength, masker, counts, open }),
    [Symbol.dispose]() {
      for (const session of open) session[Symbol.dispose]();
    },
  };
}

async function* draw(
  session: OpenSession,
  drawing: Drawing,
): AsyncGenerator<readonly Drawn[], "stop" | "length", void> {
  const { context, options, masker, counts } = drawing;
  const { scope, seed, trialsAt } = options;
  const stops = context.createStopCheck();
  let at: Sequence = {
    session,
    stops,
    state: masker?.start(),
    draws: [],
    sum: 0,
    reason: undefined,
  };
  while (at.reason === undefined) {
    const row = await read(at, context.sampling, drawing);
    if (row === "complete") return "stop";
    if (row === "dead end") throw deadEnd(context.constraint!);
    const entropy = entropyOf(row, scope);
    const count = trialsAt(entropy);
    if (count === 1) at = extend(at, row, seed, drawing);
    else at = yield* tryAll(at, { row, entropy, count }, drawing);
    counts.kept += at.draws.length;
    yield at.draws;
    at = { ...at, draws: [], sum: 0 };
  }
  return at.reason;
}

/** Draws trials side by side until each has ended a clause; keeps the least surprising one. */
async function* tryAll(
  at: Sequence,
  { row, entropy, count }: { readonly row: Row; readonly entropy: number; readonly count: number },
  drawing: Drawing,
): AsyncGenerator<readonly Drawn[], Sequence, void> {
  const { context, options, counts } = drawing;
  const position = at.session.length;
  const sampling = trialSampling(context.sampling, options.scope);
  // Seeds of their own: noise that made a trial lose must not come back in the tokens after it.
  const base = forkSeed(options.seed, position);
  const seeds = Array.from({ length: count }, (_, i) => forkSeed(base, i));
  const first = sampling === context.sampling ? row : rewarped(row, sampling);
  let trials: Sequence[] = seeds.map((seed, i) =>
    extend(i === count - 1 ? at : forked(at, drawing), first, seed, drawing)
  );
  const isLive = (trial: Sequence) => !isOver(trial, options);
  const dead = new Set<number>();
  while (trials.some((trial, i) => isLive(trial) && !dead.has(i))) {
    yield [];
    trials = await Promise.all(trials.map(async (trial, i) => {
      if (!isLive(trial) || dead.has(i)) return trial;
      const next = await read(trial, sampling, drawing);
      if (next === "complete") return { ...trial, reason: "stop" as const };
      if (next !== "dead end") return extend(trial, next, seeds[i]!, drawing);
      dead.add(i);
      return trial;
    }));
  }
  if (dead.size === count) throw deadEnd(context.constraint!);
  const perplexities = trials.map((trial, i) => dead.has(i) ? Infinity : perplexityOf(trial));
  const winner = perplexities.indexOf(Math.min(...perplexities));
  counts.branchings++;
  counts.trials += count;
  context.trace({
    type: "trials",
    choice: options.choice,
    position: position - drawing.promptLength,
    entropy,
    winner,
    trials: trials.map(({ draws }, i) => ({
      tokens: draws.map(({ token }) => token),
      perplexity: dead.has(i) ? null : perplexities[i]!,
    })),
  });
  for (const [i, { session }] of trials.entries()) {
    if (i === winner) continue;
    drawing.open.delete(session);
    session[Symbol.dispose]();
  }
  return trials[winner]!;
}

/** exp of the mean surprise per token, all of the trial's tokens counted. */
function perplexityOf({ sum, draws }: Sequence): number {
  return Math.exp(-sum / draws.length);
}

function isOver({ reason, draws }: Sequence, { endsClause, maxTokens }: TrialOptions): boolean {
  return reason !== undefined || draws.length >= maxTokens || endsClause(draws.at(-1)!.token);
}

function forked(at: Sequence, { open }: Drawing): Sequence {
  const session = at.session.fork();
  open.add(session);
  return { ...at, session, stops: at.stops.fork() };
}

/** Trials of a greedy request are drawn all the same where perplexities are the raw model's. */
function trialSampling(sampling: SamplingParams, scope: TrialOptions["scope"]): SamplingParams {
  return scope === "raw" && sampling.temperature === 0 ? { ...sampling, temperature: 1 } : sampling;
}

/** Completions drawn side by side from one prompt: what sampling strategies are made of. */
import {
  type Constraint,
  forkSeed,
  requireCapabilities,
  type Sampled,
  type SamplingParams,
  type Seed,
  type Session,
  type TokenLogprob,
  type Vocab,
} from "../runtime/mod.ts";
import { isHonoured } from "./_checks.ts";
import { createMasker, deadEnd } from "./_constrain.ts";
import type { Chunk, StopCheck, StrategyContext } from "./strategy.ts";

/** What drawing depends on. */
export type DrawingContext =
  & StrategyContext<unknown, { readonly model: readonly ["generate"] }>
  & {
    /** Whether the strategy reads log-probabilities that the response does not show. */
    readonly isScored?: boolean;
  };

/** One completion being drawn. */
export interface Branch<T = Sampled> extends Disposable {
  /** Tokens up to the one that ends the completion; says what ended it. One step each. */
  readonly draws: AsyncGenerator<T, "stop" | "length", void>;
}

/** A completion that remembers its text. */
export interface TextBranch extends Branch {
  readonly stops: StopCheck;
}

/** Seeds of n branches: the first one's is the request's, so that one branch is plain sampling. */
export function branchSeeds(seed: Seed, branches: number): Seed[] {
  return Array.from({ length: branches }, (_, i) => i === 0 ? seed : forkSeed(seed, i));
}

/**
 * Opens the prompt once and forks it, a branch for each of `samplings`. One ask per branch and token;
 * without a constraint, or where the model honours it, the model decodes by itself (`generate`); under
 * any other it draws with a mask.
 */
export function openBranches(
  context: DrawingContext,
  samplings: readonly SamplingParams[],
): TextBranch[] {
  const { models: { model }, prompt, constraint, format } = context;
  if (constraint && !isHonoured(model, format)) {
    const able = requireCapabilities(model, ["sample", "edit"]);
    return forks(able, prompt, samplings).map(([session, sampling]) =>
      branchOf(
        session,
        context,
        (stops) =>
          drawMasked(session, sampling, { ...context, constraint, vocab: able.vocab! }, stops),
      )
    );
  }
  return forks(model, prompt, samplings).map(([session, sampling]) =>
    branchOf(session, context, (stops) => drawFreely(session, sampling, context, stops))
  );
}

function forks<S extends Disposable & { fork(): S }>(
  model: { session(prompt: DrawingContext["prompt"]): S },
  prompt: DrawingContext["prompt"],
  samplings: readonly SamplingParams[],
): [S, SamplingParams][] {
  const root = model.session(prompt);
  return samplings.map((sampling, i) => [i === 0 ? root : root.fork(), sampling]);
}

function branchOf(
  session: Disposable,
  context: DrawingContext,
  draw: (stops: StopCheck) => Branch["draws"],
): TextBranch {
  const stops = context.createStopCheck();
  return { draws: draw(stops), stops, [Symbol.dispose]: () => session[Symbol.dispose]() };
}

async function* drawFreely(
  session: Session<"generate">,
  sampling: SamplingParams,
  { maxTokens, logprobs, ignoreStop, format, isScored = false }: DrawingContext,
  stops: StopCheck,
): Branch["draws"] {
  const options = {
    sampling,
    maxTokens,
    topLogprobs: logprobs ?? 0,
    ignoreStop,
    logprobs: isScored || logprobs !== undefined,
    ...format ? { format } : {},
  };
  let drawn = 0;
  for await (const sampled of session.generate(options)) {
    drawn++;
    yield sampled;
    if (stops.push(sampled.text ?? sampled.token)) return "stop";
  }
  // Upstreams stop without showing a stop token.
  return session.ended ?? (drawn < maxTokens ? "stop" : "length");
}

async function* drawMasked(
  session: Session<"sample" | "edit">,
  sampling: SamplingParams,
  context: DrawingContext & { readonly constraint: Constraint; readonly vocab: Vocab },
  stops: StopCheck,
): Branch["draws"] {
  const { constraint, vocab, maxTokens, logprobs, ignoreStop } = context;
  const masker = createMasker(constraint, vocab, ignoreStop);
  let state = masker.start();
  for (let drawn = 0; drawn < maxTokens; drawn++) {
    const { bits, isEmpty, isComplete } = masker.mask(state);
    if (isEmpty && !isComplete) throw deadEnd(constraint);
    if (isEmpty) return "stop";
    const sampled = await session.sample({ sampling, mask: bits, topLogprobs: logprobs ?? 0 });
    session.append([sampled.token]);
    yield sampled;
    if (stops.push(sampled.token)) return "stop";
    state = masker.advance(state, sampled.token);
  }
  return "length";
}

/** One round: what each branch that was still going drew, or how it ended. */
export interface Draw<T> {
  readonly branch: number;
  readonly drawn: T | "stop" | "length";
}

/** Draws from all branches together, so that their asks share steps. Closes each as it ends. */
export async function* inLockstep<T extends object>(
  branches: readonly Branch<T>[],
): AsyncGenerator<readonly Draw<T>[], void, void> {
  let going = branches.map((branch, i) => [i, branch] as const);
  try {
    while (going.length > 0) {
      const round = await Promise.all(going.map(async ([branch, { draws }]) => {
        const { value } = await draws.next();
        return { branch, drawn: value };
      }));
      going = going.filter(([, branch], i) => {
        if (typeof round[i]!.drawn === "object") return true;
        branch[Symbol.dispose]();
        return false;
      });
      yield round;
    }
  } finally {
    const ended = branches.map(({ draws }) => draws.return("length"));
    for (const branch of branches) branch[Symbol.dispose](); // also ends asks still in flight
    await Promise.allSettled(ended);
  }
}

/** A completed branch. */
export interface Completion {
  readonly draws: readonly Sampled[];
  readonly reason: "stop" | "length";
  /** Without a stop string. */
  readonly text: string;
}

/** Draws all branches to their ends. */
export async function complete(branches: readonly TextBranch[]): Promise<readonly Completion[]> {
  const draws = branches.map((): Sampled[] => []);
  const reasons = branches.map((): "stop" | "length" => "length");
  for await (const round of inLockstep(branches)) {
    for (const { branch, drawn } of round) {
      if (typeof drawn === "object") draws[branch]!.push(drawn);
      else reasons[branch] = drawn;
    }
  }
  return branches.map(({ stops }, i) => ({
    draws: draws[i]!,
    reason: reasons[i]!,
    text: stops.text(),
  }));
}

/** A chunk with some drawn tokens, as text where the model gives nothing else. */
export function chunkOf(
  choice: number,
  draws: readonly Sampled[],
  { models: { model }, logprobs }: DrawingContext,
): Chunk {
  if (!model.vocab) {
    const reasoning = draws.map((sampled) => sampled.reasoning ?? "").join("");
    return {
      choice,
      text: draws.map((sampled) => sampled.text ?? "").join(""),
      ...reasoning === "" ? {} : { reasoning },
      count: draws.reduce((sum, { count = 1 }) => sum + count, 0),
      ...logprobs === undefined
        ? {}
        : { textLogprobs: draws.flatMap((sampled) => sampled.textLogprobs ?? []) },
    };
  }
  const tokens = draws.map(({ token }) => token);
  if (logprobs === undefined) return { choice, tokens };
  return { choice, tokens, logprobs: draws.map(asLogprob) };
}

/** Log-probabilities of some drawn tokens, one per token. */
export function logprobsOf(draws: readonly Sampled[]): number[] {
  return draws.flatMap(({ textLogprobs, text, logprob }) =>
    textLogprobs?.map((token) => token.logprob) ?? (text === undefined ? [logprob] : [])
  );
}

function asLogprob({ token, logprob, top }: Sampled): TokenLogprob {
  return { token, logprob, top };
}

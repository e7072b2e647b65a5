/** The beam search loop. Rules and their source: `beam.ts`. */
import { requireCapabilities, type TokenId, type Vocab } from "../runtime/mod.ts";
import {
  adjustedBeam,
  type BeamSession,
  type Follower,
  type FollowerOptions,
  hasAdjustments,
  plainBeam,
} from "./_beam_rows.ts";
import {
  type EarlyStopping,
  Hypotheses,
  type Hypothesis,
  lengthScore,
  type Path,
} from "./_beams.ts";
import { createMasker, deadEnd, type Masker } from "./_constrain.ts";
import type { StopCheck, StrategyContext } from "./strategy.ts";

/** What a beam search needs of a request. */
export type BeamContext = StrategyContext<
  unknown,
  { readonly model: readonly ["edit", "topk"] }
>;

/** Settings of one search. */
export interface BeamSearchOptions {
  readonly width: number;
  readonly penalty: number;
  readonly earlyStopping: EarlyStopping;
}

/** A partial completion. */
interface Beam {
  readonly at: BeamSession;
  readonly path: Path | undefined;
  readonly sum: number;
  readonly stops: StopCheck;
  /** State of the constraint, where there is one. */
  readonly state: unknown;
}

/** A beam and one token more. */
interface Extension {
  readonly beam: number;
  readonly follower: Follower;
  readonly sum: number;
}

/** Runs the search. @returns hypotheses, best first, at most `width` */
export async function searchBeams(
  context: BeamContext,
  options: BeamSearchOptions,
): Promise<{ readonly hypotheses: readonly Hypothesis[]; readonly steps: number }> {
  const { maxTokens, constraint, ignoreStop, trace } = context;
  const { width, penalty, earlyStopping } = options;
  const vocab = context.models.model.vocab!;
  const masker = constraint && createMasker(constraint, vocab, ignoreStop);
  const found = new Hypotheses(width);
  let beams: readonly Beam[] = [firstBeam(context, width, vocab, masker)];
  let length = 0;
  try {
    for (;;) {
      const bestSum = beams[0]?.sum;
      if (found.isDone({ bestSum, length, maxLength: maxTokens }, earlyStopping, penalty)) break;
      const extensions = await extend(beams, length, { found, masker, penalty });
      length++;
      beams = select(beams, extensions, { width, length, maxTokens, penalty, found, masker });
      trace({ type: "beams", length, live: beams.length, finished: found.best.length });
    }
  } finally {
    close(beams);
  }
  if (found.best.length === 0 && constraint) throw deadEnd(constraint);
  return { hypotheses: found.best, steps: length };
}

function firstBeam(
  context: BeamContext,
  width: number,
  vocab: Vocab,
  masker: Masker | undefined,
): Beam {
  const { models: { model }, prompt, sampling, logprobs, constraint } = context;
  // Enough that `width` are left when every stop token is among them; one share to spare for
  // candidates that complete a stop string.
  const count = (2 + vocab.stopTokens.size) * width;
  const options: FollowerOptions = { count, topLogprobs: logprobs ?? 0 };
  let at: BeamSession;
  if (constraint || hasAdjustments(sampling)) {
    const session = requireCapabilities(model, ["edit", "logits"]).session(prompt);
    at = adjustedBeam(session, { ...options, sampling, promptLength: session.length });
  } else at = plainBeam(model.session(prompt), options);
  const stops = context.createStopCheck();
  return { at, path: undefined, sum: 0, stops, state: masker?.start() };
}

/** All beams' followers, in one step. Beams that cannot go on complete or drop out. */
async function extend(
  beams: readonly Beam[],
  length: number,
  { found, masker, penalty }: {
    readonly found: Hypotheses;
    readonly masker: Masker | undefined;
    readonly penalty: number;
  },
): Promise<readonly Extension[][]> {
  return await Promise.all(beams.map(async ({ at, path, sum, state }, beam) => {
    const mask = masker?.mask(state);
    if (mask?.isEmpty) {
      const score = lengthScore(sum, length, penalty);
      if (mask.isComplete) found.add({ path, sum, score, length, reason: "stop" });
      return [];
    }
    const followers = await at.followers(mask?.bits);
    return followers.map((follower) => ({ beam, follower, sum: sum + follower.logprob }));
  }));
}

/** The next beams; candidates that end become hypotheses if they rank among the first `width`. */
function select(
  beams: readonly Beam[],
  extensions: readonly (readonly Extension[])[],
  { width, length, maxTokens, penalty, found, masker }: {
    readonly width: number;
    readonly length: number;
    readonly maxTokens: number;
    readonly penalty: number;
    readonly found: Hypotheses;
    readonly masker: Masker | undefined;
  },
): Beam[] {
  const chosen: { parent: Beam; path: Path; sum: number; stops: StopCheck; token: TokenId }[] = [];
  let rank = 0;
  for (const { beam, follower, sum } of bestFirst(extensions)) {
    const parent = beams[beam]!;
    const { token } = follower.token;
    const path = { token: follower.token, before: parent.path };
    const stops = parent.stops.fork();
    const reason = stops.push(token) ? "stop" : length === maxTokens ? "length" : undefined;
    if (reason === undefined) chosen.push({ parent, path, sum, stops, token });
    else if (rank < width) {
      found.add({ path, sum, score: lengthScore(sum, length, penalty), length, reason });
    }
    rank++;
    if (chosen.length === width || (length === maxTokens && rank === width)) break;
  }
  return move(beams, chosen, masker);
}

/** Merges lists that are sorted already; between equals the better beam, then the lower token id. */
function* bestFirst(
  lists: readonly (readonly Extension[])[],
): Generator<Extension, void, void> {
  const next = lists.map(() => 0);
  for (;;) {
    let best: Extension | undefined;
    for (let i = 0; i < lists.length; i++) {
      const head = lists[i]![next[i]!];
      if (head && (best === undefined || head.sum > best.sum)) best = head;
    }
    if (best === undefined) return;
    next[best.beam]!++;
    yield best;
  }
}

/** Moves sessions to the chosen extensions: a parent's last child takes it over, others fork it. */
function move(
  beams: readonly Beam[],
  chosen: readonly {
    readonly parent: Beam;
    readonly path: Path;
    readonly sum: number;
    readonly stops: StopCheck;
    readonly token: TokenId;
  }[],
  masker: Masker | undefined,
): Beam[] {
  const children = new Map<Beam, number>();
  for (const { parent } of chosen) children.set(parent, (children.get(parent) ?? 0) + 1);
  close(beams.filter((beam) => !children.has(beam)));
  return chosen.map(({ parent, path, sum, stops, token }) => {
    const left = children.get(parent)! - 1;
    children.set(parent, left);
    const at = left === 0 ? parent.at : parent.at.fork();
    at.session.append([token]);
    return { at, path, sum, stops, state: masker?.advance(parent.state, token) };
  });
}

function close(beams: readonly Beam[]): void {
  for (const { at } of beams) at.session[Symbol.dispose]();
}

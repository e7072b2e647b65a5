/** The search loop of `stochastic_beam.ts`, where its source is told. */
import {
  forkSeed,
  hasPenalties,
  largest,
  logNormalizer,
  type Seed,
  type Session,
  type TokenId,
  type TokenLogprob,
  topCandidates,
  type Vocab,
  warpedLogprobs,
} from "../runtime/mod.ts";
import { moveSessions, type Path } from "./_beams.ts";
import { createMasker, deadEnd, type Masker } from "./_constrain.ts";
import { withNoise } from "./_noise.ts";
import type { StopCheck, StrategyContext } from "./strategy.ts";

/** What the search needs of a request. */
export type GumbelContext = StrategyContext<
  unknown,
  { readonly model: readonly ["edit", "logits"] }
>;

/** A node of the tree of completions. */
interface Node {
  readonly path: Path | undefined;
  readonly length: number;
  /** phi: log-probability under the request's distribution. */
  readonly logprob: number;
  /** G: the largest perturbed log-probability of any completion below. */
  readonly perturbed: number;
}

/** A completion. */
export interface Leaf extends Node {
  readonly reason: "stop" | "length";
}

/** A node that goes on. */
interface Beam extends Node {
  readonly session: Session<"edit" | "logits">;
  readonly seed: Seed;
  readonly stops: StopCheck;
  readonly state: unknown;
}

/** A node not chosen yet. Those that are complete already have no token. */
type Candidate =
  & { readonly perturbed: number; readonly logprob: number }
  & (
    | { readonly leaf: Leaf }
    | {
      readonly parent: Beam;
      readonly token: TokenId;
      readonly raw: Raw;
      readonly isBest: boolean;
    }
  );

/** A row of logits as the response shows it. */
interface Raw {
  readonly logits: Float32Array;
  readonly normalizer: number;
}

/** What a search came to. */
export interface GumbelResult {
  /** Completions by falling perturbed log-probability, at most k. */
  readonly leaves: readonly Leaf[];
  /** kappa: the (k + 1)-th largest perturbed log-probability; undefined if there are no more. */
  readonly threshold: number | undefined;
  readonly steps: number;
}

/** What every part of the search looks at. */
interface Search {
  readonly context: GumbelContext;
  readonly width: number;
  readonly promptLength: number;
  readonly masker: Masker | undefined;
}

/** Draws `width` completions without replacement; fewer if there are no more. */
export async function drawBeams(context: GumbelContext, width: number): Promise<GumbelResult> {
  const { models: { model }, constraint, ignoreStop, trace } = context;
  const vocab: Vocab = model.vocab!;
  const masker = constraint && createMasker(constraint, vocab, ignoreStop);
  const session = model.session(context.prompt);
  const search: Search = { context, width, promptLength: session.length, masker };
  let beams: readonly Beam[] = [rootOf(session, search)];
  let leaves: readonly Leaf[] = [];
  let threshold = -Infinity, steps = 0;
  try {
    while (beams.length > 0) {
      const children = await Promise.all(beams.map((beam) => expand(beam, search)));
      const kept = leaves.map((leaf): Candidate => ({ ...leaf, leaf }));
      const ranked = [...kept, ...children.flat()].sort((a, b) => b.perturbed - a.perturbed);
      // What is cut off takes its completions along; the best of them has exactly its value.
      threshold = Math.max(threshold, ranked[width]?.perturbed ?? -Infinity);
      ({ beams, leaves } = advance(beams, ranked.slice(0, width), search));
      trace({ type: "beams", length: ++steps, live: beams.length, finished: leaves.length });
    }
  } finally {
    for (const { session } of beams) session[Symbol.dispose]();
  }
  if (leaves.length === 0 && constraint) throw deadEnd(constraint);
  return { leaves, threshold: threshold === -Infinity ? undefined : threshold, steps };
}

function rootOf(session: Beam["session"], { context, masker }: Search): Beam {
  return {
    session,
    path: undefined,
    length: 0,
    logprob: 0,
    perturbed: 0, // drawn with its children
    seed: context.sampling.seed,
    stops: context.createStopCheck(),
    state: masker?.start(),
  };
}

/** The best children of a beam, one more than could be kept. */
async function expand(beam: Beam, { context, width, promptLength, masker }: Search) {
  const { session, logprob, perturbed, length } = beam;
  const mask = masker?.mask(beam.state);
  if (mask?.isEmpty) {
    const leaf: Leaf = { path: beam.path, length, logprob, perturbed, reason: "stop" };
    return mask.isComplete ? [{ ...leaf, leaf } satisfies Candidate] : [];
  }
  const { sampling } = context;
  const tokens = hasPenalties(sampling) ? session.tokens : [];
  const position = session.length;
  const [logits] = await session.logits();
  const scores = warpedLogprobs(logits!, {
    sampling,
    mask: mask?.bits,
    promptTokens: tokens.slice(0, promptLength),
    completionTokens: tokens.slice(promptLength),
  });
  const noisy = withNoise(scores, { seed: beam.seed, position, offset: logprob });
  const best = largest(noisy, width + 1);
  const highest = noisy[best[0]!]!;
  const raw = { logits: logits!, normalizer: logNormalizer(logits!) };
  const top = length === 0 ? highest : perturbed;
  return Array.from(best).filter((token) => noisy[token]! > -Infinity).map((
    token,
    i,
  ): Candidate => ({
    parent: beam,
    token,
    raw,
    isBest: i === 0,
    logprob: logprob + scores[token]!,
    perturbed: conditioned(noisy[token]!, highest, top),
  }));
}

/**
 * Perturbed value of a child, given that the largest of its siblings, `highest`, becomes `top`.
 * Keeps their order, and maps `highest` to `top` exactly.
 */
export function conditioned(value: number, highest: number, top: number): number {
  if (value === highest) return top;
  const u = top - value + Math.log1p(-Math.exp(value - highest));
  return top - Math.max(0, u) - Math.log1p(Math.exp(-Math.abs(u)));
}

/** Splits the chosen candidates into completions and beams that go on. */
function advance(
  beams: readonly Beam[],
  chosen: readonly Candidate[],
  { context, masker }: Search,
): { beams: Beam[]; leaves: Leaf[] } {
  const leaves: Leaf[] = [];
  const going: { next: Omit<Beam, "session">; parent: Beam["session"]; token: TokenId }[] = [];
  for (const candidate of chosen) {
    if ("leaf" in candidate) {
      leaves.push(candidate.leaf);
      continue;
    }
    const { parent, token, isBest, logprob, perturbed } = candidate;
    const stops = parent.stops.fork();
    const length = parent.length + 1;
    const path = { token: shown(candidate, context.logprobs), before: parent.path };
    const node = { path, length, logprob, perturbed };
    const reason = stops.push(token) ? "stop" : length === context.maxTokens ? "length" : undefined;
    if (reason) leaves.push({ ...node, reason });
    else {
      // The best child goes on with the parent's noise, so that the first completion is a sample.
      const seed = isBest ? parent.seed : forkSeed(parent.seed, token);
      const state = masker?.advance(parent.state, token);
      going.push({ next: { ...node, seed, stops, state }, parent: parent.session, token });
    }
  }
  const sessions = moveSessions(beams.map(({ session }) => session), going);
  return { leaves, beams: going.map(({ next }, i) => ({ ...next, session: sessions[i]! })) };
}

function shown(
  { token, raw }: { readonly token: TokenId; readonly raw: Raw },
  topLogprobs: number | undefined,
): TokenLogprob {
  const { logits, normalizer } = raw;
  const top = topCandidates(logits, topLogprobs ?? 0, normalizer);
  return { token, logprob: logits[token]! - normalizer, top };
}

/** What may follow a beam, and how likely it is. */
import {
  hasPenalties,
  largest,
  logNormalizer,
  type SamplingParams,
  type Session,
  type TokenLogprob,
  topCandidates,
  warpedLogprobs,
} from "../runtime/mod.ts";
import type { Movable } from "./_beams.ts";

/** A token that may follow a beam. */
export interface Follower {
  /** Token with its raw log-probabilities, for the response. */
  readonly token: TokenLogprob;
  /** Log-probability the search adds up. */
  readonly logprob: number;
}

/** A session that tells its most likely followers. */
export interface BeamSession extends Movable<BeamSession> {
  /**
   * The `count` most likely, best first, ties by lower token id; fewer if there are no more. One ask.
   *
   * @param mask one bit per allowed token
   */
  followers(count: number, mask?: Uint32Array): Promise<readonly Follower[]>;
}

/** How many raw log-probabilities to keep with each follower. */
export interface FollowerOptions {
  readonly topLogprobs: number;
}

/** Whether the request changes the model's distribution. */
export function hasAdjustments(sampling: SamplingParams): boolean {
  return sampling.logitBias.length > 0 || hasPenalties(sampling);
}

/** Reads the model's own distribution: a few candidates cross, not the vocabulary. Takes no mask. */
export function plainBeam(
  session: Session<"edit" | "topk">,
  options: FollowerOptions,
): BeamSession {
  const { topLogprobs } = options;
  return {
    append: (tokens) => session.append(tokens),
    fork: () => plainBeam(session.fork(), options),
    [Symbol.dispose]: () => session[Symbol.dispose](),
    async followers(count) {
      const [row] = await session.topk(Math.max(count, topLogprobs));
      const { candidates } = row!;
      const top = candidates.slice(0, topLogprobs);
      return candidates.slice(0, count)
        .filter(({ logprob }) => logprob > -Infinity)
        .map(({ token, logprob }) => ({ token: { token, logprob, top }, logprob }));
    },
  };
}

/** Reads whole rows of logits: for bias, penalties and masks. */
export function adjustedBeam(
  session: Session<"edit" | "logits">,
  options: FollowerOptions & { readonly sampling: SamplingParams; readonly promptLength: number },
): BeamSession {
  const { topLogprobs, promptLength } = options;
  const sampling = { ...options.sampling, temperature: 1, topK: 0, topP: 1, minP: 0, typicalP: 1 };
  return {
    append: (tokens) => session.append(tokens),
    fork: () => adjustedBeam(session.fork(), options),
    [Symbol.dispose]: () => session[Symbol.dispose](),
    async followers(count, mask) {
      const promptTokens = session.tokens.slice(0, promptLength);
      const completionTokens = session.tokens.slice(promptLength);
      const [row] = await session.logits();
      const raw = logNormalizer(row!);
      const scores = warpedLogprobs(row!, { sampling, promptTokens, completionTokens });
      if (mask) forbid(scores, mask);
      const top = topCandidates(row!, topLogprobs, raw);
      return Array.from(largest(scores, count))
        .filter((token) => scores[token]! > -Infinity)
        .map((token) => ({
          token: { token, logprob: row![token]! - raw, top },
          logprob: scores[token]!,
        }));
    },
  };
}

function forbid(scores: Float64Array, mask: Uint32Array): void {
  for (let token = 0; token < scores.length; token++) {
    if ((mask[token >> 5]! >> (token & 31) & 1) === 0) scores[token] = -Infinity;
  }
}

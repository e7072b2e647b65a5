/**
 * Draws one token from p restricted to the allowed ones, asking about as few tokens as possible, and
 * gives with it an unbiased estimate of the probability that a draw from p is allowed.
 *
 * An estimator yields a token, is told whether it is allowed, and returns (token, weight) such that
 * E[weight f(token)] = sum over allowed t of p(t) f(t) for every f; a failure has weight 0. The token
 * of a success is distributed as p over the allowed tokens.
 *
 * Source: Lipkin et al. 2025, "Fast controlled generation from language models with adaptive weighted
 * rejection sampling", https://arxiv.org/abs/2504.05410: {@link twoLoop} is definition 2; the others
 * are what the authors' genlm-control runs today. Differs: nothing is cut off at a rejected mass of
 * 1 - 1e-5, so rare tokens are found.
 */
import type { TokenId } from "../runtime/mod.ts";

/** Tokens with their probabilities under p, drawn from one after another. */
export interface Urn {
  /** Largest probability of what was not removed. */
  readonly peak: number;
  /** Probability under p of a token that was not removed. */
  prob(token: TokenId): number;
  /** In proportion to p among those not drawn since the last refill; undefined when there are none. */
  draw(): TokenId | undefined;
  /** Takes a token out for good. */
  remove(token: TokenId): void;
  /** Puts back what was drawn and not removed; the next draws are independent of those before. */
  refill(): void;
  /** Mass of what was not removed. */
  left(): number;
  /**
   * How often independent draws from p would have given a removed token before giving another one:
   * geometric.
   *
   * @param limit larger values count as this
   */
  phantoms(limit: number): number;
}

/** What an estimator gives. */
export interface Drawn {
  /** Undefined: no allowed token was found. */
  readonly token: TokenId | undefined;
  /** Of unit mean share: in [0, 1]. */
  readonly weight: number;
}

/** Yields tokens to be judged. */
export type Estimator = Generator<TokenId, Drawn, boolean>;

const failure: Drawn = { token: undefined, weight: 0 };

/** The first allowed token, without a weight: what a mask would draw. */
export function* firstAllowed(
  urn: Pick<Urn, "draw" | "remove">,
  maxRejects: number,
): Estimator {
  for (let rejects = 0; rejects < maxRejects; rejects++) {
    const token = urn.draw();
    if (token === undefined) break;
    if (yield token) return { token, weight: 1 };
    urn.remove(token);
  }
  return failure;
}

/**
 * Draws without replacement up to an acceptance, puts that one back and draws up to a second one:
 * weight (1 - rejected mass of the first loop) / (rejections + 1).
 */
export function* twoLoop(urn: Urn): Estimator {
  let found: TokenId | undefined;
  let rejects = 0;
  let left = 1;
  for (let loop = 0; loop < 2; loop++) {
    if (loop > 0) {
      left = urn.left();
      urn.refill();
    }
    for (;;) {
      const token = urn.draw();
      if (token === undefined) return failure;
      if (yield token) {
        found ??= token;
        break;
      }
      urn.remove(token);
      rejects++;
    }
  }
  return { token: found, weight: left / (rejects + 1) };
}

/**
 * Asks about one token after the accepted one: the weight is what the rejected ones left of the mass
 * if that is allowed too, otherwise the accepted token's own probability.
 *
 * @param maxRejects gives up after so many rejections
 */
export function* recursive(urn: Urn, maxRejects: number): Estimator {
  for (let rejects = 0; rejects < maxRejects; rejects++) {
    const token = urn.draw();
    if (token === undefined) break;
    if (yield token) {
      const left = urn.left();
      // At the last rejection allowed the estimate ends with 1 or 0: still unbiased.
      const next = rejects === maxRejects - 1 ? undefined : urn.draw();
      const isCertain = next === undefined || (yield next);
      return { token, weight: isCertain ? left : urn.prob(token) };
    }
    urn.remove(token);
  }
  return failure;
}

/**
 * Rebuilds a run of draws with replacement up to `maxAccepts` acceptances from draws without it, the
 * repeated rejections being drawn as a number. Weight (a - 1) / (a + rejections - 1).
 *
 * @param maxAccepts a, at least 2; more: lower variance, more questions
 * @param maxRejects ends the run after so many rejections, repeated ones included
 */
export function* geometric(urn: Urn, maxAccepts: number, maxRejects: number): Estimator {
  let found: TokenId | undefined;
  let accepts = 0;
  let rejects = 0;
  while (accepts < maxAccepts) {
    if (accepts > 0) urn.refill();
    for (;;) {
      rejects += urn.phantoms(maxRejects - rejects);
      if (rejects >= maxRejects) return closing(found, accepts, rejects, maxAccepts);
      const token = urn.draw();
      if (token === undefined) return failure;
      if (yield token) {
        found ??= token;
        accepts++;
        break;
      }
      urn.remove(token);
      rejects++;
    }
  }
  return closing(found, accepts, rejects, maxAccepts);
}

function closing(
  token: TokenId | undefined,
  accepts: number,
  rejects: number,
  maxAccepts: number,
): Drawn {
  if (token === undefined) return failure;
  return { token, weight: Math.min(maxAccepts - 1, accepts) / (accepts + rejects - 1) };
}

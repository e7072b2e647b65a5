/**
 * How many tokens to propose next, from what was accepted and what passes cost.
 *
 * Costs are in passes of the target over one token. A round with g proposals of acceptance a keeps
 * E(a, g) = (1 - a^(g+1)) / (1 - a) tokens and costs v(g + 1) + g c.
 * Source: Leviathan et al. 2022, https://arxiv.org/abs/2211.17192, section 3, with v(m) not assumed 1.
 */

/** What passes cost, in passes of the target over one token per row. */
export interface Costs {
  /** A pass of the target over `tokens` tokens in each of `rows` rows. */
  verify(tokens: number, rows: number): number;
  /** One proposal. */
  draft(): number;
  /** A number of proposals that has to be tried before costs are known; undefined = known. */
  wanted?(): number | undefined;
}

/** Decides the number of proposals of each round of one sequence. */
export interface GammaSchedule {
  /** @param rows sequences that share the pass */
  next(rows: number): number;
  record(proposed: number, accepted: number): void;
  /** Estimated probability that a proposal is kept. */
  readonly acceptance: number;
}

/** Names of the schedules. */
export type GammaScheduleName = "fixed" | "heuristic" | "ema";

/** Expected tokens of a round with `gamma` proposals, each kept with probability `acceptance`. */
export function expectedTokens(acceptance: number, gamma: number): number {
  let sum = 1;
  for (let i = 1, kept = 1; i <= gamma; i++) sum += kept *= acceptance;
  return sum;
}

/** Tokens per cost of a round with `gamma` proposals, relative to plain decoding. */
export function speedup(acceptance: number, gamma: number, costs: Costs, rows: number): number {
  return expectedTokens(acceptance, gamma) /
    (costs.verify(gamma + 1, rows) + gamma * costs.draft());
}

/** Costs as given: v(m) = 1 + (m - 1) * verify, c = draft. */
export function declaredCosts(verify: number, draft: number): Costs {
  return { verify: (tokens) => 1 + (tokens - 1) * verify, draft: () => draft };
}

/**
 * A schedule of at most `gamma` proposals.
 *
 * `fixed`: always `gamma`. `heuristic`: two more after a round that kept everything, otherwise one
 * fewer, at least 1. `ema`: the number with the best expected speed-up, from an exponential mean of
 * what was kept (weight 0.1, start 0.7); once that is 0 nothing is proposed any more.
 */
export function createSchedule(
  name: GammaScheduleName,
  gamma: number,
  costs: Costs,
): GammaSchedule {
  let acceptance = 0.7;
  let length = gamma;
  let isOff = false;
  return {
    get acceptance() {
      return acceptance;
    },
    next(rows) {
      if (name !== "ema") return length;
      const wanted = costs.wanted?.();
      if (wanted !== undefined) return Math.min(wanted, gamma);
      if (isOff) return 0;
      const best = fastest(acceptance, gamma, costs, rows);
      isOff = best === 0;
      return best;
    },
    record(proposed, accepted) {
      const decided = Math.min(proposed, accepted + 1);
      for (let i = 0; i < decided; i++) acceptance += 0.1 * ((i < accepted ? 1 : 0) - acceptance);
      if (name !== "heuristic" || proposed === 0) return;
      length = accepted === proposed ? Math.min(gamma, length + 2) : Math.max(1, length - 1);
    },
  };
}

function fastest(acceptance: number, gamma: number, costs: Costs, rows: number): number {
  let best = 0;
  let highest = speedup(acceptance, 0, costs, rows);
  for (let g = 1; g <= gamma; g++) {
    const gain = speedup(acceptance, g, costs, rows);
    if (gain > highest) {
      highest = gain;
      best = g;
    }
  }
  return best;
}

/** Costs learned from timed passes. */
export interface MeasuredCosts extends Costs {
  /** A pass of the target over `tokens` tokens in all took `ms`. */
  verified(tokens: number, ms: number): void;
  /** `count` proposals one after another took `ms`. */
  drafted(count: number, ms: number): void;
}

/**
 * Fits time = a + b * tokens to the passes seen, by least squares; the first plain and the first
 * speculative pass are needed before it knows.
 */
export function measuredCosts(gamma: number): MeasuredCosts {
  let n = 0, sumX = 0, sumY = 0, sumXX = 0, sumXY = 0;
  let drafts = 0, draftMs = 0;
  const line = () => {
    const slope = Math.max(0, (n * sumXY - sumX * sumY) / (n * sumXX - sumX * sumX));
    return { slope, start: Math.max(0, (sumY - slope * sumX) / n) };
  };
  const pass = (tokens: number) => {
    const { slope, start } = line();
    return Math.max(start + slope * tokens, Number.MIN_VALUE);
  };
  return {
    wanted() {
      if (n === 0) return 0;
      return n * sumXX - sumX * sumX > 0 ? undefined : gamma;
    },
    verify: (tokens, rows) => pass(tokens * rows) / pass(rows),
    draft: () => drafts === 0 ? 0 : draftMs / drafts / pass(1),
    verified(tokens, ms) {
      n++;
      sumX += tokens;
      sumY += ms;
      sumXX += tokens * tokens;
      sumXY += tokens * ms;
    },
    drafted(count, ms) {
      if (count === 0) return;
      drafts += count;
      draftMs += ms;
    },
  };
}

/** What later groups of beams pay for tokens that earlier groups have. */
import type { TokenId } from "../runtime/mod.ts";
import type { Follower } from "./_beam_rows.ts";
import type { Diversity, Prices } from "./_diversity.ts";

/** How groups are charged. */
export interface GroupCharge {
  readonly diversity: Diversity;
  /** lambda: nats per unit of the diversity function. */
  readonly strength: number;
  /** Tokens that cost nothing: they must repeat. */
  readonly isExempt: (token: TokenId) => boolean;
  /** Number of tokens there are. */
  readonly vocabSize: number;
}

/** Followers as they were read, and how to read more of them. */
export interface Readable {
  readonly followers: readonly Follower[];
  readonly more: (count: number) => Promise<readonly Follower[]>;
}

/** One beam's bill. */
export interface Bill {
  readonly charge: GroupCharge;
  readonly prices: Prices;
  /** How many followers were asked for. */
  readonly count: number;
  /** How many of the result have to be the best there are. */
  readonly needed: number;
}

/**
 * Followers with their charges taken off, best first, ties by lower token id. Reads on while a
 * token not read yet could be among the first `needed`. A beam with a single follower has no choice
 * and pays nothing.
 */
export async function chargeFollowers(
  { followers, more }: Readable,
  { charge, prices, needed, ...bill }: Bill,
): Promise<readonly Follower[]> {
  if (followers.length <= 1 || charge.strength === 0) return followers;
  let read = followers;
  for (let count = bill.count;;) {
    const charged = chargeRead(read, charge, prices);
    if (read.length < count || count >= charge.vocabSize) return charged;
    if (isAhead(charged[needed - 1]!, chargeOf(read.at(-1)!, charge, prices.least))) return charged;
    count = Math.min(4 * count, charge.vocabSize);
    read = await more(count);
    await charge.diversity.prepare(read.map(({ token }) => token.token));
  }
}

function chargeRead(
  followers: readonly Follower[],
  charge: GroupCharge,
  prices: Prices,
): Follower[] {
  return followers
    .map((follower) => {
      const { token } = follower.token;
      return chargeOf(follower, charge, charge.isExempt(token) ? 0 : prices.of(token));
    })
    .sort((a, b) => b.logprob - a.logprob || a.token.token - b.token.token);
}

function chargeOf({ token, logprob }: Follower, { strength }: GroupCharge, price: number) {
  return { token, logprob: logprob - strength * price };
}

/** Whether `follower` is before everything that was read after `last`: ties have higher ids. */
function isAhead(follower: Follower, last: Follower): boolean {
  if (follower.logprob !== last.logprob) return follower.logprob > last.logprob;
  return follower.token.token <= last.token.token;
}

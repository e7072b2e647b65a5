/** Draws without replacement, the first of them in the order of log-probability plus Gumbel noise. */
import {
  createRng,
  forkSeed,
  largest,
  type Seed,
  tokenGumbel,
  type TokenId,
} from "../runtime/mod.ts";
import type { Urn } from "./_awrs_estimators.ts";
import type { StepLaw } from "./_awrs_law.ts";
import { withNoise } from "./_noise.ts";

/** How many tokens of an order are found at first, and how many then; all are sorted if need be. */
const few = 4;
const several = 60;
/** Branch of a seed: choices use the small numbers. */
const chanceBranch = 2 ** 25;
/** Largest noise there is, rounded up. */
const largestNoise = 22.9;
const noise = new Float64Array(4);

/**
 * Up to the first token that is not removed again, the order is that of the sampler's own noise, keyed by
 * (seed, position, token): its first token is what `sample` draws, and its first allowed one what `sample`
 * draws under a mask. What comes later decides weights only and is drawn from the sums of probabilities,
 * which is cheaper.
 *
 * @param law becomes the urn's
 * @param position place in the sequence the token would take
 * @param first the first token of the order, where it is known
 */
export function gumbelUrn(law: StepLaw, seed: Seed, position: number, first?: TokenId): Urn {
  const { probs } = law;
  /** Drawn since the last refill and not removed, with their probabilities, which `probs` has as 0. */
  const out = new Map<TokenId, number>();
  let order: NoiseOrder | undefined;
  let isFirst = true;
  let last: TokenId | undefined;
  let left = 1;
  let exactAt = 1;
  let chance: ReturnType<typeof createRng> | undefined;

  const next = () =>
    (chance ??= createRng(forkSeed(forkSeed(seed, chanceBranch), position))).next();
  const byNoise = () => {
    if (last === undefined && first !== undefined) return first;
    return (order ??= noiseOrder(law.logprobs(), probs, seed, position))();
  };
  const probOf = (token: TokenId) => out.get(token) ?? probs[token]!;
  /** Sums afresh where subtracting has used up a sum's digits. */
  const mass = () => {
    if (left > 1e-6 * exactAt) return left;
    left = sumOf(probs);
    for (const prob of out.values()) left += prob;
    return exactAt = left;
  };

  return {
    get peak() {
      let best = 0;
      for (let i = 0; i < probs.length; i++) if (probs[i]! > best) best = probs[i]!;
      return best;
    },
    prob: probOf,
    draw() {
      // Whatever was drawn and left in was accepted.
      if (last !== undefined && out.has(last)) isFirst = false;
      const token = isFirst ? byNoise() : byChance(probs, next() + next() / 2 ** 32);
      if (token === undefined) return undefined;
      out.set(token, probs[token]!);
      probs[token] = 0;
      return last = token;
    },
    remove(token) {
      left -= probOf(token);
      out.delete(token);
      probs[token] = 0;
    },
    refill() {
      isFirst = false;
      for (const [token, prob] of out) probs[token] = prob;
      out.clear();
    },
    left: mass,
    phantoms(limit) {
      const rest = mass();
      if (rest >= 1) return 0;
      const uniform = 1 - next(); // in (0, 1]
      return Math.min(limit, Math.floor(Math.log(uniform) / Math.log1p(-rest)));
    },
  };
}

function sumOf(probs: Float64Array): number {
  let sum = 0;
  for (let i = 0; i < probs.length; i++) sum += probs[i]!;
  return sum;
}

/** In proportion to the entries; undefined if all are 0. */
function byChance(probs: Float64Array, uniform: number): TokenId | undefined {
  let rest = uniform * sumOf(probs);
  let found: TokenId | undefined;
  for (let token = 0; token < probs.length; token++) {
    const prob = probs[token]!;
    if (prob === 0) continue;
    found = token;
    rest -= prob;
    if (rest < 0) break; // else rounding: the last one
  }
  return found;
}

/** The next token of the order, while those that came before are not wanted again. */
type NoiseOrder = () => TokenId | undefined;

/**
 * @param logprobs becomes the order's
 * @param probs 0 where a token takes no part
 */
function noiseOrder(
  logprobs: Float64Array,
  probs: Float64Array,
  seed: Seed,
  position: number,
): NoiseOrder {
  for (let i = 0; i < probs.length; i++) {
    // What is too rare for a probability may still come.
    if (probs[i] === 0 && logprobs[i]! > -700) logprobs[i] = -Infinity;
  }
  let order = leaders(logprobs, seed, position);
  let keys: Float64Array | undefined;
  let taken = 0;
  const longer = () => {
    if (order.length === logprobs.length) return;
    const isFirst = keys === undefined;
    keys ??= withNoise(logprobs, { seed, position, offset: 0 });
    for (const token of order) keys[token] = -Infinity;
    const more = largest(keys, isFirst ? several : keys.length);
    order = [...order, ...more.filter((token) => keys![token]! > -Infinity)];
  };
  return () => {
    if (taken === order.length) longer();
    return order[taken++];
  };
}

/** The first few tokens of the order: noise is drawn only where a token could be among them. */
function leaders(logprobs: Float64Array, seed: Seed, position: number): readonly TokenId[] {
  const ids: TokenId[] = [];
  const keys: number[] = [];
  let threshold = -Infinity;
  let block = -1;
  for (let token = 0; token < logprobs.length; token++) {
    const logprob = logprobs[token]!;
    if (logprob === -Infinity || logprob + largestNoise < threshold) continue;
    if (token >> 2 !== block) tokenGumbel(noise, seed, position, block = token >> 2);
    const key = logprob + noise[token & 3]!;
    if (key <= threshold) continue;
    let at = keys.length;
    while (at > 0 && keys[at - 1]! < key) at--;
    keys.splice(at, 0, key);
    ids.splice(at, 0, token);
    if (keys.length > few) {
      keys.pop();
      ids.pop();
    }
    if (keys.length === few) threshold = keys[few - 1]!;
  }
  return ids;
}

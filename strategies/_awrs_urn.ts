/** Draws without replacement by Gumbel keys: the order is that of log-probability plus noise. */
import {
  createRng,
  forkSeed,
  largest,
  type Seed,
  tokenGumbel,
  type TokenId,
} from "../runtime/mod.ts";
import type { Urn } from "./_awrs_estimators.ts";
import { withNoise } from "./_noise.ts";

/** How many tokens of an order are found at first, and how many then; all are sorted if need be. */
const few = 4;
const several = 60;
/** Branches of a seed: choices use the small numbers. */
const refillBranch = 2 ** 24;
const phantomBranch = 2 ** 25;
/** Largest noise there is, rounded up. */
const largestNoise = 22.9;
const noise = new Float64Array(4);

/**
 * The first order uses the sampler's own noise, keyed by (seed, position, token): its first token is
 * what `sample` draws, and its first allowed one what `sample` draws under a mask.
 *
 * @param logprobs shape [vocab], normalised, -Infinity where impossible; becomes the urn's
 * @param position place in the sequence the token would take
 */
export function gumbelUrn(logprobs: Float64Array, seed: Seed, position: number): Urn {
  let refills = 0;
  let order: readonly TokenId[] | undefined;
  let keys: Float64Array | undefined;
  let taken = 0;
  let left = 1;
  let exactAt = 1;
  let chance: ReturnType<typeof createRng> | undefined;

  const source = () => refills === 0 ? seed : forkSeed(seed, refillBranch + refills);
  /** The order some way further: removed tokens are not in the keys, drawn ones stay in front. */
  const longer = (known: readonly TokenId[]) => {
    if (known.length === logprobs.length) return known;
    const isFirst = keys === undefined;
    keys ??= withNoise(logprobs, { seed: source(), position, offset: 0 });
    for (const token of known) keys[token] = -Infinity;
    const more = largest(keys, isFirst ? several : keys.length);
    return [...known, ...more.filter((token) => keys![token]! > -Infinity)];
  };
  /** Sums afresh where subtracting has used up a sum's digits. */
  const mass = () => {
    if (left > 1e-6 * exactAt) return left;
    left = 0;
    for (const logprob of logprobs) if (logprob > -Infinity) left += Math.exp(logprob);
    return exactAt = left;
  };

  return {
    get peak() {
      let best = -Infinity;
      for (let i = 0; i < logprobs.length; i++) if (logprobs[i]! > best) best = logprobs[i]!;
      return Math.exp(best);
    },
    prob: (token) => Math.exp(logprobs[token]!),
    draw() {
      order ??= leaders(logprobs, source(), position);
      if (taken === order.length) order = longer(order);
      return order[taken++];
    },
    remove(token) {
      left -= Math.exp(logprobs[token]!);
      logprobs[token] = -Infinity;
    },
    refill() {
      refills++;
      order = undefined;
      keys = undefined;
      taken = 0;
    },
    left: mass,
    phantoms(limit) {
      const rest = mass();
      if (rest >= 1) return 0;
      chance ??= createRng(forkSeed(forkSeed(seed, phantomBranch), position));
      const uniform = 1 - chance.next(); // in (0, 1]
      return Math.min(limit, Math.floor(Math.log(uniform) / Math.log1p(-rest)));
    },
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

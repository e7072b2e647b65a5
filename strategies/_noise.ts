/** Gumbel noise on rows of log-probabilities, keyed as in the sampler: by seed, position and token. */
import { type Seed, tokenGumbel, type TokenId } from "../runtime/mod.ts";

/** Largest noise there is, rounded up: -ln(-ln(1 - 2^-33)). */
const largestNoise = 22.9;
const noise = new Float64Array(4);

/**
 * Draws a token: the arg max of log-probability plus noise. Same token as the sampler's.
 *
 * @param logprobs shape [vocab], -Infinity where impossible; at least one possible
 * @param position place in the sequence the token would take
 */
export function drawToken(logprobs: Float64Array, seed: Seed, position: number): TokenId {
  let winner = -1, highest = -Infinity, block = -1;
  for (let token = 0; token < logprobs.length; token++) {
    const logprob = logprobs[token]!;
    // Also skips tokens that could not win with the largest noise.
    if (logprob === -Infinity || logprob + largestNoise < highest) continue;
    if (token >> 2 !== block) tokenGumbel(noise, seed, position, block = token >> 2);
    const value = logprob + noise[token & 3]!;
    if (value > highest) {
      highest = value;
      winner = token;
    }
  }
  return winner;
}

/** The row with noise added to every possible token, and `offset` to all. A new array. */
export function withNoise(
  logprobs: Float64Array,
  { seed, position, offset }: {
    readonly seed: Seed;
    readonly position: number;
    readonly offset: number;
  },
): Float64Array {
  let block = -1;
  return logprobs.map((logprob, token) => {
    if (logprob === -Infinity) return logprob;
    if (token >> 2 !== block) tokenGumbel(noise, seed, position, block = token >> 2);
    return offset + logprob + noise[token & 3]!;
  });
}

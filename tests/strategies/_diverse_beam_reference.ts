/**
 * Diverse beam search over whole rows, without end of sequence: the published algorithm written down
 * as plainly as possible, to test against. Everything is counted anew from the token lists.
 */
import type { TokenId } from "../../runtime/mod.ts";

export interface ReferenceOptions {
  readonly prompt: readonly TokenId[];
  /** Log-probabilities of every next token. */
  readonly logprobsAfter: (tokens: readonly TokenId[]) => readonly number[];
  readonly groups: number;
  /** Beams per group. */
  readonly width: number;
  readonly strength: number;
  readonly fn: "hamming" | "cumulative" | "ngram" | "embedding";
  readonly ngramSize: number;
  readonly temperature: number;
  readonly cosine: (a: TokenId, b: TokenId) => number;
  readonly steps: number;
  readonly isExempt: (token: TokenId) => boolean;
}

export interface ReferenceBeam {
  readonly tokens: readonly TokenId[];
  readonly score: number;
  readonly raw: number;
}

/** Beams of every group after `steps` tokens, best first. */
export function diverseBeamReference(options: ReferenceOptions): ReferenceBeam[][] {
  const { groups, width, strength, steps, prompt, logprobsAfter, isExempt } = options;
  let state: ReferenceBeam[][] = Array.from(
    { length: groups },
    () => [{ tokens: [], score: 0, raw: 0 }],
  );
  for (let t = 0; t < steps; t++) {
    const next: ReferenceBeam[][] = [];
    for (const beams of state) {
      const candidates = beams.flatMap(({ tokens, score, raw }) =>
        logprobsAfter([...prompt, ...tokens]).map((logprob, token) => {
          const penalty = isExempt(token) ? 0 : penaltyOf(token, tokens, next, options);
          return {
            tokens: [...tokens, token],
            score: score + logprob - strength * penalty,
            raw: raw + logprob,
          };
        })
      );
      next.push(candidates.sort((a, b) => b.score - a.score).slice(0, width));
    }
    state = next;
  }
  return state;
}

function penaltyOf(
  token: TokenId,
  own: readonly TokenId[],
  earlier: readonly (readonly ReferenceBeam[])[],
  { fn, ngramSize, temperature, cosine }: ReferenceOptions,
): number {
  const mine = [...own, token];
  const t = own.length;
  switch (fn) {
    case "hamming":
      return earlier.flat().filter(({ tokens }) => tokens[t] === token).length;
    case "embedding":
      return earlier.flat().reduce(
        (s, { tokens }) => s + Math.max(0, cosine(token, tokens[t]!)),
        0,
      );
    case "cumulative":
      return earlier.reduce((sum, group) => {
        const differences = group.reduce(
          (n, { tokens }) => n + tokens.filter((other, i) => other !== mine[i]).length,
          0,
        );
        return sum + Math.exp(-differences / temperature);
      }, 0);
    case "ngram": {
      if (mine.length < ngramSize) return 0;
      const wanted = mine.slice(-ngramSize).join();
      return earlier.flat().reduce(
        (n, { tokens }) =>
          n +
          tokens.filter((_, i) =>
            i + 1 >= ngramSize && tokens.slice(i + 1 - ngramSize, i + 1).join() === wanted
          ).length,
        0,
      );
    }
  }
}

/**
 * Diversity functions: how much a token repeats what earlier groups of beams have.
 *
 * Source: Vijayakumar et al. 2016, https://arxiv.org/abs/1610.02424, section on diversity terms.
 * Differs: cosines of `embedding` are cut off at 0, so that no token is paid for; they are taken of
 * the model's own input embeddings (word2vec there).
 */
import type { LanguageModel, TokenId } from "../runtime/mod.ts";
import type { Path } from "./_beams.ts";

/** What tokens after one beam cost, before the strength is applied. */
export interface Prices {
  /** What every token costs at least. */
  readonly least: number;
  of(token: TokenId): number;
}

/** A diversity function. */
export interface Diversity {
  /** How many followers to read beyond those needed where `earlier` beams stand before. */
  spare(earlier: number): number;
  /** Must have been awaited for a token before it is priced. */
  prepare(tokens: readonly TokenId[]): Promise<void>;
  /**
   * Prices for one group.
   *
   * @param earlier beams of each earlier group that is live, already one token longer
   */
  against(earlier: readonly (readonly Path[])[]): (path: Path | undefined) => Prices;
}

const nothingToPrepare = () => Promise.resolve();

/** How many earlier beams have the token at this place. */
export function hamming(): Diversity {
  return {
    spare: (earlier) => earlier,
    prepare: nothingToPrepare,
    against(earlier) {
      const counts = countsOf(earlier.flat().map(({ token }) => token.token));
      const prices = { least: 0, of: (token: TokenId) => counts.get(token) ?? 0 };
      return () => prices;
    },
  };
}

/**
 * Sum over the earlier groups of e^(-differences / temperature), where differences are counted at
 * all places and against all beams of a group, this token included.
 */
export function cumulative(temperature: number): Diversity {
  return {
    spare: (earlier) => earlier,
    prepare: nothingToPrepare,
    against: (earlier) => (path) => {
      const groups = earlier.map((beams) => ({
        before: beams.reduce((sum, beam) => sum + differences(beam.before, path), 0),
        now: beams.map(({ token }) => token.token),
      })).filter(({ now }) => now.length > 0);
      const sum = (differing: (now: readonly TokenId[]) => number) =>
        groups.reduce(
          (total, { before, now }) => total + Math.exp(-(before + differing(now)) / temperature),
          0,
        );
      return {
        least: sum((now) => now.length),
        of: (token) => sum((now) => now.reduce((n, other) => other === token ? n : n + 1, 0)),
      };
    },
  };
}

/** In how many places two paths of one length differ. */
function differences(a: Path | undefined, b: Path | undefined): number {
  let count = 0;
  for (; a && b; a = a.before, b = b.before) if (a.token.token !== b.token.token) count++;
  return count;
}

/** How often earlier beams have the n-gram that the token would complete. */
export function ngram(size: number): Diversity {
  return {
    spare: (earlier) => 2 * earlier,
    prepare: nothingToPrepare,
    against: (earlier) => (path) => {
      const repeats: TokenId[] = [];
      for (const beam of earlier.flat()) {
        for (let at: Path | undefined = beam; at; at = at.before) {
          if (endAlike(at.before, path, size - 1)) repeats.push(at.token.token);
        }
      }
      const counts = countsOf(repeats);
      return { least: 0, of: (token) => counts.get(token) ?? 0 };
    },
  };
}

/** Whether both paths have `count` tokens and end with the same ones. */
function endAlike(a: Path | undefined, b: Path | undefined, count: number): boolean {
  for (; count > 0; count--, a = a.before, b = b.before) {
    if (!a || !b || a.token.token !== b.token.token) return false;
  }
  return true;
}

/** Sum of the cosines, where positive, between a token's embedding and those of earlier beams. */
export function embedding(model: LanguageModel<"hidden">): Diversity {
  const known = new Map<TokenId, Float32Array>();
  return {
    spare: (earlier) => 8 + 2 * earlier,
    async prepare(tokens) {
      const missing = [...new Set(tokens)].filter((token) => !known.has(token));
      for (let i = 0; i < missing.length; i += model.contextLength) {
        const part = missing.slice(i, i + model.contextLength);
        // The state below the first layer depends on the token alone.
        using session = model.session(part);
        const rows = await session.hidden(0, { last: part.length });
        part.forEach((token, j) => known.set(token, unit(rows[j]!)));
      }
    },
    against(earlier) {
      const others = earlier.flat().map(({ token }) => known.get(token.token)!);
      const prices = {
        least: 0,
        of(token: TokenId) {
          const vector = known.get(token)!;
          return others.reduce((sum, other) => sum + Math.max(0, dot(vector, other)), 0);
        },
      };
      return () => prices;
    },
  };
}

function unit(vector: Float32Array): Float32Array {
  const length = Math.sqrt(dot(vector, vector));
  return length === 0 ? vector : vector.map((x) => x / length);
}

function dot(a: Float32Array, b: Float32Array): number {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += a[i]! * b[i]!;
  return sum;
}

function countsOf(tokens: readonly TokenId[]): Map<TokenId, number> {
  const counts = new Map<TokenId, number>();
  for (const token of tokens) counts.set(token, (counts.get(token) ?? 0) + 1);
  return counts;
}

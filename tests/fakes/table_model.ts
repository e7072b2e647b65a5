/** Next-token table: for exact expectations. */
import type { TokenId, Vocab } from "../../runtime/mod.ts";
import { type FakeModel, fakeModel, type FakeModelOptions } from "./_model.ts";

/** Probabilities by the piece's text; what is not named has none. */
export type NextTokens = Readonly<Record<string, number>>;

/** How to make a table model. */
export interface TableModelOptions extends FakeModelOptions {
  readonly vocab: Vocab;
  /**
   * What follows a context, keyed by how the context ends: pieces one after another, control tokens
   * as `<end>`. The longest key that fits wins; "" fits always and must be there.
   */
  readonly table: Readonly<Record<string, NextTokens>>;
}

/**
 * A model that looks the next token's distribution up. Logits are natural logs of the probabilities,
 * -Infinity where there is none.
 *
 * @throws {RangeError} if a key or piece is not in the vocabulary, or the key "" is missing
 */
export function tableModel({ vocab, table, ...options }: TableModelOptions): FakeModel {
  const entries = Object.entries(table)
    .map(([key, next]) => ({
      suffix: vocab.encode(key, { special: true }),
      logits: logitsOf(next, vocab),
    }))
    .sort((a, b) => b.suffix.length - a.suffix.length);
  if (entries.at(-1)?.suffix.length !== 0) throw new RangeError('The table needs the key ""');
  return fakeModel({
    vocab,
    logits: (tokens) => entries.find(({ suffix }) => endsWith(tokens, suffix))!.logits,
    hidden: (tokens, layer) => Float32Array.of(tokens.length, tokens.at(-1) ?? -1, layer),
  }, { id: "table", ...options });
}

function logitsOf(next: NextTokens, vocab: Vocab): Float32Array {
  const logits = new Float32Array(vocab.size).fill(-Infinity);
  for (const [piece, probability] of Object.entries(next)) {
    const [token, ...more] = vocab.encode(piece, { special: true });
    if (token === undefined || more.length > 0) {
      throw new RangeError(`${JSON.stringify(piece)} is not one token`);
    }
    logits[token] = Math.log(probability);
  }
  return logits;
}

function endsWith(tokens: readonly TokenId[], suffix: readonly TokenId[]): boolean {
  const start = tokens.length - suffix.length;
  return start >= 0 && suffix.every((token, i) => tokens[start + i] === token);
}

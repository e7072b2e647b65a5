/** Where clauses end, for strategies that draw clause by clause. */
import type { TokenId, Vocab } from "../runtime/mod.ts";
import { textOf } from "./_utf8.ts";

/** Tells whether a token ends a clause. */
export type ClauseEnd = (token: TokenId) => boolean;

/**
 * A token ends a clause if the last character of its text is one of `characters`. Spaces at its end
 * do not count, unless a space is among the characters; line breaks do.
 */
export function endsByLastCharacter(vocab: Vocab, characters: string): ClauseEnd {
  const ends = new Set(characters);
  const known = new Map<TokenId, boolean>();
  return (token) => {
    let isEnd = known.get(token);
    if (isEnd === undefined) {
      const text = textOf(vocab.bytes(token));
      isEnd = ends.has(lastCharacter(text)) || ends.has(lastCharacter(text.replace(/ +$/, "")));
      known.set(token, isEnd);
    }
    return isEnd;
  };
}

/**
 * A token ends a clause if it is the first token of one of `characters`, encoded alone. Merged
 * tokens such as ").\n" do not.
 */
export function endsByToken(vocab: Vocab, characters: string): ClauseEnd {
  const ends = new Set([...characters].map((character) => vocab.encode(character)[0]));
  return (token) => ends.has(token);
}

/** Whether a character has a token to begin with. */
export function canEncode(vocab: Vocab, character: string): boolean {
  try {
    return vocab.encode(character).length > 0;
  } catch (error) {
    if (error instanceof RangeError) return false;
    throw error;
  }
}

function lastCharacter(text: string): string {
  return [...text.slice(-2)].at(-1) ?? "";
}

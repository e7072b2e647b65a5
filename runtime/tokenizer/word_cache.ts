/** A bounded memory of encoded words. */
import type { TokenId } from "../model.ts";

/** Longer words are rare and cost more memory than they save time. */
const MAX_WORD = 64;
const MAX_ENTRIES = 16_384;

/** Looks a word up, or computes and remembers it. The result must not be changed. */
export type WordCache = (
  word: string,
  compute: (word: string) => readonly TokenId[],
) => readonly TokenId[];

/**
 * Two generations of at most 16,384 words each: when the young one is full it becomes the old one
 * and the former old one is dropped. A word in use moves to the young one, so this is close to least
 * recently used without a list to maintain.
 */
export function createWordCache(): WordCache {
  let young = new Map<string, readonly TokenId[]>();
  let old = new Map<string, readonly TokenId[]>();
  return (word, compute) => {
    if (word.length > MAX_WORD) return compute(word);
    const known = young.get(word);
    if (known) return known;
    const ids = old.get(word) ?? compute(word);
    if (young.size >= MAX_ENTRIES) {
      old = young;
      young = new Map();
    }
    young.set(copyOf(word), ids);
    return ids;
  };
}

/** A slice of a request's text would keep the whole text alive for as long as it is remembered. */
function copyOf(word: string): string {
  return String.fromCharCode(...Array.from({ length: word.length }, (_, i) => word.charCodeAt(i)));
}

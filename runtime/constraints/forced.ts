/** Tokens that must follow. */
import type { TokenId } from "../model.ts";

/** What is asked of a constraint. */
interface Asked<S> {
  bitsOf(state: S): Uint32Array;
  advance(state: S, token: TokenId): S | undefined;
  accepting(state: S): boolean;
}

/** Tokens looked at in one go. */
const maxForced = 32;

/**
 * The tokens that follow whatever the model says: each the only one its mask allows, where the text
 * may not end. At most 32.
 */
export function forcedTokens<S>(state: S, { bitsOf, advance, accepting }: Asked<S>): TokenId[] {
  const tokens: TokenId[] = [];
  for (let at: S | undefined = state; at !== undefined && tokens.length < maxForced;) {
    const token: TokenId | undefined = accepting(at) ? undefined : onlyToken(bitsOf(at));
    if (token === undefined) break;
    tokens.push(token);
    at = advance(at, token);
  }
  return tokens;
}

/** The token of a mask that has exactly one. */
function onlyToken(bits: Uint32Array): TokenId | undefined {
  let found: TokenId | undefined;
  for (let word = 0; word < bits.length; word++) {
    const value = bits[word]!;
    if (value === 0) continue;
    if (found !== undefined || (value & (value - 1)) !== 0) return undefined;
    found = word * 32 + 31 - Math.clz32(value);
  }
  return found;
}

/**
 * Text to token ids: added tokens first, then normalisation, then added tokens that are matched in
 * normalised text, then everything else.
 */
import type { TokenId } from "../model.ts";
import { type AddedToken, type Allow, createAddedTokenSplitter } from "./added_tokens.ts";
import type { Normalize } from "./normalize.ts";

/** What {@link createEncoder} joins. */
export interface EncoderParts {
  /** Matched in the text as it is. */
  readonly added: readonly AddedToken[];
  /** Matched after normalisation; their contents are normalised here. */
  readonly addedNormalized: readonly AddedToken[];
  readonly normalize: Normalize;
  /** Encodes a normalised stretch without added tokens. `first`: it starts the whole text. */
  readonly stretch: (text: string, first: boolean, out: TokenId[]) => void;
}

/**
 * Encodes text. Control tokens are recognised where `guard`, which has the text's length, has the
 * same characters as the text; without it they are plain text everywhere.
 *
 * @throws {RangeError} if the text has lone surrogates, which no bytes stand for
 */
export type Encode = (text: string, guard?: string) => TokenId[];

/** An encoder from its parts. */
export function createEncoder(parts: EncoderParts): Encode {
  const splitRaw = createAddedTokenSplitter(parts.added);
  const splitNormalized = createAddedTokenSplitter(parts.addedNormalized.map((token) => ({
    ...token,
    content: parts.normalize(token.content),
  })));

  const encodeNormalized = (
    text: string,
    guard: string | undefined,
    first: boolean,
    out: TokenId[],
  ): void => {
    for (const segment of splitNormalized(text, allowWhereEqual(text, guard))) {
      if (segment.token) out.push(segment.token.id);
      else parts.stretch(segment.text, first && segment.start === 0, out);
    }
  };
  return (text, guard) => {
    if (!text.isWellFormed()) throw new RangeError("Cannot encode text with a lone surrogate");
    const out: TokenId[] = [];
    for (const { text: part, token, start } of splitRaw(text, allowWhereEqual(text, guard))) {
      if (token) out.push(token.id);
      else {
        const partGuard = guard?.slice(start, start + part.length);
        const normalized = parts.normalize(part);
        encodeNormalized(
          normalized,
          partGuard === part ? normalized : normalizedGuard(partGuard, normalized, parts.normalize),
          start === 0,
          out,
        );
      }
    }
    return out;
  };
}

function allowWhereEqual(text: string, guard: string | undefined): Allow | undefined {
  if (guard === undefined) return undefined;
  if (guard === text) return () => true;
  return (start, end) => text.slice(start, end) === guard.slice(start, end);
}

/** Where normalisation treats text and guard differently, no control token is recognised. */
function normalizedGuard(
  guard: string | undefined,
  normalized: string,
  normalize: Normalize,
): string | undefined {
  if (guard === undefined) return undefined;
  const changed = normalize(guard);
  return changed.length === normalized.length ? changed : undefined;
}

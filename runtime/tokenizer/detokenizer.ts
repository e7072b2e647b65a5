/** Tokens to text, one at a time. */
import type { TokenId, Vocab } from "../model.ts";
import { concatBytes, fromUtf8, settledLength } from "./bytes.ts";

/** How {@link createDetokenizer} reads its tokens. */
export interface DetokenizerOptions {
  /**
   * The tokens go on after others, as a completion does after its prompt: a space in front of them
   * is part of the text. Without it the tokens are a whole text and the result equals
   * `vocab.decode(tokens)`.
   * @default false
   */
  readonly continued?: boolean;
  /** Show control tokens by their pieces instead of leaving them out. @default false */
  readonly special?: boolean;
}

/** Turns a growing sequence of tokens into growing text. */
export interface Detokenizer {
  /**
   * The text that is settled by this token, possibly "". Bytes of a character that is not complete
   * yet are held back; bytes that can never be part of one become U+FFFD.
   *
   * @throws {RangeError} if the id is unknown; nothing is taken in then
   */
  push(token: TokenId): string;
  /** What was held back, as U+FFFD. Afterwards the detokenizer may be used for a new sequence. */
  flush(): string;
  /** An independent copy in the same state. */
  fork(): Detokenizer;
}

interface State {
  /** Bytes of a character that is not complete yet; three at most. */
  readonly held: Uint8Array;
  /** Whether no byte of the text has been seen. */
  readonly atStart: boolean;
}

/**
 * A detokenizer for a vocabulary. What `push` and `flush` return joins to what decoding the whole
 * sequence gives, for any sequence of tokens.
 */
export function createDetokenizer(vocab: Vocab, options: DetokenizerOptions = {}): Detokenizer {
  const initial: State = { held: new Uint8Array(), atStart: !options.continued };
  return detokenizerFrom(vocab, options.special ?? false, initial, initial);
}

/** Text of tokens that go on after others; see {@link DetokenizerOptions.continued}. */
export function decodeContinuation(vocab: Vocab, tokens: readonly TokenId[]): string {
  return fromUtf8(concatBytes(tokens.map((token) => vocab.bytes(token))));
}

function detokenizerFrom(
  vocab: Vocab,
  special: boolean,
  initial: State,
  start: State,
): Detokenizer {
  let state = start;
  return {
    push(token) {
      const added = bytesOf(vocab, token, special);
      if (added.length === 0) return "";
      const bytes = concatBytes([state.held, added]);
      const settled = settledLength(bytes);
      const text = fromUtf8(bytes.subarray(0, settled));
      const strip = state.atStart && text.startsWith(" ") && stripsSpace(vocab, token);
      state = { held: bytes.slice(settled), atStart: false };
      return strip ? text.slice(1) : text;
    },
    flush() {
      const text = fromUtf8(state.held);
      state = initial;
      return text;
    },
    fork: () => detokenizerFrom(vocab, special, initial, state),
  };
}

function bytesOf(vocab: Vocab, token: TokenId, special: boolean): Uint8Array {
  const bytes = vocab.bytes(token);
  return special && vocab.isSpecial(token) ? new TextEncoder().encode(vocab.piece(token)) : bytes;
}

/** Whether decoding takes a space off the front, as vocabularies with a space prefix do. */
function stripsSpace(vocab: Vocab, token: TokenId): boolean {
  return vocab.decode([token]).length < fromUtf8(vocab.bytes(token)).length;
}

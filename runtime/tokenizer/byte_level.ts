/**
 * Byte-level pieces: every byte is written as one printable character, so that any text is a
 * sequence of known characters. Source: GPT-2, `bytes_to_unicode` in encoder.py.
 */
import { FormatError } from "../errors.ts";
import type { TokenId } from "../model.ts";
import { createMerge } from "./bpe.ts";
import { utf8Length, writeUtf8 } from "./bytes.ts";
import type { PairLookup } from "./pair_table.ts";
import { createWordCache } from "./word_cache.ts";

/** Character of each byte: itself where printable in Latin-1, otherwise from U+0100 upwards. */
export const byteToCharacter: readonly string[] = alphabet();
const characterToByte: ReadonlyMap<string, number> = new Map(
  byteToCharacter.map((character, byte) => [character, byte]),
);

function alphabet(): string[] {
  let next = 0x100;
  return Array.from({ length: 256 }, (_, byte) => {
    const printable = (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte !== 0xad);
    return String.fromCharCode(printable ? byte : next++);
  });
}

/** Bytes of a piece; undefined if it has a character outside the alphabet. */
export function bytesOfPiece(piece: string): Uint8Array | undefined {
  const bytes = new Uint8Array(piece.length);
  for (let i = 0; i < piece.length; i++) {
    const byte = characterToByte.get(piece[i]!);
    if (byte === undefined) return undefined;
    bytes[i] = byte;
  }
  return bytes;
}

/** What {@link createByteLevelEncoder} needs. */
export interface ByteLevelOptions {
  /** Ids of ordinary pieces: no control tokens. */
  readonly ids: ReadonlyMap<string, TokenId>;
  readonly merges: PairLookup;
  /** Emit a whole word that is itself a piece without merging (Llama 3). */
  readonly ignoreMerges: boolean;
  /** File name for messages. */
  readonly source: string;
}

/**
 * Encodes one word (a pre-token) and appends its ids to `out`.
 *
 * @throws {FormatError} at creation, if a byte that text can contain has no piece
 */
export function createByteLevelEncoder(
  options: ByteLevelOptions,
): (word: string, out: TokenId[]) => void {
  const { ids, ignoreMerges } = options;
  const merge = createMerge(options.merges);
  const byteIds = Int32Array.from(byteToCharacter, (character, byte) => {
    const id = ids.get(character);
    if (id !== undefined) return id;
    if (byte === 0xc0 || byte === 0xc1 || byte >= 0xf5) return 0; // never part of UTF-8
    const hex = byte.toString(16).padStart(2, "0").toUpperCase();
    throw new FormatError(`the vocabulary has no piece for byte 0x${hex}`, options);
  });
  const cache = createWordCache();

  const encodeWord = (word: string): readonly TokenId[] => {
    const bytes = new Uint8Array(utf8Length(word));
    writeUtf8(word, bytes);
    if (ignoreMerges) {
      const whole = ids.get(Array.from(bytes, (byte) => byteToCharacter[byte]).join(""));
      if (whole !== undefined) return [whole];
    }
    return merge(Int32Array.from(bytes, (byte) => byteIds[byte]!));
  };
  return (word, out) => {
    for (const id of cache(word, encodeWord)) out.push(id);
  };
}

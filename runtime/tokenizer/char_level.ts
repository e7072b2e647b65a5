/**
 * Character-level byte-pair encoding, the family of SentencePiece's BPE: symbols are characters, a
 * character without a piece becomes its UTF-8 bytes, spaces are written as U+2581.
 *
 * Sources: SentencePiece `bpe_model.cc`, llama.cpp `llm_tokenizer_spm`, the `BPE` model of the
 * Hugging Face tokenizers library with `byte_fallback`.
 */
import { FormatError } from "../errors.ts";
import type { TokenId } from "../model.ts";
import { createMerge } from "./bpe.ts";
import { toUtf8 } from "./bytes.ts";
import type { PairLookup } from "./pair_table.ts";

/** How SentencePiece writes a space. */
export const spaceMark = "\u2581";

/** Piece of a byte, e.g. "<0x0A>". */
export function bytePiece(byte: number): string {
  return `<0x${byte.toString(16).toUpperCase().padStart(2, "0")}>`;
}

const bytePieces: ReadonlyMap<string, number> = new Map(
  Array.from({ length: 256 }, (_, byte) => [bytePiece(byte), byte]),
);

/** Byte of a byte piece. */
export function byteOfPiece(piece: string): number | undefined {
  return bytePieces.get(piece);
}

/** What {@link createCharLevelEncoder} needs. */
export interface CharLevelOptions {
  /** Id of each single-character piece; may hold symbols from `firstVirtual` upwards, see there. */
  readonly characters: ReadonlyMap<string, TokenId>;
  /** Ids of the 256 byte pieces; undefined without byte fallback. */
  readonly byteIds: Int32Array | undefined;
  /** Stands for characters without a piece where there are no byte pieces. */
  readonly unknown: TokenId | undefined;
  /** One unknown token for several unknown characters in a row. */
  readonly fuseUnknown: boolean;
  readonly merges: PairLookup;
  /**
   * Symbols from here on are characters that only occur inside longer pieces: `virtual` has them in
   * order. Where no merge uses one up, it becomes bytes like any other unknown character.
   */
  readonly firstVirtual: TokenId;
  readonly virtual: readonly string[];
  /** File name for messages. */
  readonly source: string;
}

/**
 * Encodes a stretch of text and appends its ids to `out`.
 *
 * @throws {FormatError} at creation, if unknown characters could not be written at all
 */
export function createCharLevelEncoder(
  options: CharLevelOptions,
): (text: string, out: TokenId[]) => void {
  const { characters, byteIds, unknown, fuseUnknown, firstVirtual, virtual } = options;
  if (!byteIds && unknown === undefined) {
    throw new FormatError("the vocabulary has neither byte pieces nor an unknown token", options);
  }
  const merge = createMerge(options.merges);

  const pushUnknown = (character: string, out: TokenId[]): void => {
    if (byteIds) { for (const byte of toUtf8(character)) out.push(byteIds[byte]!); }
    else if (unknown !== undefined && !(fuseUnknown && out.at(-1) === unknown)) out.push(unknown);
  };
  return (text, out) => {
    const symbols: number[] = [];
    for (const character of text) {
      const id = characters.get(character);
      if (id === undefined) pushUnknown(character, symbols);
      else symbols.push(id);
    }
    for (const symbol of merge(symbols)) {
      if (symbol < firstVirtual) out.push(symbol);
      else pushUnknown(virtual[symbol - firstVirtual]!, out);
    }
  };
}

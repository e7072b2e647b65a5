/**
 * SentencePiece BPE by scores: any two neighbours whose joined text is a piece may merge, highest
 * score first, leftmost first among equals.
 *
 * Source: SentencePiece `bpe_model.cc`; llama.cpp `llm_tokenizer_spm_session`; llama2.c `encode`.
 * The pairs are worked out beforehand, one for each place where a piece can be cut in two.
 */
import { FormatError } from "../errors.ts";
import type { TokenId } from "../model.ts";
import { createCharLevelEncoder } from "./char_level.ts";
import { createPairTable, type PairTable } from "./pair_table.ts";

/** Cutting is quadratic in the length of a piece; 256,000 pieces of 16 characters take 33 million. */
const MAX_CUT_CHARACTERS = 2 ** 28;

/** What {@link createSpmEncoder} needs. */
export interface SpmOptions {
  /** Ids of ordinary pieces: no control, byte or unused ones. */
  readonly ids: ReadonlyMap<string, TokenId>;
  /** Score of each id. */
  readonly scores: ArrayLike<number>;
  /** Ids of the 256 byte pieces, if there are. */
  readonly byteIds: Int32Array | undefined;
  /** Stands for unknown characters where there are no byte pieces. */
  readonly unknown: TokenId | undefined;
  /** File name for messages. */
  readonly source: string;
}

/**
 * Encodes a stretch of text, spaces already written as the pieces write them, and appends its ids
 * to `out`.
 *
 * @throws {FormatError} at creation, if a score is not finite or pieces are too long
 */
export function createSpmEncoder(options: SpmOptions): (text: string, out: TokenId[]) => void {
  const { ids, scores, source } = options;
  const firstVirtual = scores.length;
  const characters = new Map<string, number>();
  const virtual: string[] = [];
  let cutCharacters = 0;
  for (const piece of ids.keys()) {
    cutCharacters += piece.length ** 2;
    if (cutCharacters > MAX_CUT_CHARACTERS) {
      throw new FormatError("the pieces are too long to be worked out", { source });
    }
    for (const character of piece) {
      if (characters.has(character)) continue;
      const id = ids.get(character);
      characters.set(character, id ?? firstVirtual + virtual.length);
      if (id === undefined) virtual.push(character);
    }
  }
  return createCharLevelEncoder({
    characters,
    byteIds: options.byteIds,
    unknown: options.unknown,
    fuseUnknown: true,
    merges: pairsByScore(ids, scores, characters, source),
    firstVirtual,
    virtual,
    source,
  });
}

function pairsByScore(
  ids: ReadonlyMap<string, TokenId>,
  scores: ArrayLike<number>,
  characters: ReadonlyMap<string, number>,
  source: string,
): PairTable {
  const ranks = ranksByScore(ids, scores, source);
  const symbolOf = (text: string) => ids.get(text) ?? characters.get(text);
  const pairs: [left: number, right: number, merged: number][] = [];
  for (const [piece, id] of ids) {
    for (let cut = 1; cut < piece.length; cut++) {
      const left = symbolOf(piece.slice(0, cut));
      const right = left === undefined ? undefined : symbolOf(piece.slice(cut));
      if (left !== undefined && right !== undefined) pairs.push([left, right, id]);
    }
  }
  const table = createPairTable(pairs.length);
  for (const [left, right, id] of pairs) table.add(left, right, ranks.get(scores[id]!)!, id);
  return table;
}

/** Place of each score when all are sorted from high to low; equal scores share one. */
function ranksByScore(
  ids: ReadonlyMap<string, TokenId>,
  scores: ArrayLike<number>,
  source: string,
): ReadonlyMap<number, number> {
  const distinct = new Set<number>();
  for (const [piece, id] of ids) {
    const score = scores[id]!;
    if (!Number.isFinite(score)) {
      throw new FormatError(`piece ${JSON.stringify(piece)} has the score ${score}`, { source });
    }
    distinct.add(score);
  }
  return new Map([...distinct].sort((a, b) => b - a).map((score, rank) => [score, rank]));
}

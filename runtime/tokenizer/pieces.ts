/** Checks every vocabulary has to pass, whatever file it comes from. */
import { FormatError } from "../errors.ts";
import { quote } from "../formats/json.ts";
import type { TokenId } from "../model.ts";
import type { AddedToken } from "./added_tokens.ts";
import { toUtf8, utf8Length } from "./bytes.ts";
import { createPairTable, MAX_RANKS, type PairTable } from "./pair_table.ts";

const MAX_PIECE_BYTES = 65_536;
/** Added tokens are searched for at every character of the text. */
const MAX_ADDED_LENGTH = 512;
/** Spaces in a merge line that are tried as the one between its pieces. */
const MAX_SPACES = 64;
const MAX_PIECES = 2 ** 21;

/**
 * Pieces by id.
 *
 * @throws {FormatError} unless the ids are exactly 0 to n - 1 and no piece is over 64 KiB
 */
export function piecesById(
  ids: Iterable<readonly [piece: string, id: number]>,
  count: number,
  source: string,
): string[] {
  const fail = (message: string) => new FormatError(message, { source });
  if (count > MAX_PIECES) throw fail(`${count} pieces, at most ${MAX_PIECES} are read`);
  const pieces = new Array<string | undefined>(count).fill(undefined);
  for (const [piece, id] of ids) {
    requirePiece(piece, source);
    if (!Number.isInteger(id) || id < 0 || id >= count) {
      throw fail(`piece ${quote(piece)} has id ${id}, but the ids of ${count} pieces have no gaps`);
    }
    if (pieces[id] !== undefined) {
      throw fail(`pieces ${quote(pieces[id])} and ${quote(piece)} have the same id ${id}`);
    }
    pieces[id] = piece;
  }
  return pieces.map((piece, id) => {
    if (piece === undefined) throw fail(`no piece has id ${id}`);
    return piece;
  });
}

/** @throws {FormatError} if the piece has a lone surrogate or over 65,536 bytes */
export function requirePiece(piece: string, source: string): void {
  if (piece.length > MAX_PIECE_BYTES || utf8Length(piece) > MAX_PIECE_BYTES) {
    throw new FormatError(`piece ${quote(piece)} has more than ${MAX_PIECE_BYTES} bytes`, {
      source,
    });
  }
  if (!piece.isWellFormed()) {
    throw new FormatError(`piece ${quote(piece)} has a lone surrogate`, { source });
  }
}

/** @throws {FormatError} if an added token is empty or over 512 characters */
export function requireAdded(token: AddedToken, source: string): void {
  if (token.content === "" || token.content.length > MAX_ADDED_LENGTH) {
    const length = token.content.length;
    throw new FormatError(
      `added token ${token.id} has ${length} characters, expected 1 to ${MAX_ADDED_LENGTH}`,
      { source },
    );
  }
}

/**
 * Merges by pair of ids. A merge that makes a control token is left out: plain text must never turn
 * into one.
 *
 * @throws {FormatError} if a merge refers to an unknown piece
 */
export function mergesByPair(
  merges: readonly (readonly [left: string, right: string])[],
  ids: ReadonlyMap<string, TokenId>,
  isControl: (token: TokenId) => boolean,
  source: string,
): PairTable {
  if (merges.length > MAX_RANKS) {
    throw new FormatError(`${merges.length} merges, at most ${MAX_RANKS} are read`, { source });
  }
  const table = createPairTable(merges.length);
  merges.forEach(([left, right], rank) => {
    requireShort(left.length + right.length, rank, source);
    const [leftId, rightId, merged] = [left, right, left + right].map((piece) => {
      const id = ids.get(piece);
      if (id === undefined) {
        throw new FormatError(`merge ${rank} needs the unknown piece ${quote(piece)}`, { source });
      }
      return id;
    });
    if (!isControl(merged!)) table.add(leftId!, rightId!, rank, merged!);
  });
  return table;
}

function requireShort(length: number, rank: number, source: string): void {
  if (length <= MAX_PIECE_BYTES) return;
  throw new FormatError(`merge ${rank} is over ${MAX_PIECE_BYTES} characters long`, { source });
}

/**
 * "left right", as merge lists are written. Pieces with spaces in them are told apart by the
 * vocabulary.
 *
 * @throws {FormatError} if it is something else
 */
export function splitMerge(
  line: string,
  rank: number,
  ids: ReadonlyMap<string, TokenId>,
  source: string,
): readonly [string, string] {
  requireShort(line.length - 1, rank, source);
  const only = line.indexOf(" ");
  if (only > 0 && only === line.lastIndexOf(" ") && only < line.length - 1) {
    return [line.slice(0, only), line.slice(only + 1)];
  }
  let tries = MAX_SPACES;
  for (let at = line.indexOf(" ", 1); at > 0 && tries-- > 0; at = line.indexOf(" ", at + 1)) {
    const [left, right] = [line.slice(0, at), line.slice(at + 1)];
    if (ids.has(left) && ids.has(right) && ids.has(left + right)) return [left, right];
  }
  throw new FormatError(`merge ${rank} is ${quote(line)}, expected two pieces`, { source });
}

/** Tokens that end a turn or a text, for files that do not list them. */
export const knownStopPieces: ReadonlySet<string> = new Set([
  "</s>",
  "<eos>",
  "<|endoftext|>",
  "<|end_of_text|>",
  "<|im_end|>",
  "<|eot_id|>",
  "<|eom_id|>",
  "<|end|>",
  "<end_of_turn>",
  "<｜end▁of▁sentence｜>",
  "<|EOT|>",
]);

/** Whether a token that is not marked as special still looks like one, e.g. "<tool_call>". */
export function looksLikeControl(content: string): boolean {
  return /^<.*>$|^\[[A-Z0-9_]+\]$/su.test(content);
}

/** Bytes per id; special tokens have none. */
export function contentsOf(
  pieces: readonly string[],
  special: ReadonlySet<TokenId>,
  content: (piece: string, id: TokenId) => Uint8Array | undefined,
): Uint8Array[] {
  const empty = new Uint8Array();
  return pieces.map((piece, id) => special.has(id) ? empty : content(piece, id) ?? toUtf8(piece));
}

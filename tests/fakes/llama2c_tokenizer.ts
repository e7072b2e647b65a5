/**
 * Reader for the tokenizer file of llama2.c: int32 longest piece, then per id a float32 score, an
 * int32 byte length and the piece. Source: karpathy/llama2.c, tokenizer.py and run.c.
 *
 * Encoding prepends a space, splits into characters (an unknown one becomes its UTF-8 bytes, ids
 * byte + 3), then repeatedly merges the adjacent pair whose merged piece scores highest.
 */
import { createHash } from "node:crypto";
import type { TokenId, Vocab } from "../../runtime/model.ts";

const UNK = 0;
const BOS = 1;
const EOS = 2;
const FIRST_BYTE = 3;

interface Piece {
  readonly text: string;
  readonly score: number;
}

/** The tokenizer of a llama2.c model as a vocabulary. Stops at EOS and, as llama2.c does, at BOS. */
export function loadLlama2cTokenizer(bytes: Uint8Array): Vocab {
  const pieces = readPieces(bytes);
  const ids = new Map(pieces.map((piece, id) => [piece.text, id] as const));
  const contents = pieces.map((piece, id) => contentOf(piece.text, id));
  const check = (token: TokenId): Uint8Array => {
    const content = contents[token];
    if (!content) throw new RangeError(`Token ${token} is outside the vocabulary`);
    return content;
  };
  return {
    size: pieces.length,
    fingerprint: fingerprint(pieces),
    bos: BOS,
    stopTokens: new Set([BOS, EOS]),
    isSpecial: (token) => token < FIRST_BYTE,
    bytes: check,
    piece: (token) => (check(token), pieces[token]!.text.trim() || pieces[token]!.text),
    encode(text, options = {}) {
      const start = options.bos ? [BOS] : [];
      return [...start, ...merge(text === "" ? [] : symbols(` ${text}`, ids), pieces, ids)];
    },
    decode(tokens) {
      const text = new TextDecoder("utf-8", { ignoreBOM: true }).decode(concat(tokens.map(check)));
      return text.startsWith(" ") ? text.slice(1) : text;
    },
    chat: undefined,
  };
}

function readPieces(bytes: Uint8Array): Piece[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
  const pieces: Piece[] = [];
  for (let at = 4; at < bytes.length;) {
    const score = view.getFloat32(at, true);
    const length = view.getInt32(at + 4, true);
    pieces.push({ score, text: decoder.decode(bytes.subarray(at + 8, at + 8 + length)) });
    at += 8 + length;
  }
  return pieces;
}

function contentOf(text: string, id: TokenId): Uint8Array {
  if (id < FIRST_BYTE) return new Uint8Array();
  if (id < FIRST_BYTE + 256) return Uint8Array.of(id - FIRST_BYTE);
  return new TextEncoder().encode(text);
}

function symbols(text: string, ids: ReadonlyMap<string, TokenId>): TokenId[] {
  return [...text].flatMap((character) => {
    const id = ids.get(character);
    if (id !== undefined && id > UNK) return [id];
    return [...new TextEncoder().encode(character)].map((byte) => byte + FIRST_BYTE);
  });
}

function merge(tokens: TokenId[], pieces: readonly Piece[], ids: ReadonlyMap<string, TokenId>) {
  while (true) {
    let best: { at: number; id: TokenId; score: number } | undefined;
    for (let at = 0; at + 1 < tokens.length; at++) {
      const id = ids.get(pieces[tokens[at]!]!.text + pieces[tokens[at + 1]!]!.text);
      if (id === undefined) continue;
      const score = pieces[id]!.score;
      if (!best || score > best.score) best = { at, id, score };
    }
    if (!best) return tokens;
    tokens.splice(best.at, 2, best.id);
  }
}

function concat(parts: readonly Uint8Array[]): Uint8Array {
  const out = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}

function fingerprint(pieces: readonly Piece[]): string {
  const hash = createHash("sha256");
  pieces.forEach((piece, id) => hash.update(`${id < FIRST_BYTE ? 1 : 0}${piece.text}\0`));
  return hash.digest("hex");
}

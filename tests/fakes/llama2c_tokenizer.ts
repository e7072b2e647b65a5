/**
 * Reader for the tokenizer file of llama2.c: int32 longest piece, then per id a float32 score, an
 * int32 byte length and the piece, spaces written as spaces. Source: karpathy/llama2.c, tokenizer.py
 * and run.c.
 *
 * Encoding prepends a space, splits into characters (an unknown one becomes its UTF-8 bytes, ids
 * byte + 3), then repeatedly merges the adjacent pair whose merged piece scores highest.
 */
import type { Vocab } from "../../runtime/model.ts";
import { toUtf8 } from "../../runtime/tokenizer/bytes.ts";
import { createEncoder } from "../../runtime/tokenizer/encoder.ts";
import { createSpmEncoder } from "../../runtime/tokenizer/spm.ts";
import { createVocab } from "../../runtime/tokenizer/vocab.ts";

const BOS = 1;
const EOS = 2;
const FIRST_BYTE = 3;
const FIRST_PIECE = FIRST_BYTE + 256;
const specialNames = ["<unk>", "<s>", "</s>"];

/** The tokenizer of a llama2.c model as a vocabulary. Stops at EOS and, as llama2.c does, at BOS. */
export function loadLlama2cTokenizer(bytes: Uint8Array): Vocab {
  const { texts, scores } = readPieces(bytes);
  const encode = createSpmEncoder({
    ids: new Map(texts.slice(FIRST_PIECE).map((text, i) => [text, FIRST_PIECE + i] as const)),
    scores,
    byteIds: Int32Array.from({ length: 256 }, (_, byte) => FIRST_BYTE + byte),
    unknown: undefined,
    source: "llama2.c tokenizer",
  });
  return createVocab({
    pieces: texts.map((text, id) => specialNames[id] ?? text),
    contents: texts.map((text, id) => {
      if (id < FIRST_BYTE) return new Uint8Array();
      return id < FIRST_PIECE ? Uint8Array.of(id - FIRST_BYTE) : toUtf8(text);
    }),
    special: new Set(specialNames.keys()),
    controls: [],
    bos: BOS,
    addsBos: true,
    stopTokens: new Set([BOS, EOS]),
    encode: createEncoder({
      added: [],
      addedNormalized: [],
      normalize: (text) => text,
      stretch: (text, _first, out) => encode(` ${text}`, out),
    }),
    spacePrefix: true,
    chat: undefined,
  });
}

function readPieces(bytes: Uint8Array) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
  const texts: string[] = [];
  const scores: number[] = [];
  for (let at = 4; at < bytes.length;) {
    const length = view.getInt32(at + 4, true);
    scores.push(view.getFloat32(at, true));
    texts.push(decoder.decode(bytes.subarray(at + 8, at + 8 + length)));
    at += 8 + length;
  }
  return { texts, scores };
}

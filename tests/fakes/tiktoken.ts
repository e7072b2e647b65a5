/**
 * Reader for tiktoken vocabulary files as Llama 3 ships them: a line per token, its bytes in base64
 * and its rank. There is no merge list; two neighbours merge if their joined bytes are a token.
 * Source: openai/tiktoken, `load_tiktoken_bpe` and `_byte_pair_merge`.
 */
import type { TokenId, Vocab } from "../../runtime/model.ts";
import { byteToCharacter, createByteLevelEncoder } from "../../runtime/tokenizer/byte_level.ts";
import { createEncoder } from "../../runtime/tokenizer/encoder.ts";
import { createPairTable } from "../../runtime/tokenizer/pair_table.ts";
import { splitByGgufName } from "../../runtime/tokenizer/pretokenize.ts";
import { createVocab } from "../../runtime/tokenizer/vocab.ts";

/** A vocabulary without special tokens. @default split "llama3" */
export function loadTiktoken(file: Uint8Array, split = "llama3"): Vocab {
  const contents = new TextDecoder().decode(file).trimEnd().split("\n").map((line, rank) => {
    const [base64, id] = line.split(" ");
    if (Number(id) !== rank) throw new Error(`rank ${id} in line ${rank}`);
    return Uint8Array.from(atob(base64!), (character) => character.charCodeAt(0));
  });
  const pieces = contents.map((bytes) =>
    Array.from(bytes, (byte) => byteToCharacter[byte]).join("")
  );
  const ids = new Map(pieces.map((piece, id) => [piece, id] as const));
  const encodeWord = createByteLevelEncoder({
    ids,
    merges: allPairs(ids),
    ignoreMerges: true,
    source: "tiktoken file",
  });
  const words = splitByGgufName.get(split)!;
  return createVocab({
    pieces,
    contents,
    special: new Set(),
    controls: [],
    bos: undefined,
    addsBos: false,
    stopTokens: new Set(),
    encode: createEncoder({
      added: [],
      addedNormalized: [],
      normalize: (text) => text,
      stretch: (text, _first, out) => words(text).forEach((word) => encodeWord(word, out)),
    }),
    spacePrefix: false,
    chat: undefined,
  });
}

function allPairs(ids: ReadonlyMap<string, TokenId>) {
  const total = [...ids.keys()].reduce((sum, piece) => sum + piece.length - 1, 0);
  const table = createPairTable(total);
  for (const [piece, id] of ids) {
    for (let cut = 1; cut < piece.length; cut++) {
      const left = ids.get(piece.slice(0, cut));
      const right = ids.get(piece.slice(cut));
      if (left !== undefined && right !== undefined) table.add(left, right, id, id);
    }
  }
  return table;
}

/** A byte-level tokenizer.json of 261 ids, as an object to be changed by tests. */
import { byteToCharacter } from "../../../runtime/tokenizer/byte_level.ts";

export interface TinyTokenizer {
  normalizer: unknown;
  // deno-lint-ignore camelcase
  pre_tokenizer: unknown;
  // deno-lint-ignore camelcase
  post_processor: unknown;
  // deno-lint-ignore camelcase
  added_tokens: Record<string, unknown>[];
  decoder: unknown;
  model: Record<string, unknown> & { vocab: Record<string, number>; merges: unknown[] };
}

/** Bytes are 0 to 255, then "he", "ll", "hell", and the control tokens <|start|> and <|end|>. */
export function tinyTokenizer(): TinyTokenizer {
  const pieces = [...byteToCharacter, "he", "ll", "hell"];
  const flags = { "single_word": false, lstrip: false, rstrip: false, normalized: false };
  return {
    normalizer: null,
    "pre_tokenizer": { type: "ByteLevel", "add_prefix_space": false, "use_regex": true },
    "post_processor": null,
    "added_tokens": [
      { id: 259, content: "<|start|>", special: true, ...flags },
      { id: 260, content: "<|end|>", special: true, ...flags },
    ],
    decoder: { type: "ByteLevel" },
    model: {
      type: "BPE",
      vocab: Object.fromEntries(pieces.map((piece, id) => [piece, id])),
      merges: ["h e", "l l", "he ll"],
    },
  };
}

/** As {@link tinyTokenizer}, changed and written. */
export function tinyText(change: (tokenizer: TinyTokenizer) => void = () => {}): string {
  const tokenizer = tinyTokenizer();
  change(tokenizer);
  return JSON.stringify(tokenizer);
}

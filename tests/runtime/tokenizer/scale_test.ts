/**
 * Work grows in proportion to the text. Wall-clock limits are flaky, so each test compares the time
 * for two sizes; quadratic growth would give 16 times for 4 times the text.
 */
import { assert } from "@std/assert";
import type { Vocab } from "../../../runtime/model.ts";
import { byteToCharacter } from "../../../runtime/tokenizer/byte_level.ts";
import { bytePiece } from "../../../runtime/tokenizer/char_level.ts";
import { readGgufVocab } from "../../../runtime/tokenizer/gguf_vocab.ts";

const powers = [2, 4, 8, 16, 32].map((n) => "a".repeat(n));

/** Runs of "a" merge pairwise, so one letter repeated makes the longest chains of merges. */
function byteLevel(): Vocab {
  const metadata: Record<string, unknown> = {
    "tokenizer.ggml.model": "gpt2",
    "tokenizer.ggml.pre": "llama-bpe",
    "tokenizer.ggml.tokens": [...byteToCharacter, ...powers],
    "tokenizer.ggml.merges": ["a", ...powers.slice(0, -1)].map((piece) => `${piece} ${piece}`),
  };
  const get = (key: string) => metadata[key] as never;
  return readGgufVocab({ string: get, number: get, boolean: get, strings: get, numbers: get });
}

function sentencePiece(): Vocab {
  const bytes = Array.from({ length: 256 }, (_, byte) => bytePiece(byte));
  const pieces = ["\u2581", "a", "\u2581\u2581", "\u2581a", ...powers];
  const metadata: Record<string, unknown> = {
    "tokenizer.ggml.model": "llama",
    "tokenizer.ggml.tokens": [...bytes, ...pieces],
    "tokenizer.ggml.scores": [...bytes.map(() => 0), ...pieces.map((_, i) => -i)],
    "tokenizer.ggml.token_type": [...bytes.map(() => 6), ...pieces.map(() => 1)],
  };
  const get = (key: string) => metadata[key] as never;
  return readGgufVocab({ string: get, number: get, boolean: get, strings: get, numbers: get });
}

function random(length: number): string {
  let state = 1;
  return Array.from({ length }, () => {
    state = Math.imul(state, 1664525) + 1013904223;
    return String.fromCharCode(32 + ((state >>> 16) % 95));
  }).join("");
}

/** Texts of a given length in UTF-16 units. */
const kinds: Readonly<Record<string, (length: number) => string>> = {
  "one letter": (length) => "a".repeat(length),
  "spaces": (length) => " ".repeat(length),
  "newlines and spaces": (length) => "\n ".repeat(length / 2),
  "emoji": (length) => "🦙".repeat(length / 2),
  "quotes": (length) => "'".repeat(length),
  "a token's start": (length) => "<|".repeat(length / 2),
  "random": random,
};

const size = 2 ** 16;

for (const [name, load] of Object.entries({ byteLevel, sentencePiece })) {
  const vocab = load();
  for (const [kind, make] of Object.entries(kinds)) {
    Deno.test(`encode() takes time in proportion to the text: ${name}, ${kind}`, () => {
      const [small, large] = [make(size), make(4 * size)];
      vocab.encode(small); // warm up
      const ratio = Math.min(...[0, 1, 2].map(() => time(vocab, large) / time(vocab, small)));
      assert(ratio < 12, `4 times the text took ${ratio.toFixed(1)} times as long`);
    });
  }
}

function time(vocab: Vocab, text: string): number {
  const start = performance.now();
  const ids = vocab.encode(text, { special: true });
  const taken = performance.now() - start;
  assert(ids.length >= text.length / 64);
  return taken;
}

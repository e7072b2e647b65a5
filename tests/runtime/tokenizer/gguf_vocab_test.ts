import { assert, assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { FormatError } from "../../../runtime/errors.ts";
import { byteToCharacter } from "../../../runtime/tokenizer/byte_level.ts";
import { bytePiece } from "../../../runtime/tokenizer/char_level.ts";
import { tokenType } from "../../../runtime/tokenizer/gguf_pieces.ts";
import { type MetadataLookup, readGgufVocab } from "../../../runtime/tokenizer/gguf_vocab.ts";
import { sharedData, testWithSharedData } from "../../_shared_data.ts";
import { openGguf } from "../../../runtime/formats/gguf.ts";
import { loadVocabulary } from "./_vocabularies.ts";

type Metadata = Record<string, unknown>;

/** Looks up without checking types: the GGUF reader's own tests do that. */
function lookUp(metadata: Metadata): MetadataLookup {
  const get = (key: string) => metadata[key] as never;
  return { string: get, number: get, boolean: get, strings: get, numbers: get };
}

const bytes = Array.from({ length: 256 }, (_, byte) => byte);
const { normal, control, byte, userDefined, unused, unknown } = tokenType;

/** Unknown, BOS, EOS, 256 bytes, then pieces; "c" is in "bc" but no piece itself. */
function spmMetadata(change: Metadata = {}): Metadata {
  const pieces = ["▁", "a", "b", "▁a", "▁ab", "bc", "<", "s", ">", "<s", "bb"];
  return {
    "tokenizer.ggml.model": "llama",
    "tokenizer.ggml.tokens": ["<unk>", "<s>", "</s>", ...bytes.map(bytePiece), ...pieces],
    "tokenizer.ggml.scores": [
      ...new Array(259).fill(0),
      ...[-9, -9, -9, -1, -2, -3, -9, -9, -9, -4, -3],
    ],
    "tokenizer.ggml.token_type": [
      ...[unknown, control, control],
      ...bytes.map(() => byte),
      ...pieces.map(() => normal),
    ],
    "tokenizer.ggml.bos_token_id": 1,
    "tokenizer.ggml.eos_token_id": 2,
    ...change,
  };
}

function bpeMetadata(change: Metadata = {}): Metadata {
  return {
    "tokenizer.ggml.model": "gpt2",
    "tokenizer.ggml.pre": "gpt-2",
    "tokenizer.ggml.tokens": [...byteToCharacter, "ab", "<|im_end|>", "[PAD258]", "<tool>"],
    "tokenizer.ggml.token_type": [...bytes.map(() => normal), normal, control, unused, userDefined],
    "tokenizer.ggml.merges": ["a b"],
    "tokenizer.ggml.eos_token_id": 257,
    ...change,
  };
}

const spm = (change?: Metadata) => readGgufVocab(lookUp(spmMetadata(change)));
const bpe = (change?: Metadata) => readGgufVocab(lookUp(bpeMetadata(change)));

Deno.test("readGgufVocab() merges SentencePiece pieces by score, leftmost first", () => {
  const vocab = spm();
  const pieces = (text: string) => vocab.encode(text).map((id) => vocab.piece(id));
  assertEquals(pieces("ab"), ["▁ab"]);
  assertEquals(pieces("bbb"), ["▁", "bb", "b"]);
  // "bc" and "bb" have the same score: the left one wins.
  assertEquals(pieces("bbc"), ["▁", "bb", "<0x63>"]);
  assertEquals(pieces("bcb"), ["▁", "bc", "b"]);
  assertEquals(pieces("abc"), ["▁ab", "<0x63>"]);
  assertEquals(pieces("é"), ["▁", "<0xC3>", "<0xA9>"]);
  assertEquals(pieces(""), []);
  assertEquals(vocab.encode("ab", { bos: true }), [1, 263]);
});

Deno.test("readGgufVocab() never merges plain text into a control or byte piece", () => {
  const vocab = spm();
  assert(!vocab.encode("<s>").includes(1));
  assertEquals(vocab.decode(vocab.encode("<s>")), "<s>");
  assertEquals(vocab.encode("<s>", { special: true }), [1]);
  assert(!vocab.encode("<0x41>").includes(3 + 0x41));
});

Deno.test("readGgufVocab() takes the space prefix off again, and leaves it out if told", () => {
  const vocab = spm();
  assertEquals(vocab.decode(vocab.encode(" ab")), " ab");
  assertEquals(vocab.decode([2, ...vocab.encode("ab")]), "ab");
  const without = spm({ "tokenizer.ggml.add_space_prefix": false });
  assertEquals(without.encode("ab").map((id) => without.piece(id)), ["a", "b"]);
  assertEquals(without.decode(without.encode(" ab")), " ab");
});

Deno.test("readGgufVocab() reads byte-level pieces, stop tokens and unused ids", () => {
  const vocab = bpe();
  assertEquals(vocab.encode("ab c"), [256, 0x20, 0x63]);
  assertEquals([...vocab.stopTokens], [257]);
  assertEquals([257, 258, 259].map((id) => vocab.isSpecial(id)), [true, true, false]);
  assertEquals(vocab.decode([258, 259]), "<tool>");
  assert(!vocab.encode("[PAD258]", { special: true }).includes(258));
  assertEquals(vocab.encode("<tool>", { special: true }), [259]);
  assert(!vocab.encode("<tool>").includes(259));
});

const refused: Readonly<Record<string, () => unknown>> = {
  'model "bert"': () => bpe({ "tokenizer.ggml.model": "bert" }),
  'pre-tokenizer "new-model"': () => bpe({ "tokenizer.ggml.pre": "new-model" }),
  "merges is missing": () => bpe({ "tokenizer.ggml.merges": undefined }),
  "expected two pieces": () => bpe({ "tokenizer.ggml.merges": ["ab"] }),
  'unknown piece "ba"': () => bpe({ "tokenizer.ggml.merges": ["b a"] }),
  "missing or empty": () =>
    bpe({ "tokenizer.ggml.tokens": [], "tokenizer.ggml.eos_token_id": undefined }),
  "1 token types for 260": () => bpe({ "tokenizer.ggml.token_type": [1] }),
  "unknown token type 9": () => bpe({ "tokenizer.ggml.token_type": new Array(260).fill(9) }),
  "eos_token_id is 260": () => bpe({ "tokenizer.ggml.eos_token_id": 260 }),
  "eos_token_id is -1": () => bpe({ "tokenizer.ggml.eos_token_id": -1 }),
  'are both "ab"': () =>
    bpe({
      "tokenizer.ggml.tokens": [...byteToCharacter, "ab", "ab"],
      "tokenizer.ggml.token_type": undefined,
      "tokenizer.ggml.eos_token_id": undefined,
    }),
  "no piece for byte 0x21": () =>
    bpe({ "tokenizer.ggml.token_type": [...bytes.map((id) => id === 0x21 ? 5 : 1), 1, 3, 5, 4] }),
  "1 scores for 270": () => spm({ "tokenizer.ggml.scores": [0] }),
  "score NaN": () => spm({ "tokenizer.ggml.scores": new Array(270).fill(NaN) }),
  "too long to be worked out": () =>
    spm({
      "tokenizer.ggml.tokens": Array.from(
        { length: 270 },
        (_, id) => id < 259 ? `<${id}>` : "a".repeat(5000) + id,
      ),
    }),
  "neither byte pieces nor an unknown token": () =>
    spm({ "tokenizer.ggml.token_type": Array.from({ length: 270 }, (_, id) => id < 3 ? 3 : 1) }),
};

for (const [message, run] of Object.entries(refused)) {
  Deno.test(`readGgufVocab() refuses with: ${message}`, () => {
    assertThrows(run, FormatError, message);
  });
}

Deno.test("readGgufVocab() gives a FormatError or a vocabulary for any damaged list", () => {
  const damaged = fc.record({
    spm: fc.boolean(),
    list: fc.constantFrom("tokens", "token_type", "scores", "merges"),
    at: fc.nat(269),
    value: fc.constantFrom(
      0,
      2,
      5,
      7,
      -1,
      NaN,
      1e300,
      "",
      " ",
      "a",
      "▁",
      "<0x41>",
      "\ud800",
      "a b",
    ),
  });
  let whole = 0;
  fc.assert(
    fc.property(damaged, ({ spm, list, at, value }) => {
      const metadata = spm ? spmMetadata() : bpeMetadata();
      const items = metadata[`tokenizer.ggml.${list}`] as unknown[] | undefined;
      const isText = list === "tokens" || list === "merges";
      if (!items || isText !== (typeof value === "string")) return; // a wrong type is found earlier
      const changed = items.with(at % items.length, value);
      try {
        const vocab = readGgufVocab(lookUp({ ...metadata, [`tokenizer.ggml.${list}`]: changed }));
        assertEquals(vocab.decode(vocab.encode("<s>ab<|im_end|> é")), "<s>ab<|im_end|> é");
        whole++;
      } catch (error) {
        assert(error instanceof FormatError, String(error));
      }
    }),
    { numRuns: 1500, seed: 14 },
  );
  assert(whole > 0);
});

testWithSharedData("readGgufVocab() means the same by its ids as tokenizer.json", () => {
  const [gguf, json] = ["gpt-2 gguf", "gpt2 tokenizer.json"].map((name) =>
    loadVocabulary(name).fingerprint
  );
  assertEquals(gguf, json);
});

testWithSharedData("readGgufVocab() reads what the GGUF reader gives", () => {
  const path = sharedData("tokenizers/llamacpp-vocab/ggml-vocab-phi-3.gguf");
  const vocab = readGgufVocab(openGguf(path).metadata);
  const text = vocab.chat!.render([{ role: "user", content: "Hi" }]);
  assertEquals(text, "<s><|user|>\nHi<|end|>\n<|assistant|>\n");
  const pieces = vocab.encode(text, { special: true }).map((id) => vocab.piece(id));
  assertEquals(pieces, ["<s>", "<|user|>", "▁Hi", "<|end|>", "<|assistant|>"]);
});

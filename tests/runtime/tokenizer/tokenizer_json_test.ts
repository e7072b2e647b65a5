import { assert, assertEquals, assertNotEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { FormatError } from "../../../runtime/errors.ts";
import { readTokenizerJson } from "../../../runtime/tokenizer/tokenizer_json.ts";
import { tinyText, type TinyTokenizer } from "./_tiny_tokenizer.ts";

const read = (change?: (tokenizer: TinyTokenizer) => void) =>
  readTokenizerJson({ tokenizer: tinyText(change) });

Deno.test("readTokenizerJson() gives pieces, bytes and special tokens by id", () => {
  const vocab = readTokenizerJson({
    tokenizer: tinyText(),
    config: `{"eos_token": {"content": "<|end|>"}, "bos_token": "<|start|>"}`,
  });
  assertEquals(vocab.size, 261);
  assertEquals(vocab.piece(0x20), "Ġ");
  assertEquals(vocab.bytes(0x20), Uint8Array.of(0x20));
  assertEquals(vocab.bytes(258), new TextEncoder().encode("hell"));
  assertEquals(vocab.bytes(260), new Uint8Array());
  assertEquals([256, 259, 260].map((id) => vocab.isSpecial(id)), [false, true, true]);
  assertEquals([vocab.bos, [...vocab.stopTokens]], [259, [260]]);
  for (const id of [-1, 261, 0.5, NaN]) {
    assertThrows(() => vocab.bytes(id), RangeError);
    assertThrows(() => vocab.piece(id), RangeError);
    assertThrows(() => vocab.decode([id]), RangeError);
  }
});

Deno.test("bytes() gives a copy that may be changed", () => {
  const vocab = read();
  vocab.bytes(258).fill(0);
  assertEquals(vocab.decode([258]), "hell");
});

Deno.test("encode() puts BOS first only if asked and if the tokenizer would", () => {
  const text = "hello";
  const ids = [258, 0x6f];
  const bosTemplate = {
    type: "TemplateProcessing",
    single: [{ SpecialToken: { id: "<|start|>" } }, { Sequence: { id: "A" } }],
  };
  const adding = read((t) => t.post_processor = bosTemplate);
  assertEquals(adding.bos, 259);
  assertEquals(adding.encode(text), ids);
  assertEquals(adding.encode(text, { bos: true }), [259, ...ids]);
  const config = (add: string) => `{"bos_token": "<|start|>"${add}}`;
  const withConfig = (add: string) =>
    readTokenizerJson({ tokenizer: tinyText(), config: config(add) }).encode(text, { bos: true });
  assertEquals(withConfig(""), ids);
  assertEquals(withConfig(`, "add_bos_token": true`), [259, ...ids]);
});

Deno.test("encode() recognises control tokens only if asked", () => {
  const vocab = read();
  const [plain, special] = [false, true].map((on) => vocab.encode("<|end|>hell", { special: on }));
  assertEquals(special, [260, 258]);
  assertEquals(plain, [...new TextEncoder().encode("<|end|>"), 258]);
  assertEquals(vocab.decode([260, 258]), "hell");
  assertEquals(vocab.decode([260, 258], { special: true }), "<|end|>hell");
});

Deno.test("encode() refuses lone surrogates", () => {
  assertThrows(() => read().encode("a\ud800b"), RangeError, "lone surrogate");
});

Deno.test("a merge cannot make a control token", () => {
  const vocab = read((t) => {
    t.added_tokens.push({ id: 258, content: "hell", special: true, normalized: false });
  });
  assertEquals(vocab.encode("hell"), [256, 257]);
  assertEquals(vocab.encode("hell", { special: true }), [258]);
});

Deno.test("decode() and encode() are inverse on any text", () => {
  const vocab = read();
  fc.assert(
    fc.property(fc.string({ unit: "binary" }), (text) => {
      assertEquals(vocab.decode(vocab.encode(text)), text);
    }),
    { seed: 8 },
  );
});

Deno.test("stop tokens come from generation_config.json, else from known names", () => {
  const stops = (generation?: string, config?: string) => [
    ...readTokenizerJson({
      tokenizer: tinyText((t) => t.added_tokens[1]!.content = "<|im_end|>"),
      generation,
      config,
    }).stopTokens,
  ];
  assertEquals(stops(), [260]);
  assertEquals(stops(`{"eos_token_id": [259, 7]}`), [259, 7]);
  assertEquals(stops(`{"eos_token_id": 259}`, `{"eos_token": "<|im_end|>"}`), [259, 260]);
  assertEquals(stops(undefined, `{"eos_token": "<|start|>"}`), [260, 259]);
  assertThrows(() => stops(`{"eos_token_id": 261}`), FormatError, "generation_config.json");
});

Deno.test("the fingerprint tells vocabularies apart by what their ids mean", () => {
  const reference = read().fingerprint;
  assert(/^[0-9a-f]{64}$/.test(reference));
  assertEquals(read((t) => t.model.merges.reverse()).fingerprint, reference);
  assertNotEquals(read((t) => t.added_tokens[0]!.content = "<|begin|>").fingerprint, reference);
  assertNotEquals(read((t) => t.added_tokens[0]!.special = false).fingerprint, reference);
  const swapped = read((t) => {
    t.model.vocab["!"] = 0x22;
    t.model.vocab['"'] = 0x21;
  });
  assertNotEquals(swapped.fingerprint, reference);
  const padded = readTokenizerJson({ tokenizer: tinyText() }, { size: 300 });
  assertEquals([padded.size, padded.isSpecial(299)], [300, true]);
  assertNotEquals(padded.fingerprint, reference);
  assertThrows(() => readTokenizerJson({ tokenizer: tinyText() }, { size: 200 }), FormatError);
});

const refused: Readonly<Record<string, (tokenizer: TinyTokenizer) => void>> = {
  'type "Unigram"': (t) => t.model.type = "Unigram",
  '"vocab" is missing': (t) => delete (t.model as { vocab?: unknown }).vocab,
  '"end_of_word_suffix"': (t) => t.model.end_of_word_suffix = "</w>",
  '"dropout"': (t) => t.model.dropout = 0.1,
  "no gaps": (t) => t.model.vocab.he = 9999,
  "same id": (t) => t.model.vocab.he = 257,
  "no piece for byte 0x21": (t) => {
    delete t.model.vocab["!"];
    t.model.vocab["!!"] = 0x21;
  },
  'unknown piece "zz"': (t) => t.model.merges.push("z z"),
  "expected two pieces": (t) => t.model.merges.push("h"),
  "not a pair": (t) => t.model.merges.push(["h", 1]),
  "more than 65536 bytes": (t) => t.model.vocab["a".repeat(70_000)] = 261,
  "merge 3 is over": (t) => t.model.merges.push(`${"a".repeat(40_000)} ${"a".repeat(40_000)}`),
  "lone surrogate": (t) => t.model.vocab["\ud800"] = 261,
  "has 600 characters": (t) => t.added_tokens.push({ id: 261, content: "<".repeat(600) }),
  "has 0 characters": (t) => t.added_tokens.push({ id: 261, content: "" }),
  '"hell" has id 261, but 258': (t) => t.added_tokens.push({ id: 261, content: "hell" }),
  'normalizer "Lowercase"': (t) => t.normalizer = { type: "Lowercase" },
  'pre-tokenizer "Whitespace"': (t) => t.pre_tokenizer = { type: "Whitespace" },
  '"(a+)+$" is not in the known set': (t) =>
    t.pre_tokenizer = { type: "Split", pattern: { Regex: "(a+)+$" }, behavior: "Isolated" },
  'behavior "Removed"': (t) =>
    t.pre_tokenizer = { type: "Split", pattern: { Regex: "\\p{N}" }, behavior: "Removed" },
  'post-processor "BertProcessing"': (t) => t.post_processor = { type: "BertProcessing" },
  'decoder "WordPiece"': (t) => t.decoder = { type: "WordPiece" },
  "normalizer: expected an object": (t) => t.normalizer = 3,
  "added_tokens[2]: expected an object": (t) => t.added_tokens.push([] as never),
};

for (const [message, change] of Object.entries(refused)) {
  Deno.test(`readTokenizerJson() refuses with: ${message}`, () => {
    assertThrows(() => read(change), FormatError, message);
  });
}

Deno.test("readTokenizerJson() names the broken file", () => {
  const config = (text: string) => readTokenizerJson({ tokenizer: tinyText(), config: text });
  assertThrows(() => config("{"), FormatError, "tokenizer_config.json");
  assertThrows(() => config(`{"bos_token": "<|none|>"}`), FormatError, `"<|none|>"`);
  assertThrows(() => config(`{"chat_template": "{% if %}"}`), FormatError, "chat template");
});

Deno.test("readTokenizerJson() gives a FormatError or a vocabulary for any damaged file", () => {
  const text = tinyText();
  const attempt = (damaged: string) => {
    try {
      const vocab = readTokenizerJson({ tokenizer: damaged });
      vocab.encode("hello <|end|> world");
      return 1;
    } catch (error) {
      assert(error instanceof FormatError, `${error} for ${damaged.slice(0, 100)}`);
      return 0;
    }
  };
  for (let end = 0; end < text.length; end += 7) attempt(text.slice(0, end));
  let whole = 0;
  fc.assert(
    fc.property(fc.nat(text.length - 1), fc.nat(6), (at, bit) => {
      const flipped = String.fromCharCode(text.charCodeAt(at) ^ (1 << bit));
      whole += attempt(text.slice(0, at) + flipped + text.slice(at + 1));
    }),
    { numRuns: 2000, seed: 9 },
  );
  assert(whole > 0 && whole < 2000, `${whole} of 2000 damaged files were read`);
});

Deno.test("readTokenizerJson() takes hostile keys as pieces like any other", () => {
  const text = tinyText().replace('"hell":258', '"__proto__":258').replace('"he ll"', '"h e"');
  const vocab = readTokenizerJson({ tokenizer: text });
  assertEquals(vocab.piece(258), "__proto__");
  assertEquals(({} as Record<string, unknown>).polluted, undefined);
});

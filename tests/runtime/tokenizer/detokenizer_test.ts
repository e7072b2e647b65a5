import { assert, assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import type { Vocab } from "../../../runtime/model.ts";
import { toUtf8 } from "../../../runtime/tokenizer/bytes.ts";
import { createDetokenizer, decodeContinuation } from "../../../runtime/tokenizer/detokenizer.ts";
import { createVocab } from "../../../runtime/tokenizer/vocab.ts";

/** Tokens 0 to 255 are bytes, then some pieces, then a special token. */
function byteVocab(spacePrefix: boolean): Vocab & { readonly specialToken: number } {
  const texts = [" a", "  b", "é", "🦙", " ", "c"];
  const contents = [
    ...Array.from({ length: 256 }, (_, byte) => Uint8Array.of(byte)),
    ...texts.map(toUtf8),
    Uint8Array.of(0x20, 0xf0, 0x9f),
    new Uint8Array(),
  ];
  const specialToken = contents.length - 1;
  const vocab = createVocab({
    pieces: contents.map((_, id) => id === specialToken ? "<|end|>" : `piece${id}`),
    contents,
    special: new Set([specialToken]),
    controls: ["<|end|>"],
    bos: undefined,
    addsBos: false,
    stopTokens: new Set([specialToken]),
    encode: () => [],
    spacePrefix,
    chat: undefined,
  });
  return { ...vocab, fingerprint: "", specialToken };
}

const anyTokens = (vocab: Vocab) =>
  fc.array(
    fc.oneof(
      fc.nat(vocab.size - 1),
      fc.constantFrom(0x20, 0x80, 0x9f, 0xa0, 0xbf, 0xc2, 0xe0, 0xed, 0xe2, 0xf0, 0xf4, 0xff),
    ),
  );

for (const spacePrefix of [false, true]) {
  const vocab = byteVocab(spacePrefix);

  Deno.test(`joined pieces equal decode() of all, space prefix ${spacePrefix}`, () => {
    fc.assert(
      fc.property(anyTokens(vocab), fc.boolean(), (tokens, special) => {
        const detokenizer = createDetokenizer(vocab, { special });
        const joined = tokens.map((token) => detokenizer.push(token)).join("") +
          detokenizer.flush();
        assertEquals(joined, vocab.decode(tokens, { special }));
      }),
      { numRuns: 3000, seed: 3 },
    );
  });

  Deno.test(`continued pieces keep the space in front, space prefix ${spacePrefix}`, () => {
    fc.assert(
      fc.property(anyTokens(vocab), (tokens) => {
        const detokenizer = createDetokenizer(vocab, { continued: true });
        const joined = tokens.map((token) => detokenizer.push(token)).join("") +
          detokenizer.flush();
        assertEquals(joined, decodeContinuation(vocab, tokens));
        // A text in front settles what a prefix is, so decoding both together says the same.
        assertEquals(`x${joined}`, vocab.decode([0x78, ...tokens]));
      }),
      { numRuns: 1000, seed: 4 },
    );
  });
}

Deno.test("push() holds an incomplete character back and never gives half of one", () => {
  const vocab = byteVocab(false);
  const detokenizer = createDetokenizer(vocab);
  const llama = toUtf8("🦙");
  assertEquals([...llama].map((byte) => detokenizer.push(byte)), ["", "", "", "🦙"]);
  assertEquals([0xe2, 0x82, 0x41].map((byte) => detokenizer.push(byte)), ["", "", "\ufffdA"]);
  assertEquals([0xed, 0xa0].map((byte) => detokenizer.push(byte)), ["", "\ufffd\ufffd"]);
  assertEquals(detokenizer.push(0xf0), "");
  assertEquals(detokenizer.flush(), "\ufffd");
  assertEquals(detokenizer.flush(), "");
});

Deno.test("push() gives whole characters for any text cut into bytes", () => {
  const vocab = byteVocab(false);
  fc.assert(
    fc.property(fc.string({ unit: "binary" }), (text) => {
      const detokenizer = createDetokenizer(vocab);
      const parts = [...toUtf8(text)].map((byte) => detokenizer.push(byte));
      assertEquals(parts.join(""), text);
      assert(parts.every((part) => part.isWellFormed()));
      assertEquals(detokenizer.flush(), "");
    }),
    { seed: 5 },
  );
});

Deno.test("fork() copies what is held back", () => {
  const detokenizer = createDetokenizer(byteVocab(true));
  detokenizer.push(0xc3);
  const branch = detokenizer.fork();
  assertEquals(detokenizer.push(0xa9), "é");
  assertEquals(branch.push(0x41), "\ufffdA");
  assertEquals(detokenizer.push(0x20), " ");
});

Deno.test("push() throws for an unknown token and keeps its state", () => {
  const vocab = byteVocab(false);
  const detokenizer = createDetokenizer(vocab);
  detokenizer.push(0xc3);
  assertThrows(() => detokenizer.push(vocab.size), RangeError);
  assertEquals(detokenizer.push(0xa9), "é");
});

Deno.test("push() shows special tokens only when asked", () => {
  const vocab = byteVocab(false);
  assertEquals(createDetokenizer(vocab).push(vocab.specialToken), "");
  assertEquals(createDetokenizer(vocab, { special: true }).push(vocab.specialToken), "<|end|>");
});

import { assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import {
  type AddedToken,
  type Allow,
  createAddedTokenSplitter,
} from "../../../runtime/tokenizer/added_tokens.ts";
import { createEncoder } from "../../../runtime/tokenizer/encoder.ts";
import { nfc, prepend, replace, sequence } from "../../../runtime/tokenizer/normalize.ts";

const flags = { control: true, lstrip: false, rstrip: false, singleWord: false };
const token = (id: number, content: string, more: Partial<AddedToken> = {}): AddedToken => ({
  id,
  content,
  ...flags,
  ...more,
});
const everywhere: Allow = () => true;

function split(tokens: readonly AddedToken[], text: string, allow: Allow | null = everywhere) {
  return createAddedTokenSplitter(tokens)(text, allow ?? undefined).map((segment) =>
    segment.token ? segment.token.id : segment.text
  );
}

Deno.test("the longest token at the leftmost place wins", () => {
  const tokens = [token(1, "<a"), token(2, "<a>"), token(3, "a>b"), token(4, "<")];
  assertEquals(split(tokens, "x<a>b<ab<"), ["x", 2, "b", 1, "b", 4]);
});

Deno.test("control tokens are found only where allowed, a shorter one in their place", () => {
  const tokens = [token(1, "<a>"), token(2, "<a", { control: false })];
  assertEquals(split(tokens, "<a><a>", null), [2, ">", 2, ">"]);
  assertEquals(
    createAddedTokenSplitter(tokens)("<a>", undefined).map((segment) => segment.token?.id),
    [2, undefined],
  );
  assertEquals(split(tokens, "<a><a>", (start) => start > 0), [2, ">", 1]);
});

Deno.test("lstrip and rstrip take white space, but not what a token has taken", () => {
  const tokens = [
    token(1, "<l>", { lstrip: true }),
    token(2, "<r>", { rstrip: true }),
    token(3, "<n>"),
  ];
  assertEquals(split(tokens, "a \u3000\n<l> b"), ["a", 1, " b"]);
  assertEquals(split(tokens, "a <r> \t\u0085b"), ["a ", 2, "b"]);
  assertEquals(split(tokens, "<r>  <l>  <n> "), [2, 1, "  ", 3, " "]);
});

Deno.test("single-word tokens touch no word character", () => {
  const tokens = [token(1, "cat", { singleWord: true })];
  assertEquals(split(tokens, "cat concat cat's cats (cat)"), [
    1,
    " concat ",
    1,
    "'s cats (",
    1,
    ")",
  ]);
});

Deno.test("segments join to the text, whatever it is", () => {
  const tokens = [
    token(1, "<|a|>", { lstrip: true }),
    token(2, "<|", { rstrip: true }),
    token(3, "  "),
  ];
  const part = fc.constantFrom("<|a|>", "<|", "a|>", " ", "  ", "x", "\n");
  fc.assert(
    fc.property(fc.array(part), fc.boolean(), (parts, special) => {
      const text = parts.join("");
      const segments = createAddedTokenSplitter(tokens)(text, special ? everywhere : undefined);
      assertEquals(segments.map((segment) => segment.text).join(""), text);
      segments.reduce((at, segment) => {
        assertEquals(segment.start, at);
        return at + segment.text.length;
      }, 0);
    }),
    { seed: 13 },
  );
});

Deno.test("a guard allows control tokens only where it equals the text, also after normalising", () => {
  const encode = createEncoder({
    added: [token(1, "<a>")],
    addedNormalized: [token(2, "<s>")],
    normalize: sequence([prepend("_"), replace(" ", "_")]),
    stretch: (text, first, out) => out.push(first ? -1 : -2, ...Array.from(text, () => 0)),
  });
  assertEquals(encode("<s>x<a> <a>", "<s>x<a> <a>"), [2, -2, 0, 1, -2, 0, 0, 1]);
  // "_<s>x<a>_" in one stretch: neither token at its front is allowed.
  assertEquals(encode("<s>x<a> <a>", "?s>x?a> <a>"), [-1, ...new Array(9).fill(0), 1]);
  assertEquals(encode("<a>"), [-1, 0, 0, 0, 0]);
  assertEquals(encode("", ""), []);
});

Deno.test("nfc() composes, and refuses long runs of combining marks", () => {
  assertEquals(nfc("e\u0301 A\u030a \u1112\u1161\u11ab plain"), "é Å 한 plain");
  assertEquals(nfc(`a${"\u0301".repeat(256)}`).length, 256);
  assertThrows(() => nfc(`a${"\u0315\u0300".repeat(200)}`), RangeError, "combining marks");
});

Deno.test("sequence() refuses to make a text much longer", () => {
  const grow = sequence([replace("a", "aaaaaaaa"), replace("a", "aaaaaaaa")]);
  assertEquals(grow("a").length, 64);
  assertThrows(() => grow("a".repeat(100)), RangeError, "four times");
});

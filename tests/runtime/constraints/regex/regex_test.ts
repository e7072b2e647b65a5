import { assert, assertEquals, assertThrows } from "@std/assert";
import {
  ConstraintTooComplexError,
  regexConstraint,
} from "../../../../runtime/constraints/regex/mod.ts";
import { FormatError } from "../../../../runtime/mod.ts";
import { testConstraint } from "../../../conformance/constraint.ts";
import { fakeVocab, letterVocab } from "../../../fakes/mod.ts";

const bytes = fakeVocab();

function lawsOf(pattern: string, accepted: readonly string[], refused: readonly string[]) {
  testConstraint(`regexConstraint ${pattern}`, () => ({
    vocab: bytes,
    constraint: regexConstraint(pattern, bytes),
    accepts: (text) => new RegExp(`^(?:${pattern})$`, "u").test(text),
    accepted,
    refused,
    walkTokens: 12,
  }));
}

lawsOf("(yes|no|nö|€)+", ["yes", "no€nö", "€"], ["", "ye", "yesn", "maybe"]);
lawsOf("[^a-y]{1,3}", ["z", "€😀é", "\n"], ["", "a", "zzzz"]);
lawsOf("-?\\d{1,3}(\\.\\d+)?", ["-1", "123.4567", "0"], ["1234", "-", "1.", ".5"]);
lawsOf("^\\w{1,2}@\\w{1,2}\\.(com|org)$", ["a@b.com", "x_@y1.org"], ["a@b", "@b.com", "a@b.comx"]);
lawsOf("(a*)*b?", ["", "aaaa", "aab"], ["ba", "bb"]);

testConstraint("regexConstraint over long pieces", () => {
  const vocab = fakeVocab({ pieces: ["y", "e", "s", "yes", "ter", "day", "sterday", "n", "no"] });
  return {
    vocab,
    constraint: regexConstraint("yes(terday)?|no", vocab),
    accepts: (text) => ["yes", "yesterday", "no"].includes(text),
    accepted: ["yes", "yesterday", "no"],
    refused: ["y", "yester", "nono"],
  };
});

testConstraint("regexConstraint over pieces that mean the same, and missing bytes", () => {
  const vocab = fakeVocab({ pieces: ["a", "b", "a", "ab", "ab", "é", "\u00c3x"] });
  const pattern = "(a|b|é|c)+";
  return {
    vocab,
    constraint: regexConstraint(pattern, vocab),
    accepts: (text) => new RegExp(`^${pattern}$`, "u").test(text),
    accepted: ["a", "ab", "aéb"],
    refused: [""],
    walkTokens: 8,
  };
});

Deno.test("regexConstraint() of the empty pattern allows the end and no token", () => {
  const constraint = regexConstraint("", bytes);
  assert(constraint.accepting(constraint.start()));
  const bits = new Uint32Array(Math.ceil(bytes.size / 32));
  constraint.mask(constraint.start(), bits);
  assertEquals(bits, new Uint32Array(bits.length));
});

Deno.test("regexConstraint() never enters a text it cannot finish", () => {
  // "ab" has no token "b" after "a", only the whole piece.
  const vocab = fakeVocab({ pieces: ["a", "ab", "c"] });
  const constraint = regexConstraint("ab|cd", vocab);
  assertEquals(constraint.advance(constraint.start(), 0), undefined);
  assertEquals(constraint.advance(constraint.start(), 2), undefined);
  const bits = new Uint32Array(1);
  constraint.mask(constraint.start(), bits);
  assertEquals(bits[0], 0b10);
});

Deno.test("regexConstraint() allows no control or stop token as text", () => {
  const vocab = fakeVocab();
  const constraint = regexConstraint("[^]*", vocab);
  for (const token of vocab.stopTokens) {
    assertEquals(constraint.advance(constraint.start(), token), undefined);
  }
  assertThrows(() => constraint.advance(constraint.start(), vocab.size), RangeError);

  const [a, b] = [0x61, 0x62];
  const stopping = regexConstraint("[ab]", { ...fakeVocab(), stopTokens: new Set([a]) });
  assertEquals(stopping.advance(stopping.start(), a), undefined);
  const bits = new Uint32Array(Math.ceil(vocab.size / 32));
  stopping.mask(stopping.start(), bits);
  assertEquals([...bits], [0, 0, 0, 1 << (b - 96), 0, 0, 0, 0, 0]);
});

Deno.test("regexConstraint() refuses texts the vocabulary cannot write and patterns without texts", () => {
  assertThrows(() => regexConstraint("Z", letterVocab()), RangeError, "cannot write");
  assertThrows(() => regexConstraint("a[]", letterVocab()), FormatError, "no text matches");
  assertThrows(() => regexConstraint("a", letterVocab(), { maxDepth: -1 }), RangeError, "maxDepth");
});

const malformed: readonly (readonly [string, number, string])[] = [
  ["a)", 1, "closes no group"],
  ["(a", 0, "not closed"],
  ["ab[c", 2, "not closed"],
  ["*a", 0, "nothing to repeat"],
  ["a**", 2, "nothing to repeat"],
  ["^*", 1, "nothing to repeat"],
  ["a{2,1}", 1, "wrong way round"],
  ["[b-a]", 1, "wrong way round"],
  ["[\\w-a]", 1, "two characters"],
  ["a{", 1, "must be escaped"],
  ["x]", 1, "must be escaped"],
  ["a\\", 1, "nothing follows"],
  ["(?=a)", 0, "look-ahead"],
  ["(?!a)", 0, "look-ahead"],
  ["(?<=a)", 0, "look-behind"],
  ["(?<!a)", 0, "look-behind"],
  ["(?i:a)", 0, "unknown kind of group"],
  ["(a)\\1", 3, "references"],
  ["(?<x>a)\\k<x>", 7, "references"],
  ["a\\b", 1, "word boundary"],
  ["(a$)b", 2, "anchor"],
  ["a^b", 1, "anchor"],
  ["\\p{Script=Greek}", 0, "Script=Greek"],
  ["\\p{}", 0, "not supported"],
  ["\\pL", 0, "name in braces"],
  ["\\q", 0, "\\q is not supported"],
  ["\\ud800", 0, "surrogate"],
  ["a\ud800", 1, "surrogate"],
  ["[\udfff]", 1, "surrogate"],
  ["\\u{110000}", 0, "above"],
  ["\\x6", 0, "hexadecimal"],
];

Deno.test("regexConstraint() names what is malformed or not supported, and where", () => {
  for (const [pattern, offset, message] of malformed) {
    const error = assertThrows(() => regexConstraint(pattern, bytes), FormatError, message);
    assertEquals(error.offset, offset, pattern);
  }
});

const hostile: readonly (readonly [string, string])[] = [
  ["4 KiB of groups", "(".repeat(2048) + ")".repeat(2048)],
  ["4 KiB of open groups", "(".repeat(4096)],
  ["a long pattern", "a".repeat(4097)],
  ["a pattern long in bytes", "€".repeat(1400)],
  ["a huge bound", "a{1001}"],
  ["a bound beyond numbers", `a{${"9".repeat(400)},}`],
  ["nested bounds", "((a{1000}){1000}){1000}"],
  ["nested bounds of nothing", "(((){1000}){1000}){1000}"],
  ["nested optional bounds", "((a?){0,1000}){0,1000}"],
  ["large classes many times", "(\\p{L}{1000}){1000}"],
];

Deno.test("regexConstraint() refuses hostile patterns with a typed error", () => {
  const refused = hostile.filter(([, pattern]) => {
    try {
      regexConstraint(pattern, bytes);
      return false;
    } catch (error) {
      return error instanceof ConstraintTooComplexError;
    }
  });
  assertEquals(refused.map(([name]) => name), hostile.map(([name]) => name));
});

const heavy: readonly (readonly [string, string, string])[] = [
  ["nested stars", "((((((a*)*)*)*)*)*)*b", `${"a".repeat(500)}b`],
  ["stars the host's engine backtracks on", "(a|a|a)*(a|aa)*b", `${"a".repeat(500)}b`],
  ["a huge alternation", Array.from({ length: 800 }, (_, i) => `w${i}`).join("|"), "w799"],
  ["optional bounds", "a{0,1000}a{0,1000}", "a".repeat(2000)],
  ["nested groups", `${"(".repeat(100)}a${")*".repeat(100)}`, "aaa"],
  ["a counted dot", ".{1000}", "€".repeat(1000)],
];

Deno.test("regexConstraint() compiles heavy patterns within their budget and accepts their texts", () => {
  for (const [name, pattern, text] of heavy) {
    const constraint = regexConstraint(pattern, bytes);
    assert(constraint.compileSteps <= 2_000_000, name);
    let state = constraint.start();
    for (const token of bytes.encode(text)) {
      const next = constraint.advance(state, token);
      assert(next, name);
      state = next;
    }
    assert(constraint.accepting(state), name);
  }
});

Deno.test("regexConstraint() refuses a pattern whose first mask takes too many steps", () => {
  assertThrows(
    () => regexConstraint(".*", bytes, { maxMaskSteps: 10 }),
    ConstraintTooComplexError,
    "more than 10 steps",
  );
});

Deno.test("mask() throws rather than exceed its budget, and leaves the bits alone", () => {
  // One place at the start, about fifty after as many letters.
  const constraint = regexConstraint(".*a.{50}", bytes, { maxMaskSteps: 5000, cachedMaskBytes: 1 });
  let state = constraint.start();
  const bits = new Uint32Array(Math.ceil(bytes.size / 32));
  assertThrows(
    () => {
      for (let i = 0; i < 100; i++) {
        constraint.mask(state, bits.fill(0));
        bits.fill(0);
        state = constraint.advance(state, "a".charCodeAt(0))!;
      }
    },
    ConstraintTooComplexError,
    "more than 5000 steps",
  );
  assertEquals(bits, new Uint32Array(bits.length));
});

Deno.test("mask() refuses an array too short for the vocabulary", () => {
  const constraint = regexConstraint("a", bytes);
  assertThrows(() => constraint.mask(constraint.start(), new Uint32Array(2)), RangeError, "words");
});

Deno.test("held states stay valid when the caches are emptied", () => {
  const pattern = "(a|b)*a(a|b){4}";
  const small = regexConstraint(pattern, bytes, { cachedStates: 2, cachedMaskBytes: 1 });
  const large = regexConstraint(pattern, bytes);
  const text = bytes.encode("abbabaabbbabaabaaababbbab");
  const held = [small.start()];
  for (const token of text) held.push(small.advance(held.at(-1)!, token)!);
  let other = large.start();
  const [first, second] = [new Uint32Array(9), new Uint32Array(9)];
  held.forEach((state, i) => {
    assertEquals(small.accepting(state), large.accepting(other));
    small.mask(state, first.fill(0));
    large.mask(other, second.fill(0));
    assertEquals(first, second);
    if (i < text.length) other = large.advance(other, text[i]!)!;
  });
});

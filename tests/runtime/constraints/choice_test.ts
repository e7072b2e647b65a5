import { assertEquals, assertThrows } from "@std/assert";
import { choiceConstraint } from "../../../runtime/constraints/choice.ts";
import { testConstraint } from "../../conformance/constraint.ts";
import { fakeVocab, letterVocab, predicateConstraint } from "../../fakes/mod.ts";

const texts = ["yes", "yesterday", "no", "nö", "€"];

testConstraint("choiceConstraint over bytes", () => {
  const vocab = fakeVocab();
  return {
    vocab,
    constraint: choiceConstraint(vocab, texts),
    accepts: (text) => texts.includes(text),
    accepted: texts,
    refused: ["", "ye", "yest", "yesno", "maybe", "yesterdayx"],
  };
});

testConstraint("choiceConstraint over long pieces", () => {
  const vocab = fakeVocab({ pieces: ["y", "e", "s", "yes", "ter", "day", "sterday", "n", "no"] });
  const words = ["yes", "yesterday", "no"];
  return {
    vocab,
    constraint: choiceConstraint(vocab, words),
    accepts: (text) => words.includes(text),
    accepted: words,
    refused: ["y", "yester", "nos"],
  };
});

testConstraint("predicateConstraint, the tests' own", () => {
  const vocab = letterVocab();
  return {
    vocab,
    constraint: predicateConstraint({
      vocab,
      viable: (text) => /^a{0,5}$/.test(text),
      accepting: (text) => text.length % 2 === 1,
    }),
    accepts: (text) => /^(a|aaa|aaaaa)$/.test(text),
    accepted: ["a", "aaa"],
    refused: ["", "aa", "b", "aaaaaaa"],
  };
});

Deno.test("choiceConstraint() never enters a text it cannot finish", () => {
  // "ab" has no token "b" after "a", only the whole piece.
  const vocab = fakeVocab({ pieces: ["a", "ab", "c"] });
  const constraint = choiceConstraint(vocab, ["ab"]);
  assertEquals(constraint.advance(constraint.start(), 0), undefined);
  const bits = new Uint32Array(1);
  constraint.mask!(constraint.start(), bits);
  assertEquals(bits[0], 0b10);
});

Deno.test("choiceConstraint() refuses an empty list and texts the vocabulary cannot write", () => {
  assertThrows(() => choiceConstraint(letterVocab(), []), RangeError, "at least one");
  assertThrows(() => choiceConstraint(letterVocab(), ["a", "Z"]), RangeError);
});

import { assert, assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import {
  chain,
  knownSplit,
  type Split,
  splitByGgufName,
  splitDigits,
  splitGpt2,
} from "../../../runtime/tokenizer/pretokenize.ts";

const llama3 = splitByGgufName.get("llama-bpe")!;

Deno.test("splits cut where their sources cut", () => {
  const cases: readonly (readonly [Split, string, readonly string[]])[] = [
    [splitGpt2, "I'll say  hi 12", ["I", "'ll", " say", " ", " hi", " 12"]],
    [splitGpt2, "a \n b", ["a", " \n", " b"]],
    [llama3, "I'LL 12345\n\n  x", ["I", "'LL", " ", "123", "45", "\n\n", " ", " x"]],
    [llama3, "a\u0085\u0085b\ufeffc", ["a", "\u0085", "\u0085b", "\ufeffc"]],
    [splitByGgufName.get("qwen2")!, "x12", ["x", "1", "2"]],
    [splitByGgufName.get("smollm")!, "x12 y", ["x", "1", "2", " y"]],
    [chain([splitDigits, splitGpt2]), "a1", ["a", "1"]],
  ];
  for (const [split, text, words] of cases) assertEquals(split(text), words, text);
});

Deno.test("every split keeps the text, whatever it is", () => {
  for (const [name, split] of splitByGgufName) {
    fc.assert(
      fc.property(fc.string({ unit: "binary", maxLength: 60 }), (text) => {
        const words = split(text);
        assertEquals(words.join(""), text, name);
        assert(text === "" || words.every((word) => word !== ""));
      }),
      { seed: 12 },
    );
  }
});

Deno.test("knownSplit() knows expressions as files write them and no others", () => {
  assertEquals(knownSplit("[\r\n]")?.covers, false);
  assertEquals(knownSplit("[\\r\\n]")?.covers, false);
  assertEquals(knownSplit("\\p{N}{1,3}")?.split("a1234"), ["a", "123", "4"]);
  for (const other of ["", "a", "(a+)+", "\\p{N}{1,2}", "constructor"]) {
    assertEquals(knownSplit(other), undefined);
  }
});

Deno.test("a word too long for the expression engine gives a RangeError", () => {
  assertThrows(() => splitGpt2("我".repeat(7_000_000)), RangeError, "millions of characters");
});

import { assert, assertEquals, assertThrows } from "@std/assert";
import { grammarConstraint } from "../../../../runtime/constraints/grammar/mod.ts";
import { ConstraintTooComplexError } from "../../../../runtime/constraints/regex/mod.ts";
import { FormatError } from "../../../../runtime/errors.ts";
import { sharedData, testWithSharedData } from "../../../_shared_data.ts";
import { testConstraint } from "../../../conformance/constraint.ts";
import { fakeVocab } from "../../../fakes/mod.ts";

const withBytes = (...pieces: string[]) =>
  fakeVocab({
    pieces: [...Array.from({ length: 256 }, (_, byte) => Uint8Array.of(byte)), ...pieces],
  });

/** Whether brackets are balanced and hold words: the second opinion on the first grammar. */
function isList(text: string): boolean {
  const inner = /^\[(.*)\]$/su.exec(text)?.[1];
  if (inner === undefined) return false;
  if (inner === "") return true;
  const parts: string[] = [];
  let depth = 0, part = "";
  for (const character of inner) {
    depth += character === "[" ? 1 : character === "]" ? -1 : 0;
    if (depth < 0) return false;
    if (character === "," && depth === 0) {
      parts.push(part);
      part = "";
    } else part += character;
  }
  return [...parts, part].every((item) => /^[aé]{1,2}$/u.test(item) || isList(item));
}

testConstraint("grammarConstraint, nested lists", () => {
  const vocab = withBytes("[[", "]]", "],[", "a,", "aé", "é]");
  const grammar = `
    root ::= list # the whole text
    list ::= "[" ( item ("," item)* )? "]"
    item ::= word | list
    word ::= [aé]{1,2}
  `;
  return {
    vocab,
    constraint: grammarConstraint(grammar, vocab),
    accepts: isList,
    accepted: ["[]", "[a]", "[a,[é,[]],aé]", "[[[a]]]"],
    refused: ["", "[", "[a", "[a,]", "[b]", "[aaa]", "[]]", "a"],
    walkTokens: 20,
  };
});

testConstraint("grammarConstraint, ambiguous and right-recursive", () => {
  const vocab = withBytes("aa", "ab", "bb");
  const grammar = 'root ::= ("a"* | "a" root)*  tail\ntail ::= "b" tail | "b"?';
  return {
    vocab,
    constraint: grammarConstraint(
      grammar.replace('"a" root', '"a" rest').concat('\nrest ::= "a"'),
      vocab,
    ),
    accepts: (text) => /^a*b*$/.test(text),
    accepted: ["", "a", "aaaa", "aabb", "b"],
    refused: ["ba", "c", "aba"],
  };
});

for (
  const [repeats, pattern] of [
    ["{2,}+", /^(a{2,})+$/],
    ["{2,}*", /^(a{2,})*$/],
    ["+{2,}", /^(a+){2,}$/],
    ["*+", /^a*$/],
    ["+*", /^a*$/],
    ["{2}{2}?", /^(a{4})?$/],
  ] as const
) {
  Deno.test(`grammarConstraint reads repetitions in a row: ${repeats}`, () => {
    const vocab = fakeVocab();
    const constraint = grammarConstraint(`root ::= "a"${repeats}`, vocab);
    for (let count = 0; count < 8; count++) {
      const text = "a".repeat(count);
      let state: ReturnType<typeof constraint.start> | undefined = constraint.start();
      for (const token of vocab.encode(text)) state = state && constraint.advance(state, token);
      assertEquals(state !== undefined && constraint.accepting(state), pattern.test(text), text);
    }
  });
}

Deno.test("grammarConstraint refuses what it cannot read, with the place", () => {
  const vocab = fakeVocab();
  const bad: [string, string][] = [
    ['root ::= root "a" | "b"', "left recursion"],
    ['root ::= x\nx ::= y? x2\ny ::= "y"\nx2 ::= x "b"', "left recursion"],
    ['root ::= "x" root', "no text ever ends"],
    ["root ::= nothing", "offset 9"],
    ['start ::= "a"', "no rule root"],
    ['root ::= "a', "not closed"],
    ["root ::= [a", "not closed"],
    ["root ::= [z-a]", "wrong way round"],
    ['root ::= ("a"', "not closed"],
    ['root ::= "a"{3,2}', "wrong way round"],
    ['root ::= "a"\nroot ::= "b"', "twice"],
    ['root ::= "\\q"', "unknown escape"],
    ['root ::= "\\uD800"', "no such character"],
    ['root = "a"', "must begin with its name"],
  ];
  for (const [grammar, text] of bad) {
    const error = assertThrows(() => grammarConstraint(grammar, vocab), FormatError);
    assert(error.message.includes(text), `${grammar}: ${error.message}`);
  }
});

Deno.test("grammarConstraint refuses hostile grammars with a typed error", () => {
  const vocab = fakeVocab();
  const chain = Array.from({ length: 1900 }, (_, i) => `r${i} ::= r${i + 1}? r${i + 1}`).join("\n");
  const bad = [
    `root ::= ${"(".repeat(50_000)}`,
    'root ::= (("a"{1000}){1000}){1000}',
    'root ::= "a"{5000}',
    `root ::= "a"${"{1}".repeat(20_000)}`,
    Array.from({ length: 2500 }, (_, i) => `r${i} ::= "a"`).join("\n"),
    `root ::= r0\n${chain}\nr1900 ::= "a"?`,
  ];
  for (const grammar of bad) {
    assertThrows(() => grammarConstraint(grammar, vocab), ConstraintTooComplexError);
  }
});

testWithSharedData("the grammars of llama.cpp compile and give masks", () => {
  const vocab = fakeVocab();
  for (const { name } of Deno.readDirSync(sharedData("schemas/gbnf"))) {
    const constraint = grammarConstraint(
      Deno.readTextFileSync(sharedData(`schemas/gbnf/${name}`)),
      vocab,
    );
    const bits = new Uint32Array(Math.ceil(vocab.size / 32));
    constraint.mask(constraint.start(), bits);
    assert(bits.some((word) => word !== 0), name);
  }
});

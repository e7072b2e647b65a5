import { assertEquals } from "@std/assert";
import { canEncode, endsByLastCharacter, endsByToken } from "../../strategies/_clauses.ts";
import { fakeVocab } from "../fakes/mod.ts";

const pieces = ["a", ".", ").\n", ". ", " .", "a,b", "\n", "\n ", " ", "。", "👍", "3.5"];
const vocab = fakeVocab({ pieces: [...pieces, Uint8Array.of(0xe3, 0x80)] });
const all = Array.from({ length: vocab.size }, (_, token) => token);

Deno.test("endsByLastCharacter() trims spaces, not line breaks, and knows merged tokens", () => {
  const ends = endsByLastCharacter(vocab, ".\n。");
  const ending = all.filter(ends).map((token) => vocab.piece(token));
  assertEquals(ending, [".", ").\n", ". ", " .", "\n", "\n ", "。"]);
});

Deno.test("endsByLastCharacter() takes characters outside the basic plane, and spaces if asked", () => {
  const ends = (characters: string) =>
    all.filter(endsByLastCharacter(vocab, characters)).map((token) => vocab.piece(token));
  assertEquals(ends("👍"), ["👍"]);
  assertEquals(ends(" "), [". ", "\n ", " "]);
});

Deno.test("endsByToken() knows a character's first token only", () => {
  const ends = endsByToken(vocab, ".\n");
  assertEquals(all.filter(ends).map((token) => vocab.piece(token)), [".", "\n"]);
});

Deno.test("canEncode() tells characters the vocabulary has no token for", () => {
  assertEquals([canEncode(vocab, "."), canEncode(vocab, "!")], [true, false]);
});

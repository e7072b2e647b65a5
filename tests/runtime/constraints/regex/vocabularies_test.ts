import { assert, assertEquals } from "@std/assert";
import {
  type RegexConstraint,
  regexConstraint,
} from "../../../../runtime/constraints/regex/mod.ts";
import { createRng, seedFrom, type Vocab } from "../../../../runtime/mod.ts";
import { readTokenizerJson } from "../../../../runtime/tokenizer/tokenizer_json.ts";
import { sharedData, testWithSharedData } from "../../../_shared_data.ts";

const patterns = [
  "(yes|no|maybe)",
  '\\{"name": "[^"\\\\\\n]{1,20}", "age": \\d{1,3}\\}',
  "[A-Z]\\w*( \\w+){0,8}[.!?]",
  "\\d{4}-\\d{2}-\\d{2}",
  "(\\p{Lu}\\p{Ll}*[ -]?){1,4}",
  ".{0,40}€{1,3}",
];

/** Tokens of random walks with everything allowed at each state, checked against one by one. */
function checkMasks(vocab: Vocab, pattern: string, walks: number): number {
  const constraint: RegexConstraint = regexConstraint(pattern, vocab);
  const other = new RegExp(`^(?:${pattern})$`, "u");
  const rng = createRng(seedFrom(3));
  let whole = 0;
  for (let walk = 0; walk < walks; walk++) {
    let state = constraint.start();
    const tokens: number[] = [];
    for (;;) {
      const bits = new Uint32Array(Math.ceil(vocab.size / 32));
      constraint.mask(state, bits);
      const allowed: number[] = [];
      for (let token = 0; token < vocab.size; token++) {
        const isSet = (bits[token >> 5]! >> (token & 31) & 1) === 1;
        if (isSet) allowed.push(token);
        const isFollowed = constraint.advance(state, token) !== undefined;
        assert(isSet === isFollowed, `${pattern}: token ${token} after ${tokens}`);
      }
      if (constraint.accepting(state)) {
        whole++;
        const text = vocab.decode(tokens);
        assert(other.test(text), `${pattern} accepted ${JSON.stringify(text)}`);
      }
      assert(allowed.length > 0 || constraint.accepting(state), `${pattern}: dead end`);
      if (allowed.length === 0 || tokens.length >= 6) break;
      const token = allowed[Math.floor(rng.next() * allowed.length)]!;
      tokens.push(token);
      state = constraint.advance(state, token)!;
    }
  }
  return whole;
}

function checkVocabulary(vocab: Vocab, walks: number): void {
  let whole = 0;
  for (const pattern of patterns) whole += checkMasks(vocab, pattern, walks);
  assert(whole > 0, "no walk reached an accepting state");
}

function checkTexts(vocab: Vocab): void {
  const constraint = regexConstraint(patterns[1]!, vocab);
  for (const text of ['{"name": "Zoë 😀", "age": 42}', '{"name": "", "age": 42}']) {
    let state: ReturnType<typeof constraint.start> | undefined = constraint.start();
    for (const token of vocab.encode(text)) state &&= constraint.advance(state, token);
    const isAccepted = state !== undefined && constraint.accepting(state);
    assertEquals(isAccepted, new RegExp(`^${patterns[1]}$`, "u").test(text), text);
  }
}

Deno.test("regexConstraint() agrees with itself on the embedded model's vocabulary", () => {
  const file = (name: string) =>
    Deno.readTextFileSync(new URL(`../../../../models/decant-tiny/${name}`, import.meta.url));
  const vocab = readTokenizerJson({
    tokenizer: file("tokenizer.json"),
    config: file("tokenizer_config.json"),
    generation: file("generation_config.json"),
  });
  checkVocabulary(vocab, 10);
  checkTexts(vocab);
});

testWithSharedData("regexConstraint() agrees with itself on the vocabulary of GPT-2", () => {
  const path = sharedData("tokenizers/gpt2/tokenizer.json");
  const vocab = readTokenizerJson({ tokenizer: Deno.readTextFileSync(path) });
  checkVocabulary(vocab, 2);
  checkTexts(vocab);
});

import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import { regexConstraint } from "../../../../runtime/constraints/regex/mod.ts";
import type { Vocab } from "../../../../runtime/mod.ts";
import type { Constraint } from "../../../../runtime/mod.ts";
import { fakeVocab } from "../../../fakes/mod.ts";
import { alphabet, nearby, patternCase } from "./_patterns.ts";

const bytes = fakeVocab();
const host = (source: string) => new RegExp(`^(?:${source})$`, "u");

function judge<S>(constraint: Constraint<S>, tokens: readonly number[]): boolean {
  let state: S | undefined = constraint.start();
  for (const token of tokens) {
    state = constraint.advance(state, token);
    if (state === undefined) return false;
  }
  return constraint.accepting(state);
}

/** Long samples of nested repetitions take the host's engine exponential time. */
const shortCase = patternCase.filter(({ source, sample }) =>
  source.length <= 200 && sample.length <= 24
);

Deno.test("regexConstraint() accepts the texts the host's engine matches, for random patterns", () => {
  let accepted = 0;
  let judged = 0;
  const edit = fc.tuple(fc.nat(), fc.constantFrom(...alphabet), fc.integer({ min: 0, max: 4 }));
  fc.assert(
    fc.property(shortCase, fc.array(edit, { minLength: 4, maxLength: 4 }), (pattern, edits) => {
      const constraint = regexConstraint(pattern.source, bytes);
      const other = host(pattern.source);
      assert(other.test(pattern.sample), "the generator's own sample");
      const edited = edits.map(([place, character, kind]) =>
        nearby(pattern.sample, place, character, kind)
      );
      for (const text of [pattern.sample, ...edited]) {
        const expected = other.test(text);
        judged++;
        if (expected) accepted++;
        assertEquals(judge(constraint, bytes.encode(text)), expected, JSON.stringify(text));
      }
    }),
    { numRuns: 2000, seed: 1 },
  );
  assert(accepted > judged / 5 && accepted < judged * 0.9, `${accepted} of ${judged} accepted`);
});

/** All token sequences up to a length, with their texts. */
function sequences(vocab: Vocab, tokens: readonly number[], length: number) {
  const out: { readonly tokens: readonly number[]; readonly text: string }[] = [];
  let level: number[][] = [[]];
  for (let size = 0; size <= length; size++) {
    out.push(...level.map((tokens) => ({ tokens, text: vocab.decode(tokens) })));
    level = level.flatMap((before) => tokens.map((token) => [...before, token]));
  }
  return out;
}

Deno.test("regexConstraint() allows every prefix of a text, and dead ends never, with few pieces", () => {
  // No single "b", and "c" only behind "b": many texts cannot be finished.
  const vocab = fakeVocab({ pieces: ["a", "ab", "bca", "ba"], chat: false });
  const letters = fc.stringMatching(/^[abc()|*?]{1,6}$/).filter((source) => {
    try {
      return !source.includes("(?") && new RegExp(source, "u") !== undefined;
    } catch {
      return false;
    }
  });
  const all = sequences(vocab, [0, 1, 2, 3], 6);
  let writable = 0;
  fc.assert(
    fc.property(letters, (source) => {
      const pattern = host(source);
      const whole = all.filter(({ text }) => pattern.test(text)).map(({ tokens }) => tokens);
      let constraint;
      try {
        constraint = regexConstraint(source, vocab);
      } catch (error) {
        assert(error instanceof RangeError, `${error}`);
        assertEquals(whole.length, 0, "refused though it can be written");
        return;
      }
      writable++;
      for (const tokens of whole) assert(judge(constraint, tokens), tokens.join());
      // At most six places in the pattern: what can be finished at all takes no more tokens.
      const begins = new Set(whole.map(([first]) => first));
      for (let token = 0; token < 4; token++) {
        const isAllowed = constraint.advance(constraint.start(), token) !== undefined;
        assertEquals(isAllowed, begins.has(token), `token ${token}`);
      }
    }),
    { numRuns: 1500, seed: 2 },
  );
  assert(writable > 200, `only ${writable} patterns can be written`);
});

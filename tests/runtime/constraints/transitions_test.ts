import { assert, assertEquals, assertStrictEquals } from "@std/assert";
import { Transitions } from "../../../runtime/constraints/transitions.ts";
import { jsonSchemaConstraint } from "../../../runtime/mod.ts";
import { createRng, seedFrom } from "../../../runtime/rng.ts";
import { fakeVocab } from "../../fakes/mod.ts";

interface Count {
  readonly value: number;
}

/** Adds up tokens; refuses token 9. */
function counting() {
  let calls = 0;
  const advance = ({ value }: Count, token: number): Count | undefined => {
    calls++;
    return token === 9 ? undefined : { value: value + token };
  };
  return { advance, calls: () => calls };
}

Deno.test("Transitions.after() computes each step once, refusals too, and shares equal states", () => {
  const { advance, calls } = counting();
  const transitions = new Transitions<Count>(({ value }) => `${value % 3}`, 1 << 16);
  const start = { value: 0 };
  const one = transitions.after(start, 1, advance);
  assertEquals(one, { value: 1 });
  assertStrictEquals(transitions.after(start, 1, advance), one);
  assertStrictEquals(transitions.after(start, 4, advance), one);
  assertEquals(transitions.after(start, 9, advance), undefined);
  assertEquals(transitions.after(start, 9, advance), undefined);
  assertEquals(calls(), 3);
});

Deno.test("Transitions.after() forgets everything at its bound, and goes on right", () => {
  const { advance, calls } = counting();
  const transitions = new Transitions<Count>(({ value }) => `${value}`, 10_000);
  for (let round = 0; round < 2; round++) {
    let state: Count = { value: 0 };
    for (let i = 0; i < 500; i++) state = transitions.after(state, 1, advance)!;
    assertEquals(state.value, 500);
  }
  assert(calls() > 900, "10 kB hold no five hundred steps");
});

Deno.test("a constraint that remembers its steps allows what one that starts anew does", () => {
  const ascii = Array.from({ length: 128 }, (_, code) => String.fromCharCode(code));
  const pieces = [...ascii, `","`, `":`, "true", "ab", `{"a`];
  const vocab = fakeVocab({ pieces, chat: false });
  const schema = {
    type: "object",
    properties: {
      a: { type: "string", maxLength: 3 },
      b: { type: "array", items: { type: "integer" }, uniqueItems: true },
    },
    additionalProperties: false,
  };
  const kept = jsonSchemaConstraint(schema, vocab);
  const rng = createRng(seedFrom(11));
  const maskOf = (constraint: typeof kept, state: ReturnType<typeof kept.start>) => {
    const bits = new Uint32Array(Math.ceil(vocab.size / 32));
    constraint.mask(state, bits);
    return bits;
  };
  for (let walk = 0; walk < 40; walk++) {
    const other = jsonSchemaConstraint(schema, vocab);
    let state = kept.start(), expected = other.start();
    for (let i = 0; i < 25; i++) {
      const bits = maskOf(kept, state);
      assertEquals(bits, maskOf(other, expected));
      assertEquals(kept.accepting(state), other.accepting(expected));
      const tokens = Array.from({ length: vocab.size }, (_, token) => token);
      const allowed = tokens.filter((token) => (bits[token >> 5]! >>> (token & 31) & 1) === 1);
      assertEquals(tokens.filter((token) => kept.advance(state, token) !== undefined), allowed);
      if (allowed.length === 0) break;
      const token = allowed[Math.floor(rng.next() * allowed.length)]!;
      state = kept.advance(state, token)!;
      expected = other.advance(expected, token)!;
    }
  }
});

/** Laws every Constraint satisfies. */
import { assert, assertEquals, assertExists } from "@std/assert";
import { type Constraint, createRng, type Rng, seedFrom, type Vocab } from "../../runtime/mod.ts";

/** A constraint under test and a second opinion on what it accepts. */
export interface ConstraintCase<S> {
  readonly vocab: Vocab;
  readonly constraint: Constraint<S>;
  /** Another implementation of what a whole text must be. */
  readonly accepts: (text: string) => boolean;
  /** Whole texts to be accepted. */
  readonly accepted: readonly string[];
  /** Texts to be refused, at some token or at the end. */
  readonly refused: readonly string[];
  /** Tokens per random walk. @default 40 */
  readonly walkTokens?: number;
}

const walks = 25;

/** Registers one test per law. */
export function testConstraint<S>(name: string, create: () => ConstraintCase<S>): void {
  const law = (text: string, fn: (subject: ConstraintCase<S>) => void) =>
    Deno.test(`${name}: ${text}`, () => fn(create()));
  const { constraint: { mask, forced } } = create();

  if (mask) {
    law("mask and advance agree on every token", (subject) => {
      const { vocab, constraint } = subject;
      eachState(subject, (state) => {
        const bits = maskOf(subject, state);
        for (let token = 0; token < vocab.size; token++) {
          const isSet = (bits[token >> 5]! >> (token & 31) & 1) === 1;
          assertEquals(isSet, constraint.advance(state, token) !== undefined, vocab.piece(token));
        }
      });
    });
  }

  law("advance leaves the state as it was", (subject) => {
    const { constraint, vocab } = subject;
    eachState(subject, (state) => {
      const before = allowed(subject, state);
      const accepting = constraint.accepting(state);
      for (let token = 0; token < vocab.size; token++) constraint.advance(state, token);
      assertEquals(allowed(subject, state), before);
      assertEquals(constraint.accepting(state), accepting);
    });
  });

  law("every state allows a token or the end", (subject) => {
    eachState(subject, (state) => {
      assert(subject.constraint.accepting(state) || allowed(subject, state).length > 0);
    });
  });

  law("texts of accepting states are accepted by a second implementation", (subject) => {
    let seen = 0;
    eachState(subject, (state, tokens) => {
      if (!subject.constraint.accepting(state)) return;
      seen++;
      const text = subject.vocab.decode(tokens);
      assert(subject.accepts(text), `accepted ${JSON.stringify(text)}`);
    });
    assert(seen > 0, "no walk reached an accepting state");
  });

  law("known texts are accepted and refused", (subject) => {
    for (const text of subject.accepted) {
      assert(subject.accepts(text), `second implementation refuses ${JSON.stringify(text)}`);
      assert(judge(subject, text), `refused ${JSON.stringify(text)}`);
    }
    for (const text of subject.refused) {
      assert(!subject.accepts(text), `second implementation accepts ${JSON.stringify(text)}`);
      assert(!judge(subject, text), `accepted ${JSON.stringify(text)}`);
    }
  });

  if (forced) {
    law("forced tokens are allowed one after another", (subject) => {
      const { constraint } = subject;
      eachState(subject, (state) => {
        let at = state;
        for (const token of constraint.forced!(state)) {
          const next = constraint.advance(at, token);
          assertExists(next, `forced token ${token} is not allowed`);
          at = next;
        }
      });
    });
  }
}

function judge<S>({ vocab, constraint }: ConstraintCase<S>, text: string): boolean {
  let state: S | undefined = constraint.start();
  for (const token of vocab.encode(text)) {
    state = constraint.advance(state, token);
    if (state === undefined) return false;
  }
  return constraint.accepting(state);
}

function maskOf<S>({ vocab, constraint }: ConstraintCase<S>, state: S): Uint32Array {
  const bits = new Uint32Array(Math.ceil(vocab.size / 32));
  constraint.mask!(state, bits);
  return bits;
}

function allowed<S>({ vocab, constraint }: ConstraintCase<S>, state: S): number[] {
  const tokens = Array.from({ length: vocab.size }, (_, token) => token);
  return tokens.filter((token) => constraint.advance(state, token) !== undefined);
}

/** Visits the states of random walks, each from the start. */
function eachState<S>(
  subject: ConstraintCase<S>,
  visit: (state: S, tokens: readonly number[]) => void,
): void {
  const rng: Rng = createRng(seedFrom(1));
  for (let walk = 0; walk < walks; walk++) {
    let state = subject.constraint.start();
    const tokens: number[] = [];
    for (let i = 0; i <= (subject.walkTokens ?? 40); i++) {
      visit(state, tokens);
      const choices = allowed(subject, state);
      if (choices.length === 0) break;
      const token = choices[Math.floor(rng.next() * choices.length)]!;
      tokens.push(token);
      state = subject.constraint.advance(state, token)!;
    }
  }
}

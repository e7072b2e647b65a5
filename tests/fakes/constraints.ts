/** Constraints for tests. */
import type { Constraint, TokenId, Vocab } from "../../runtime/mod.ts";

/** How to judge a text. */
export interface PredicateOptions {
  readonly vocab: Vocab;
  /** Whether this text may still become a whole one. */
  readonly viable: (text: string) => boolean;
  /** Whether this text is whole. */
  readonly accepting: (text: string) => boolean;
}

/** A constraint that can only judge: it has no mask. The state is the tokens so far. */
export function predicateConstraint(
  { vocab, viable, accepting }: PredicateOptions,
): Constraint<readonly TokenId[]> {
  return {
    name: "predicate",
    start: () => [],
    advance(state, token) {
      const next = [...state, token];
      return viable(vocab.decode(next)) ? next : undefined;
    },
    accepting: (state) => accepting(vocab.decode(state)),
  };
}

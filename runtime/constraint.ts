/** What output must satisfy. State is a value, so forking keeps two and rolling back means going back. */
import type { TokenId } from "./model.ts";

/** A constraint over token sequences. */
export interface Constraint<S = unknown> {
  readonly name: string;
  start(): S;
  /** The state after `token`, or undefined if the token is not allowed. Never changes `state`. */
  advance(state: S, token: TokenId): S | undefined;
  /**
   * Sets one bit per allowed token, least significant bit first; `out` is [ceil(vocab / 32)].
   * Absent for predicates that can only judge one token at a time.
   */
  mask?(state: S, out: Uint32Array): void;
  /** Whether the sequence may end here. Stop tokens are allowed exactly then. */
  accepting(state: S): boolean;
  /** Tokens that must follow, if any: they can be appended without asking the model. */
  forced?(state: S): readonly TokenId[];
}

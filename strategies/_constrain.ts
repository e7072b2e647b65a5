/** Constraints as masks over a vocabulary, stop tokens included. */
import { type Constraint, ConstraintError, type TokenId, type Vocab } from "../runtime/mod.ts";

/** One constraint over one vocabulary. States are values: keep as many as there are branches. */
export interface Masker {
  start(): unknown;
  /**
   * What may come next. Stop tokens may exactly where the sequence may end, unless they are ignored.
   *
   * @throws {ConstraintError} if the constraint itself fails
   */
  mask(state: unknown): TokenMask;
  /** State after a token. @throws {ConstraintError} if it is not allowed */
  advance(state: unknown, token: TokenId): unknown;
}

/** Tokens that may come next. */
export interface TokenMask {
  /** One bit per token; not to be changed. */
  readonly bits: Uint32Array;
  /** Nothing may come: complete, or a dead end. */
  readonly isEmpty: boolean;
  /** Whether the sequence may end here. */
  readonly isComplete: boolean;
}

/** What to throw where nothing may come and the sequence may not end. */
export function deadEnd(constraint: Constraint): ConstraintError {
  return new ConstraintError(constraint.name, "allows no token here, nor the end");
}

/**
 * Uses the constraint's own mask; without one, asks `advance` about every token of the vocabulary,
 * control tokens excepted, which costs one call per token and step.
 */
export function createMasker(constraint: Constraint, vocab: Vocab, ignoreStop: boolean): Masker {
  const words = Math.ceil(vocab.size / 32);
  const set = (bits: Uint32Array, token: TokenId) => bits[token >> 5]! |= 1 << (token & 31);
  const clear = (bits: Uint32Array, token: TokenId) => bits[token >> 5]! &= ~(1 << (token & 31));

  function fill(state: unknown, bits: Uint32Array): void {
    if (constraint.mask) {
      guarded(constraint, "failed to give a mask", () => constraint.mask!(state, bits));
      return;
    }
    for (let token = 0; token < vocab.size; token++) {
      if (vocab.isSpecial(token)) continue;
      if (advance(constraint, state, token) !== undefined) set(bits, token);
    }
  }

  /** Inside a text the state often stays what it was. */
  let latest: { readonly state: unknown; readonly mask: TokenMask } | undefined;
  return {
    start: () => constraint.start(),
    mask(state) {
      if (latest !== undefined && latest.state === state) return latest.mask;
      const bits = new Uint32Array(words);
      fill(state, bits);
      const isComplete = constraint.accepting(state);
      for (const token of vocab.stopTokens) {
        if (isComplete && !ignoreStop) set(bits, token);
        else clear(bits, token);
      }
      const mask = { bits, isEmpty: bits.every((word) => word === 0), isComplete };
      latest = { state, mask };
      return mask;
    },
    advance(state, token) {
      const next = advance(constraint, state, token);
      if (next !== undefined) return next;
      throw new ConstraintError(constraint.name, `refuses token ${token} that its mask allowed`);
    },
  };
}

function advance(constraint: Constraint, state: unknown, token: TokenId): unknown {
  return guarded(
    constraint,
    `failed on token ${token}`,
    () => constraint.advance(state, token),
  );
}

/** A constraint may be code from a configuration file, so whatever it throws gets its name. */
export function guarded<T>(constraint: Constraint, failure: string, fn: () => T): T {
  try {
    return fn();
  } catch (cause) {
    // One that knows its name says more than we could.
    if (cause instanceof ConstraintError) throw cause;
    throw new ConstraintError(constraint.name, failure, { cause });
  }
}

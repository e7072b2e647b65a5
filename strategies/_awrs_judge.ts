/** A constraint asked about single tokens, each at most once per step, with every question counted. */
import type { Constraint, TokenId, Vocab } from "../runtime/mod.ts";
import { guarded } from "./_constrain.ts";

/** The constraint at one place. */
export interface Judge {
  /** Whether the token may come next. @throws {ConstraintError} if the constraint itself fails */
  allows(token: TokenId): boolean;
  /** State after an allowed token that does not end the sequence. */
  after(token: TokenId): unknown;
  /** Whether the sequence may end here. */
  isComplete(): boolean;
}

/** One constraint over one vocabulary. */
export class Judges {
  readonly #constraint: Constraint;
  readonly #vocab: Vocab;
  readonly #ignoreStop: boolean;
  /** How often the constraint was asked, about a token or the end. */
  checks = 0;

  constructor(constraint: Constraint, vocab: Vocab, ignoreStop: boolean) {
    this.#constraint = constraint;
    this.#vocab = vocab;
    this.#ignoreStop = ignoreStop;
  }

  /** State before the first token. */
  start(): unknown {
    return guarded(this.#constraint, "failed to start", () => this.#constraint.start());
  }

  /** Asks about what may follow a state. Control tokens never do, stop tokens where it may end. */
  at(state: unknown): Judge {
    const states = new Map<TokenId, unknown>();
    let isComplete: boolean | undefined;
    const complete = () => isComplete ??= this.#accepting(state);
    const after = (token: TokenId) => {
      if (!states.has(token)) states.set(token, this.#advance(state, token));
      return states.get(token);
    };
    return {
      allows: (token) => {
        if (this.#vocab.stopTokens.has(token)) return !this.#ignoreStop && complete();
        return !this.#vocab.isSpecial(token) && after(token) !== undefined;
      },
      after,
      isComplete: complete,
    };
  }

  #advance(state: unknown, token: TokenId): unknown {
    this.checks++;
    return guarded(
      this.#constraint,
      `failed on token ${token}`,
      () => this.#constraint.advance(state, token),
    );
  }

  #accepting(state: unknown): boolean {
    this.checks++;
    return guarded(
      this.#constraint,
      "failed to say whether the text is complete",
      () => this.#constraint.accepting(state),
    );
  }
}

/** Tokens a constraint could allow at all: no control tokens, and stop tokens unless ignored. */
export function pruningMask(vocab: Vocab, ignoreStop: boolean): Uint32Array {
  const bits = new Uint32Array(Math.ceil(vocab.size / 32));
  for (let token = 0; token < vocab.size; token++) {
    const isStop = vocab.stopTokens.has(token);
    if (isStop ? ignoreStop : vocab.isSpecial(token)) continue;
    bits[token >> 5]! |= 1 << (token & 31);
  }
  return bits;
}

/** Steps of a constraint remembered by state and token, bounded in bytes. */
import type { TokenId } from "../model.ts";

/** Bytes of a remembered step, and of a state without its key, roughly. */
const stepBytes = 64;
const stateBytes = 256;

/**
 * States that are equal become one object, so that texts which differ only in what does not matter
 * walk through the same few states. Everything is forgotten where the bound is reached.
 */
export class Transitions<S extends object> {
  readonly #keyOf: (state: S) => string;
  readonly #maxBytes: number;
  #steps = new WeakMap<S, Map<TokenId, S | undefined>>();
  #states = new Map<string, S>();
  #bytes = 0;

  /** @param keyOf equal for states that are */
  constructor(keyOf: (state: S) => string, maxBytes: number) {
    this.#keyOf = keyOf;
    this.#maxBytes = maxBytes;
  }

  /** The state after a token, computed by `advance` if it is not here; undefined = refused. */
  after(
    state: S,
    token: TokenId,
    advance: (state: S, token: TokenId) => S | undefined,
  ): S | undefined {
    const steps = this.#steps.get(state);
    const known = steps?.get(token);
    if (known !== undefined || steps?.has(token)) return known;
    const next = advance(state, token);
    if (this.#bytes > this.#maxBytes) this.#forget();
    const shared = next && this.#shared(next);
    this.#remember(state, token, shared);
    return shared;
  }

  #remember(state: S, token: TokenId, next: S | undefined): void {
    let steps = this.#steps.get(state);
    if (steps === undefined) this.#steps.set(state, steps = new Map());
    steps.set(token, next);
    this.#bytes += stepBytes;
  }

  #shared(state: S): S {
    const key = this.#keyOf(state);
    const known = this.#states.get(key);
    if (known !== undefined) return known;
    this.#states.set(key, state);
    this.#bytes += stateBytes + 2 * key.length;
    return state;
  }

  #forget(): void {
    this.#steps = new WeakMap();
    this.#states = new Map();
    this.#bytes = 0;
  }
}

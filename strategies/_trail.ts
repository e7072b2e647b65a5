/** What stop checks and constraints say along a run of proposals that may be taken back. */
import type { TokenId } from "../runtime/mod.ts";
import type { Masker, TokenMask } from "./_constrain.ts";
import type { StopCheck } from "./strategy.ts";

/** Proposals after a committed sequence. */
export interface Trail {
  /** Whether the last proposal ends the sequence. */
  readonly ended: boolean;
  /** What may come after the first `i` proposals; undefined = anything. */
  mask(i: number): TokenMask | undefined;
  /** Whether the token may come next. */
  allows(token: TokenId): boolean;
  /** Adds a proposal. @returns whether others may follow it */
  push(token: TokenId): boolean;
  /** State of the constraint after the first `i` proposals. */
  state(i: number): unknown;
}

/** Starts after what `stops` and `state` have seen; changes neither. */
export function createTrail(
  stops: StopCheck,
  masker: Masker | undefined,
  state: unknown,
): Trail {
  const check = stops.fork();
  const states = [state];
  const masks: TokenMask[] = [];
  let length = 0;
  let ended = false;
  const mask = (i: number) => masker && (masks[i] ??= masker.mask(states[i]));
  return {
    get ended() {
      return ended;
    },
    mask,
    allows(token) {
      const allowed = mask(length);
      return !allowed || (allowed.bits[token >> 5]! >>> (token & 31) & 1) === 1;
    },
    push(token) {
      ended = check.push(token);
      if (masker && !ended) states.push(masker.advance(states[length], token));
      length++;
      return !ended && !mask(length)?.isEmpty;
    },
    state: (i) => states[i],
  };
}

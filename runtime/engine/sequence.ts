/**
 * Sequence: the tokens behind a session, and what of them is computed.
 *
 * A session holds one sequence; so does every ask that still needs an older value of the session.
 * Tokens only grow in place, so an ask can point at a prefix.
 */
import type { TokenId } from "../model.ts";
import { SequenceKv } from "../kv/sequence_kv.ts";
import type { ScopeState } from "./scope.ts";

/** See file comment. */
export class Sequence {
  readonly scope: ScopeState;
  readonly promptLength: number;
  /** How many trailing computed tokens may still be taken back. */
  readonly rollback: number;
  readonly tokens: TokenId[];
  /** Hash of the first i + 1 tokens, to find equal prefixes; equality is checked on the tokens. */
  readonly hashes: number[];
  readonly kv: SequenceKv;
  committed = 0;
  /** Whether a session holds it. */
  isHeld = true;
  /** Asks that wait for it. */
  asks = 0;
  /** Nobody needs it any more and its pages are gone. */
  isReleased = false;
  /** Whether the step now running computes it. */
  isBusy = false;
  /** The step that last computed it. */
  lastStep = 0;
  /** Whether the prefix cache was asked for its beginning. */
  isLookedUp = false;
  /**
   * Where truncations left more settled than the rollback window says: from position `at` on, tokens
   * were computed with `settled` tokens settled. Ascending; a replay repeats it.
   */
  #marks: readonly { readonly at: number; readonly settled: number }[] = [];

  constructor(
    scope: ScopeState,
    start: {
      readonly tokens: TokenId[];
      readonly hashes?: number[];
      readonly promptLength: number;
      readonly rollback: number;
      readonly kv: SequenceKv;
    },
  ) {
    this.scope = scope;
    this.tokens = start.tokens;
    this.promptLength = start.promptLength;
    this.rollback = start.rollback;
    this.kv = start.kv;
    this.hashes = start.hashes ?? [];
    this.#hash();
    scope.sequences.add(this);
  }

  append(tokens: readonly TokenId[]): void {
    for (const token of tokens) this.tokens.push(token);
    this.#hash();
  }

  /** Shortens in place. Only while no ask points at it. */
  truncate(length: number): void {
    const { scope } = this;
    const isAhead = this.committed > Math.max(0, length - this.rollback);
    if (!scope.policy.lossless && !scope.replays && isAhead) {
      const before = this.#marks.filter(({ at }) => at < length);
      this.#marks = [...before, { at: length, settled: this.committed }];
    }
    this.tokens.length = length;
    this.hashes.length = length;
    if (scope.replays && length < this.kv.computed) this.preempt();
    else this.kv.truncate(length);
  }

  /** A copy that shares everything computed. */
  fork(): Sequence {
    const copy = new Sequence(this.scope, {
      tokens: this.tokens.slice(),
      hashes: this.hashes.slice(),
      promptLength: this.promptLength,
      rollback: this.rollback,
      kv: this.kv.fork(this.scope.forkState),
    });
    copy.committed = this.committed;
    copy.lastStep = this.lastStep;
    copy.isLookedUp = this.isLookedUp;
    copy.#marks = this.#marks;
    return copy;
  }

  /** What was computed can no longer be taken back, but for the rollback window. */
  settle(): void {
    this.committed = Math.max(this.committed, this.kv.computed - this.rollback);
  }

  /** How many tokens are settled when `computed` are computed. */
  settledAt(computed: number): number {
    const mark = this.#marks.findLast(({ at }) => at <= computed);
    return Math.max(computed - this.rollback, mark?.settled ?? 0);
  }

  /** Where after `start` tokens were computed with more settled than just before; or Infinity. */
  nextMark(start: number): number {
    return this.#marks.find(({ at }) => at > start)?.at ?? Infinity;
  }

  /** Gives the pages back; what they held is computed again when needed, and comes out the same. */
  preempt(): void {
    this.kv.clear(this.scope.initState());
    this.isLookedUp = false;
  }

  /** Frees the sequence if nobody needs it any more. */
  releaseIfUnused(): void {
    if (this.isHeld || this.isBusy || this.asks > 0 || this.isReleased) return;
    this.isReleased = true;
    this.scope.sequences.delete(this);
    this.scope.bequeath(this);
    this.kv.clear();
    this.scope.checkIdle();
  }

  #hash(): void {
    let hash = this.hashes.at(-1) ?? 0x811c9dc5;
    for (let i = this.hashes.length; i < this.tokens.length; i++) {
      hash = Math.imul(hash ^ this.tokens[i]!, 0x9e3779b1);
      hash ^= hash >>> 15;
      this.hashes.push(hash);
    }
  }
}

/** Whether both have `length` tokens or more and the first `length` are equal. */
export function haveEqualPrefix(a: Sequence, b: Sequence, length: number): boolean {
  if (a.tokens.length < length || b.tokens.length < length) return false;
  if (length === 0 || a.tokens === b.tokens) return true;
  if (a.hashes[length - 1] !== b.hashes[length - 1]) return false;
  for (let i = length - 1; i >= 0; i--) if (a.tokens[i] !== b.tokens[i]) return false;
  return true;
}

/** Length of the common prefix, at most `limit`, given that the first `known` tokens are equal. */
export function commonPrefix(a: Sequence, b: Sequence, known: number, limit: number): number {
  const most = Math.min(limit, a.tokens.length, b.tokens.length);
  let length = known;
  while (length < most && a.tokens[length] === b.tokens[length]) length++;
  return length;
}

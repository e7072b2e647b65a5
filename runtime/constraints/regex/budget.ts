/** Counted work: the same pattern is refused on every machine, however busy it is. */

/** A constraint that needs more than it may: a longer pattern, more states, more steps. */
export class ConstraintTooComplexError extends RangeError {
  override readonly name = "ConstraintTooComplexError";
  constructor(
    /** What there is too much of, e.g. "automaton states". */
    readonly what: string,
    readonly limit: number,
  ) {
    super(`The constraint is too complex: more than ${limit} ${what}`);
  }
}

/** Bounds of one regular expression. All are whole numbers above zero. */
export interface RegexLimits {
  /** UTF-8 bytes of the pattern. @default 4096 */
  readonly maxPatternBytes: number;
  /** Largest number in a counted repetition. @default 1000 */
  readonly maxRepeat: number;
  /** Groups inside groups. @default 100 */
  readonly maxDepth: number;
  /** States of the nondeterministic automaton, at most 65,535. @default 50,000 */
  readonly maxStates: number;
  /** States, edges and trie nodes visited while compiling. @default 2,000,000 */
  readonly maxCompileSteps: number;
  /** The same for making one mask or following one token. @default 10,000,000 */
  readonly maxMaskSteps: number;
  /** Deterministic states kept; when there are more, all are forgotten and made anew. @default 4096 */
  readonly cachedStates: number;
  /** Bytes of masks kept; the least recently used go first. @default 8 MiB */
  readonly cachedMaskBytes: number;
}

/** The defaults of {@link RegexLimits}. */
export const regexLimits: RegexLimits = {
  maxPatternBytes: 4096,
  maxRepeat: 1000,
  maxDepth: 100,
  maxStates: 50_000,
  maxCompileSteps: 2_000_000,
  maxMaskSteps: 10_000_000,
  cachedStates: 4096,
  cachedMaskBytes: 8 << 20,
};

/** Limits with the defaults filled in. @throws {RangeError} naming a limit out of range */
export function resolveLimits(limits: Partial<RegexLimits>): RegexLimits {
  const all = { ...regexLimits, ...limits };
  for (const [name, value] of Object.entries(all)) {
    const most = name === "maxStates"
      ? 0xffff
      : name === "maxDepth"
      ? 500
      : Number.MAX_SAFE_INTEGER;
    if (!Number.isInteger(value) || value < 1 || value > most) {
      throw new RangeError(`${name} is ${value}: it must be a whole number from 1 to ${most}`);
    }
  }
  return all;
}

/** Steps left. */
export class Budget {
  #used = 0;
  constructor(readonly limit: number) {}

  /** Steps taken so far. */
  get used(): number {
    return this.#used;
  }

  /** @throws {ConstraintTooComplexError} when more than the limit have been taken */
  spend(steps: number): void {
    this.#used += steps;
    if (this.#used > this.limit) throw new ConstraintTooComplexError("steps", this.limit);
  }
}

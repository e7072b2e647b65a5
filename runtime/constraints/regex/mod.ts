/** The completion matches a regular expression. */
import type { Constraint } from "../../constraint.ts";
import { FormatError } from "../../errors.ts";
import type { Vocab } from "../../model.ts";
import { Budget, type RegexLimits, resolveLimits } from "./budget.ts";
import { type ByteTrie, byteTrie } from "./byte_trie.ts";
import { Dfa, type DfaState } from "./dfa.ts";
import { hopefulPlaces } from "./hope.ts";
import { MaskCache } from "./mask_cache.ts";
import { buildNfa, reaching } from "./nfa.ts";
import { parseRegex } from "./parse.ts";
import { allowTokens } from "./walk.ts";

export { ConstraintTooComplexError, type RegexLimits, regexLimits } from "./budget.ts";

/** Place in the pattern: which bytes may follow. */
export type RegexState = DfaState;

/** A constraint and what making it took. */
export interface RegexConstraint extends Constraint<RegexState> {
  mask(state: RegexState, out: Uint32Array): void;
  /** Counted work of the compilation, at most {@link RegexLimits.maxCompileSteps}. */
  readonly compileSteps: number;
}

/**
 * A constraint that allows exactly the texts the whole pattern matches, however their bytes are cut
 * into tokens. See `parse.ts` for the subset of the syntax. Control and stop tokens are never
 * allowed as text; where the pattern is fulfilled, the completion may end. A token is allowed only
 * if other tokens lead on from there to an accepting state.
 *
 * A mask is made by one walk over the vocabulary's bytes and kept per state, the first one at once.
 * Its work is bounded too: where a pattern's states explode later, `mask` throws rather than give a
 * wrong answer.
 *
 * @throws {FormatError} with the offset of what is malformed or not supported, or if nothing matches
 * @throws {ConstraintTooComplexError} above a limit, also from `mask` and `advance`
 * @throws {RangeError} if the vocabulary can write none of the texts, or a limit is out of range
 */
export function regexConstraint(
  pattern: string,
  vocab: Vocab,
  options: Partial<RegexLimits> = {},
): RegexConstraint {
  const limits = resolveLimits(options);
  const trie = byteTrie(vocab);
  const { dfa, start, compileSteps } = compile(pattern, trie, limits);
  const masks = new MaskCache(Math.ceil(vocab.size / 32), limits.cachedMaskBytes);

  function advance(state: RegexState, token: number): RegexState | undefined {
    const bytes = vocab.bytes(token);
    if (!trie.isText[token]) return undefined;
    const budget = new Budget(limits.maxMaskSteps);
    let at: DfaState | null = dfa.current(state);
    for (let i = 0; i < bytes.length && at; i++) at = dfa.step(at, bytes[i]!, budget);
    return at?.isHopeful ? at : undefined;
  }
  function makeMask(state: RegexState, bits: Uint32Array): void {
    allowTokens(trie, dfa, dfa.current(state), new Budget(limits.maxMaskSteps), bits);
  }
  // The first mask is made now, so that most patterns whose states explode are refused up front.
  masks.get(start.key, (fresh) => makeMask(start, fresh));
  return {
    name: "regex",
    compileSteps,
    start: () => start,
    advance,
    mask: (state, out) => {
      const bits = masks.get(state.key, (fresh) => makeMask(state, fresh));
      if (out.length < bits.length) {
        throw new RangeError(`The mask has ${out.length} words: it needs ${bits.length}`);
      }
      for (let word = 0; word < bits.length; word++) out[word]! |= bits[word]!;
    },
    accepting: ({ isAccepting }) => isAccepting,
  };
}

function compile(pattern: string, trie: ByteTrie, limits: RegexLimits) {
  const budget = new Budget(limits.maxCompileSteps);
  const nfa = buildNfa(parseRegex(pattern, limits), limits.maxStates, budget);
  const alive = reaching(nfa, [nfa.accept], () => true, budget);
  if (!alive[nfa.start]) {
    throw new FormatError("no text matches", { source: "regular expression" });
  }
  const hopeful = hopefulPlaces(nfa, alive, trie, budget);
  const dfa = new Dfa({ nfa, alive, hopeful, cachedStates: limits.cachedStates });
  const start = dfa.stateAt([nfa.start], budget);
  if (!start?.isHopeful) {
    throw new RangeError("The vocabulary cannot write any text the regular expression matches");
  }
  return { dfa, start, compileSteps: budget.used };
}

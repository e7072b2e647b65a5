/** The completion matches a regular expression. */
import type { Constraint } from "../../constraint.ts";
import { FormatError } from "../../errors.ts";
import type { TokenId, Vocab } from "../../model.ts";
import { Budget, type RegexLimits, resolveLimits } from "./budget.ts";
import { type ByteTrie, byteTrie } from "./byte_trie.ts";
import { Dfa, type DfaState } from "./dfa.ts";
import { hopefulPlaces } from "./hope.ts";
import { codePoints } from "./code_points.ts";
import { forcedTokens } from "../forced.ts";
import { MaskCache } from "./mask_cache.ts";
import { buildNfa, type Nfa, reaching } from "./nfa.ts";
import { parseRegex } from "./parse.ts";
import type { Expression } from "./syntax.ts";
import { allowTokens } from "./walk.ts";

export { ConstraintTooComplexError, type RegexLimits, regexLimits } from "./budget.ts";

/** Place in the pattern: which bytes may follow. */
export type RegexState = DfaState;

/** A constraint and what making it took. */
export interface RegexConstraint extends Constraint<RegexState> {
  mask(state: RegexState, out: Uint32Array): void;
  forced(state: RegexState): readonly TokenId[];
  /** Counted work of the compilation, at most {@link RegexLimits.maxCompileSteps}. */
  readonly compileSteps: number;
}

/** A pattern before it meets a vocabulary: plain data, so that it can be made in a Worker. */
export interface RegexProgram {
  readonly nfa: Nfa;
  /** One byte per state: whether the end can be reached by bytes. */
  readonly alive: Uint8Array;
  /** Counted work so far. */
  readonly steps: number;
}

/**
 * The program of a pattern. See `parse.ts` for the subset of the syntax.
 *
 * @throws {FormatError} with the offset of what is malformed or not supported, or if nothing matches
 * @throws {ConstraintTooComplexError} above a limit
 */
export function compileRegex(pattern: string, options: Partial<RegexLimits> = {}): RegexProgram {
  const limits = resolveLimits(options);
  const budget = new Budget(limits.maxCompileSteps);
  return programOf(buildNfa(parseRegex(pattern, limits), limits.maxStates, budget), budget);
}

/**
 * The program of a list of texts.
 *
 * @throws {ConstraintTooComplexError} above a limit
 */
export function compileTexts(
  texts: readonly string[],
  options: Partial<RegexLimits> = {},
): RegexProgram {
  const limits = resolveLimits(options);
  const budget = new Budget(limits.maxCompileSteps);
  return programOf(buildNfa(textsExpression(texts), limits.maxStates, budget), budget);
}

function programOf(nfa: Nfa, budget: Budget): RegexProgram {
  const alive = reaching(nfa, [nfa.accept], () => true, budget);
  if (!alive[nfa.start]) {
    throw new FormatError("no text matches", { source: "regular expression" });
  }
  return { nfa, alive, steps: budget.used };
}

/** A choice of texts as an expression. */
export function textsExpression(texts: readonly string[]): Expression {
  const character = (text: string): Expression => {
    const point = text.codePointAt(0)!;
    return { kind: "set", set: codePoints([[point, point]]) };
  };
  const parts = texts.map((text): Expression => ({
    kind: "sequence",
    parts: Array.from(text, character),
  }));
  return { kind: "choice", parts };
}

/**
 * A constraint that allows exactly the texts the whole pattern matches, however their bytes are cut
 * into tokens. Control and stop tokens are never allowed as text; where the pattern is fulfilled,
 * the completion may end. A token is allowed only if other tokens lead on from there to an accepting
 * state.
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
  return regexProgramConstraint(compileRegex(pattern, options), vocab, options);
}

/** The same for a pattern that was compiled before; `name` is what errors call it. */
export function regexProgramConstraint(
  program: RegexProgram,
  vocab: Vocab,
  options: Partial<RegexLimits> = {},
  name = "regex",
): RegexConstraint {
  const limits = resolveLimits(options);
  const trie = byteTrie(vocab);
  const { dfa, start, compileSteps } = bind(program, trie, limits);
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
  const bitsOf = (state: RegexState) => masks.get(state.key, (fresh) => makeMask(state, fresh));
  // The first mask is made now, so that most patterns whose states explode are refused up front.
  bitsOf(start);
  return {
    name,
    compileSteps,
    start: () => start,
    advance,
    mask: (state, out) => {
      const bits = bitsOf(state);
      if (out.length < bits.length) {
        throw new RangeError(`The mask has ${out.length} words: it needs ${bits.length}`);
      }
      for (let word = 0; word < bits.length; word++) out[word]! |= bits[word]!;
    },
    accepting: ({ isAccepting }) => isAccepting,
    forced: (state) => forcedTokens(state, { bitsOf, advance, accepting: (s) => s.isAccepting }),
  };
}

function bind({ nfa, alive, steps }: RegexProgram, trie: ByteTrie, limits: RegexLimits) {
  const budget = new Budget(limits.maxCompileSteps);
  budget.spend(steps);
  const hopeful = hopefulPlaces(nfa, alive, trie, budget);
  const dfa = new Dfa({ nfa, alive, hopeful, cachedStates: limits.cachedStates });
  const start = dfa.stateAt([nfa.start], budget);
  if (!start?.isHopeful) {
    throw new RangeError("The vocabulary cannot write any text the regular expression matches");
  }
  return { dfa, start, compileSteps: budget.used };
}

/** Automata over bytes as constraints over tokens. */
import type { Constraint } from "../constraint.ts";
import type { TokenId, Vocab } from "../model.ts";
import { forcedTokens } from "./forced.ts";
import { triesOf } from "./tries.ts";
import { Budget } from "./regex/budget.ts";
import { type ByteTrie, endsHere } from "./regex/byte_trie.ts";
import { MaskCache } from "./regex/mask_cache.ts";
import { Transitions } from "./transitions.ts";

/** Reads texts byte by byte. States are values. */
export interface ByteAutomaton<S> {
  /** Equal for states from which the same texts follow. */
  key(state: S): string;
  /** The state after a byte, or null if no text goes on with it. */
  step(state: S, byte: number, budget: Budget): S | null;
  /** Whether the text may end here. */
  isAccepting(state: S): boolean;
  /** Whether the place is between two characters. */
  isBoundary(state: S): boolean;
  /**
   * How many characters that are no quote, backslash or control may come next, whichever they are;
   * 0 if that depends on the characters.
   */
  freeCharacters?(state: S): number;
  /**
   * Where any number of such characters may come: what they change. Undefined if more than this.
   */
  freeText?(state: S): FreeText<S> | undefined;
}

/** What becomes of free text. */
export interface FreeText<S> {
  /** From here the same may follow as from the state after any text but these. */
  readonly usual: S;
  /** Texts that matter, as UTF-8 bytes, one character each. */
  readonly exceptions: readonly string[];
}

/** How much work and memory the masks of one constraint may take. */
export interface ByteConstraintLimits {
  /** Bytes followed for one mask or one token. */
  readonly maxMaskSteps: number;
  /** Steps from token to token may take a quarter of it besides. */
  readonly cachedMaskBytes: number;
}

/** A constraint that can always give a mask. */
export interface MaskedConstraint<S> extends Constraint<S> {
  mask(state: S, out: Uint32Array): void;
  forced(state: S): readonly TokenId[];
}

/**
 * The constraint whose texts an automaton reads, however their bytes are cut into tokens. Control
 * and stop tokens are never allowed as text; where the text may end, the completion may.
 *
 * Masks are made by one walk over the vocabulary's bytes and kept by state. A token is forced where
 * it is the only one allowed and the text may not end: that is sound, whatever the model says.
 *
 * @throws {ConstraintTooComplexError} from `mask` and `advance` where a limit is reached
 */
export function byteConstraint<S extends object>(
  name: string,
  automaton: ByteAutomaton<S>,
  start: S,
  vocab: Vocab,
  limits: ByteConstraintLimits,
): MaskedConstraint<S> {
  const words = Math.ceil(vocab.size / 32);
  const tries = triesOf(vocab);
  const masks = new MaskCache(words, limits.cachedMaskBytes);
  const transitions = new Transitions<S>(
    (state) => automaton.key(state),
    limits.cachedMaskBytes / 4,
  );
  const canPause = (state: S) => tries.canSplit || automaton.isBoundary(state);

  const advance = (state: S, token: TokenId) => transitions.after(state, token, step);
  function step(state: S, token: TokenId): S | undefined {
    if (!tries.all.isText[token]) return undefined;
    const bytes = vocab.bytes(token);
    const budget = new Budget(limits.maxMaskSteps);
    let at: S | null = state;
    for (let i = 0; i < bytes.length && at !== null; i++) {
      at = automaton.step(at, bytes[i]!, budget);
    }
    return at !== null && canPause(at) ? at : undefined;
  }
  function makeMask(state: S, bits: Uint32Array): void {
    const free = Math.min(automaton.freeCharacters?.(state) ?? 0, tries.plain.length - 1);
    const isEndless = free === tries.plain.length - 1;
    const text = isEndless ? automaton.freeText?.(state) : undefined;
    if (text) return makeFreeMask(state, text, bits);
    if (free > 0) bits.set(tries.plain[free]!);
    const trie = free > 0 ? tries.rest : tries.all;
    walk(automaton, state, trie, canPause, new Budget(limits.maxMaskSteps), bits);
  }
  /**
   * Tokens of plain text and what follows it are judged by what follows, each kind once; the few
   * whose text matters are judged by themselves.
   */
  function makeFreeMask(state: S, { usual, exceptions }: FreeText<S>, bits: Uint32Array): void {
    const shared = masks.get(`~${automaton.key(usual)}`, (fresh) => {
      const budget = new Budget(limits.maxMaskSteps);
      fresh.set(tries.plain.at(-1)!);
      walk(automaton, usual, tries.endings, canPause, budget, fresh);
    });
    bits.set(shared);
    const judge = (token: TokenId) => {
      const word = token >> 5, bit = 1 << (token & 31);
      if (step(state, token) !== undefined) bits[word]! |= bit;
      else bits[word]! &= ~bit;
    };
    for (const text of exceptions) {
      if (text !== "") tries.byText.get(text)?.forEach(judge);
      else {
        for (let word = 0; word < words; word++) bits[word]! &= ~tries.textless.bits[word]!;
        const budget = new Budget(limits.maxMaskSteps);
        walk(automaton, state, tries.textless.trie, canPause, budget, bits);
      }
    }
    tries.odd.forEach(judge);
  }
  const bitsOf = (state: S) => masks.get(automaton.key(state), (fresh) => makeMask(state, fresh));
  return {
    name,
    start: () => start,
    advance,
    mask(state, out) {
      const bits = bitsOf(state);
      if (out.length < bits.length) {
        throw new RangeError(`The mask has ${out.length} words: it needs ${bits.length}`);
      }
      for (let word = 0; word < bits.length; word++) out[word]! |= bits[word]!;
    },
    accepting: (state) => automaton.isAccepting(state),
    forced: (state) =>
      forcedTokens(state, { bitsOf, advance, accepting: (s) => automaton.isAccepting(s) }),
  };
}

/** Sets the bits of the tokens that lead to a state where a token may end. */
function walk<S>(
  automaton: ByteAutomaton<S>,
  start: S,
  trie: ByteTrie,
  canPause: (state: S) => boolean,
  budget: Budget,
  bits: Uint32Array,
): void {
  const { size, nodes, skip, first, tokens } = trie;
  const path = new Array<S>(trie.maxDepth + 1).fill(start);
  for (let node = 0; node < size;) {
    const word = nodes[node]!;
    const depth = word >>> 9;
    const to = automaton.step(path[depth]!, word & 0xff, budget);
    if (to === null) {
      node = skip[node]!;
      continue;
    }
    path[depth + 1] = to;
    if ((word & endsHere) !== 0 && canPause(to)) {
      for (let i = first[node]!, end = first[node + 1]!; i < end; i++) {
        bits[tokens[i]! >> 5]! |= 1 << (tokens[i]! & 31);
      }
    }
    node++;
  }
}

/** Automata over bytes as constraints over tokens. */
import type { Constraint } from "../constraint.ts";
import type { TokenId, Vocab } from "../model.ts";
import { forcedTokens } from "./forced.ts";
import { Budget } from "./regex/budget.ts";
import { buildTrie, type ByteTrie, byteTrie, endsHere } from "./regex/byte_trie.ts";
import { MaskCache } from "./regex/mask_cache.ts";

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
}

/** How much work and memory the masks of one constraint may take. */
export interface ByteConstraintLimits {
  /** Bytes followed for one mask or one token. */
  readonly maxMaskSteps: number;
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
export function byteConstraint<S>(
  name: string,
  automaton: ByteAutomaton<S>,
  start: S,
  vocab: Vocab,
  limits: ByteConstraintLimits,
): MaskedConstraint<S> {
  const words = Math.ceil(vocab.size / 32);
  const tries = triesOf(vocab);
  const masks = new MaskCache(words, limits.cachedMaskBytes);
  const canPause = (state: S) => tries.canSplit || automaton.isBoundary(state);

  function advance(state: S, token: TokenId): S | undefined {
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
    const budget = new Budget(limits.maxMaskSteps);
    const free = Math.min(automaton.freeCharacters?.(state) ?? 0, tries.plain.length - 1);
    if (free > 0) bits.set(tries.plain[free]!);
    walk(automaton, state, free > 0 ? tries.rest : tries.all, canPause, budget, bits);
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

/** The tokens of a vocabulary, and those that may stand anywhere in free text. */
interface Tries {
  readonly all: ByteTrie;
  /**
   * By number of characters: bits of the tokens of at most so many whole characters without quotes,
   * backslashes and controls. The last one has them all.
   */
  readonly plain: readonly Uint32Array[];
  /** The other tokens. */
  readonly rest: ByteTrie;
  /** Whether every byte inside a character is a token, so that tokens may end there. */
  readonly canSplit: boolean;
}

const known = new WeakMap<Vocab, Tries>();

/** Whether texts of ASCII characters can always be finished. */
export function canWriteAscii(vocab: Vocab): boolean {
  const { single } = byteTrie(vocab);
  return single.subarray(0x20, 0x7f).every((has) => has === 1);
}

/** Whether every character can be finished, whatever its bytes. */
export function canWriteAnything(vocab: Vocab): boolean {
  const { single } = byteTrie(vocab);
  return canWriteAscii(vocab) && single.subarray(0x80, 0xc0).every((has) => has === 1) &&
    single.subarray(0xc2, 0xf5).every((has) => has === 1);
}

function triesOf(vocab: Vocab): Tries {
  let tries = known.get(vocab);
  if (!tries) {
    const all = byteTrie(vocab);
    const plain = plainByLength(vocab, all);
    const rest = buildTrie(vocab, (bytes) => !isPlain(bytes));
    const canSplit = all.single.subarray(0x80, 0xc0).every((has) => has === 1);
    known.set(vocab, tries = { all, plain, rest, canSplit });
  }
  return tries;
}

function plainByLength(vocab: Vocab, { isText }: ByteTrie): Uint32Array[] {
  const byLength: number[][] = [[]];
  for (let token = 0; token < vocab.size; token++) {
    const bytes = vocab.bytes(token);
    if (!isText[token] || !isPlain(bytes)) continue;
    const characters = bytes.reduce((sum, byte) => sum + ((byte & 0xc0) === 0x80 ? 0 : 1), 0);
    while (byLength.length <= characters) byLength.push([]);
    byLength[characters]!.push(token);
  }
  let bits = new Uint32Array(Math.ceil(vocab.size / 32));
  return byLength.map((tokens) => {
    bits = bits.slice();
    for (const token of tokens) bits[token >> 5]! |= 1 << (token & 31);
    return bits;
  });
}

const decoder = new TextDecoder("utf-8", { fatal: true });

function isPlain(bytes: Uint8Array): boolean {
  if (bytes.some((byte) => byte < 0x20 || byte === 0x22 || byte === 0x5c)) return false;
  try {
    decoder.decode(bytes);
    return true;
  } catch {
    return false;
  }
}

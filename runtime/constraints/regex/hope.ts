/** Which places of a pattern the tokens of a vocabulary can lead to an end. */
import type { Budget } from "./budget.ts";
import type { ByteTrie } from "./byte_trie.ts";
import { Dfa, type DfaState } from "./dfa.ts";
import { type Nfa, reaching } from "./nfa.ts";

/** What a walk over the trie tells about a node where tokens end. */
export type Visit = (node: number, state: DfaState) => void;

/** Follows all tokens at once and visits every node of the trie that the pattern allows. */
export function walkTrie(
  trie: ByteTrie,
  dfa: Dfa,
  start: DfaState,
  budget: Budget,
  visit: Visit,
): void {
  const { size, byte, depth, skip, first } = trie;
  const { classOf } = dfa;
  const stack: DfaState[] = [start];
  let visited = 0;
  for (let node = 0; node < size; visited++) {
    const at = depth[node]!;
    const from = stack[at]!;
    let to = from.next[classOf[byte[node]!]!];
    if (to === undefined) to = dfa.step(from, byte[node]!, budget);
    if (to === null) {
      node = skip[node]!;
      continue;
    }
    stack[at + 1] = to;
    if (first[node]! < first[node + 1]!) visit(node, to);
    node++;
  }
  // Bounded by the vocabulary, so counting afterwards is soon enough.
  budget.spend(visited);
}

/**
 * One byte per state of the automaton: 1 if some tokens lead from there to the end. Where every byte
 * is a token this is the same as reaching the end by bytes. Other vocabularies may lack the bytes in
 * between, and places that single bytes cannot finish are tried with all tokens until none is added.
 */
export function hopefulPlaces(
  nfa: Nfa,
  alive: Uint8Array,
  trie: ByteTrie,
  budget: Budget,
): Uint8Array {
  const isUsable = (lo: number, hi: number) => trie.single.subarray(lo, hi + 1).includes(1);
  let hopeful = reaching(nfa, [nfa.accept], isUsable, budget);
  const isOpen = (place: number) => alive[place] === 1 && hopeful[place] === 0;
  let open = Array.from({ length: nfa.size }, (_, place) => place).filter(isOpen);
  if (open.length === 0) return hopeful;
  const dfa = new Dfa({ nfa, alive, hopeful: alive, cachedStates: 1024 });
  for (let hasGrown = true; hasGrown;) {
    const added = open.filter((place) => {
      const state = dfa.stateAt([place], budget);
      return state !== null && leadsTo(hopeful, state, dfa, trie, budget);
    });
    hasGrown = added.length > 0;
    if (hasGrown) {
      const goals = added.concat(Array.from(hopeful.keys()).filter((place) => hopeful[place]));
      hopeful = reaching(nfa, goals, isUsable, budget);
      open = open.filter(isOpen);
    }
  }
  return hopeful;
}

function leadsTo(
  goals: Uint8Array,
  start: DfaState,
  dfa: Dfa,
  trie: ByteTrie,
  budget: Budget,
): boolean {
  let isFound = false;
  walkTrie(trie, dfa, start, budget, (_, { places }) => {
    isFound ||= places.some((place) => goals[place] === 1);
  });
  return isFound;
}

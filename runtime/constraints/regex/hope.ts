/** Which places of a pattern the tokens of a vocabulary can lead to an end. */
import type { Budget } from "./budget.ts";
import type { ByteTrie } from "./byte_trie.ts";
import { Dfa } from "./dfa.ts";
import { type Nfa, reaching } from "./nfa.ts";
import { allowTokens } from "./walk.ts";

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
  for (let hasGrown = open.length > 0; hasGrown;) {
    const dfa = new Dfa({ nfa, alive, hopeful, cachedStates: 1024 });
    const added = open.filter((place) => {
      const state = dfa.stateAt([place], budget);
      const bits = new Uint32Array(Math.ceil(trie.isText.length / 32));
      if (state) allowTokens(trie, dfa, state, budget, bits);
      return bits.some((word) => word !== 0);
    });
    hasGrown = added.length > 0;
    const goals = added.concat(Array.from(hopeful.keys()).filter((place) => hopeful[place]));
    hopeful = reaching(nfa, goals, isUsable, budget);
    open = open.filter(isOpen);
  }
  return hopeful;
}

/** All tokens that may follow, by one walk over the bytes of the vocabulary. */
import type { Budget } from "./budget.ts";
import { type ByteTrie, endsHere } from "./byte_trie.ts";
import type { Dfa, DfaState } from "./dfa.ts";

/**
 * Sets the bit of every token that leads from `start` to a hopeful state, least significant first;
 * `bits` is [ceil(vocab / 32)].
 *
 * @throws {ConstraintTooComplexError} when the budget is spent
 */
export function allowTokens(
  trie: ByteTrie,
  dfa: Dfa,
  start: DfaState,
  budget: Budget,
  bits: Uint32Array,
): void {
  const { size, nodes, skip, first, tokens } = trie;
  const { classOf } = dfa;
  /** The state before the byte at each depth; filled up front, so that it never grows. */
  const path = new Array<DfaState>(trie.maxDepth + 1).fill(start);
  let visited = 0;
  for (let node = 0; node < size; visited++) {
    const word = nodes[node]!;
    const depth = word >>> 9;
    const from = path[depth]!;
    let to = from.next[classOf[word & 0xff]!];
    if (to === undefined) to = dfa.step(from, word & 0xff, budget);
    if (to === null) {
      node = skip[node]!;
      continue;
    }
    path[depth + 1] = to;
    if ((word & endsHere) !== 0 && to.isHopeful) {
      for (let i = first[node]!, end = first[node + 1]!; i < end; i++) {
        bits[tokens[i]! >> 5]! |= 1 << (tokens[i]! & 31);
      }
    }
    node++;
  }
  // Bounded by the vocabulary, so counting afterwards is soon enough.
  budget.spend(visited);
}

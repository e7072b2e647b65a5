/**
 * Byte-pair merging: start from single symbols, merge the neighbours whose merge has the lowest
 * rank (leftmost first among equals) until none is left.
 *
 * Source: Sennrich et al. 2016, https://arxiv.org/abs/1508.07909, algorithm 1, applied in rank
 * order as in GPT-2's encoder.
 * Differs: a linked list and a heap of candidates make it O(n log n) in the length of the word, so
 * that a word of a million letters is nothing special.
 */
import type { PairLookup } from "./pair_table.ts";

const POSITIONS = 2 ** 32; // heap keys are rank * POSITIONS + position, exact below 2^53

/** Merges symbols in place of a copy; the argument is not changed. */
export type Merge = (symbols: ArrayLike<number>) => number[];

/** A {@link Merge} over one table. It keeps scratch memory of a few hundred kilobytes at most. */
export function createMerge(pairs: PairLookup): Merge {
  const keep = 4096;
  let scratch = allocate(keep);
  return (symbols) => {
    const n = symbols.length;
    if (n < 2) return Array.from(symbols);
    if (n <= keep) return run(symbols, pairs, scratch);
    scratch = allocate(n);
    const merged = run(symbols, pairs, scratch);
    scratch = allocate(keep);
    return merged;
  };
}

interface Scratch {
  /** Symbol at each position. */
  readonly symbols: Int32Array;
  readonly next: Int32Array;
  readonly previous: Int32Array;
  /** Slot of the merge with the right neighbour, -1 for none or a merged-away position. */
  readonly slots: Int32Array;
  readonly heap: Heap;
}

function allocate(n: number): Scratch {
  return {
    symbols: new Int32Array(n),
    next: new Int32Array(n),
    previous: new Int32Array(n),
    slots: new Int32Array(n),
    heap: createHeap(3 * n), // n candidates at first, two more per merge
  };
}

function run(input: ArrayLike<number>, pairs: PairLookup, scratch: Scratch): number[] {
  const { symbols, next, previous, slots, heap } = scratch;
  const n = input.length;
  const propose = (at: number): void => {
    const right = next[at]!;
    const slot = right < n ? pairs.find(symbols[at]!, symbols[right]!) : -1;
    slots[at] = slot;
    if (slot >= 0) heap.push(pairs.rank(slot) * POSITIONS + at);
  };
  for (let at = 0; at < n; at++) {
    symbols[at] = input[at]!;
    next[at] = at + 1;
    previous[at] = at - 1;
  }
  for (let at = 0; at < n; at++) propose(at);
  while (heap.size > 0) {
    const key = heap.pop();
    const rank = Math.floor(key / POSITIONS);
    const at = key - rank * POSITIONS;
    const slot = slots[at]!;
    if (slot < 0 || pairs.rank(slot) !== rank) continue; // an outdated candidate
    const gone = next[at]!;
    symbols[at] = pairs.merged(slot);
    slots[gone] = -1;
    next[at] = next[gone]!;
    if (next[at]! < n) previous[next[at]!] = at;
    propose(at);
    if (previous[at]! >= 0) propose(previous[at]!);
  }
  const out: number[] = [];
  for (let at = 0; at < n; at = next[at]!) out.push(symbols[at]!);
  return out;
}

interface Heap {
  readonly size: number;
  push(key: number): void;
  /** The smallest key. */
  pop(): number;
}

/** A binary heap of doubles. It must be popped until empty before it is used again. */
function createHeap(capacity: number): Heap {
  const keys = new Float64Array(capacity);
  let size = 0;
  return {
    get size() {
      return size;
    },
    push(key) {
      let at = size++;
      while (at > 0) {
        const parent = (at - 1) >> 1;
        if (keys[parent]! <= key) break;
        keys[at] = keys[parent]!;
        at = parent;
      }
      keys[at] = key;
    },
    pop() {
      const top = keys[0]!;
      const key = keys[--size]!;
      let at = 0;
      for (;;) {
        let child = 2 * at + 1;
        if (child >= size) break;
        if (child + 1 < size && keys[child + 1]! < keys[child]!) child++;
        if (keys[child]! >= key) break;
        keys[at] = keys[child]!;
        at = child;
      }
      keys[at] = key;
      return top;
    },
  };
}

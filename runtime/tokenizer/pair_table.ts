/**
 * Which two neighbouring symbols merge into which third, and how early: the merge list of a
 * byte-pair encoding as an open-addressing hash table over integers. Half full at most, so a look-up
 * touches one or two places.
 */

/** Merges of neighbouring symbols. Lower ranks merge first. */
export interface PairLookup {
  /** Where the merge of `left` and `right` is kept, or -1 if they do not merge. */
  find(left: number, right: number): number;
  /** Rank of the merge at `slot`, in [0, 2^21). */
  rank(slot: number): number;
  /** The symbol the merge at `slot` makes. */
  merged(slot: number): number;
}

/** A {@link PairLookup} that is being filled. */
export interface PairTable extends PairLookup {
  /** Number of pairs. */
  readonly size: number;
  /** Adds a merge; a pair that is already there keeps its lower rank. */
  add(left: number, right: number, rank: number, merged: number): void;
}

/** Ranks are below this, so that rank and position fit one exact double (see bpe.ts). */
export const MAX_RANKS = 2 ** 21;

/**
 * An empty table with room for `capacity` pairs of symbols in [0, 2^31).
 */
export function createPairTable(capacity: number): PairTable {
  const bits = Math.max(4, Math.ceil(Math.log2(capacity + 1)) + 1);
  const mask = 2 ** bits - 1;
  const lefts = new Int32Array(mask + 1).fill(-1);
  const rights = new Int32Array(mask + 1);
  const ranks = new Int32Array(mask + 1);
  const results = new Int32Array(mask + 1);
  let size = 0;

  /** The pair's slot, or the free slot where it would go. */
  const seek = (left: number, right: number): number => {
    let hash = Math.imul(left, 0x9e3779b1) ^ Math.imul(right, 0x85ebca77);
    hash = Math.imul(hash ^ (hash >>> 15), 0xc2b2ae3d);
    let slot = (hash ^ (hash >>> 13)) & mask;
    while (lefts[slot] !== -1 && (lefts[slot] !== left || rights[slot] !== right)) {
      slot = (slot + 1) & mask;
    }
    return slot;
  };
  return {
    get size() {
      return size;
    },
    find(left, right) {
      const slot = seek(left, right);
      return lefts[slot] === -1 ? -1 : slot;
    },
    rank: (slot) => ranks[slot]!,
    merged: (slot) => results[slot]!,
    add(left, right, rank, merged) {
      if (rank >= MAX_RANKS) throw new RangeError(`Cannot hold more than ${MAX_RANKS} ranks`);
      const slot = seek(left, right);
      if (lefts[slot] === -1) {
        if (++size > capacity) throw new RangeError(`Cannot hold more than ${capacity} pairs`);
      } else if (ranks[slot]! <= rank) return;
      lefts[slot] = left;
      rights[slot] = right;
      ranks[slot] = rank;
      results[slot] = merged;
    },
  };
}

/**
 * The shape of draft trees by measured acceptance: of all trees of a size and depth the one that keeps
 * most tokens, if the j-th child of a node is the one kept with the same probability everywhere.
 *
 * Source: Chen et al. 2024, "Sequoia", https://arxiv.org/abs/2402.12374. Differs: the largest value first,
 * which gives the paper's tree where probabilities fall with the rank; only so many nodes of a level have
 * children, since each of them takes a sequence of the draft model.
 */

/** Children of a node, each with its own. */
export type Shape = readonly Shape[];

/** How probably the child of each rank is the one kept; learned round by round. */
export interface Ranks {
  /** Falling with the rank. */
  rates(): readonly number[];
  /** @param children of a node that was reached @param kept rank of the one kept, below 0 = none */
  record(children: number, kept: number): void;
}

/** Of drafts of medium strength at temperature 1; they count as {@link priorWeight} nodes. */
const prior = [0.67, 0.11, 0.05, 0.04, 0.03, 0.02, 0.015, 0.01] as const;
const priorWeight = 4;

/** Nobody was kept yet. */
export function createRanks(): Ranks {
  const reached = prior.map(() => priorWeight);
  const kept = prior.map((rate) => rate * priorWeight);
  return {
    rates() {
      let least = 1;
      return kept.map((count, i) => least = Math.min(least, count / reached[i]!));
    },
    record(children, rank) {
      for (let i = 0; i < Math.min(children, reached.length); i++) reached[i]! += 1;
      if (rank >= 0 && rank < kept.length) kept[rank]! += 1;
    },
  };
}

interface Size {
  /** Nodes beside the root. */
  readonly nodes: number;
  readonly depth: number;
  /** Most nodes of a level that have children. */
  readonly width: number;
}

/** A node, or a place for one. */
interface Place {
  readonly parent: Place | undefined;
  readonly level: number;
  readonly rank: number;
  /** Probability that it is kept. */
  readonly value: number;
  readonly children: Place[];
}

/** The tree with the largest sum of values, its nodes' probabilities to be kept. */
export function shapeOf({ nodes, depth, width }: Size, rates: readonly number[]): Shape {
  const root: Place = { parent: undefined, level: 0, rank: 0, value: 1, children: [] };
  const parents = new Map<number, number>();
  const open: Place[] = [];
  const offer = (parent: Place, rank: number) => {
    const rate = rates[rank];
    if (rate === undefined || parent.level === depth) return;
    open.push({ parent, level: parent.level + 1, rank, value: parent.value * rate, children: [] });
  };
  offer(root, 0);
  for (let left = nodes; left > 0 && open.length > 0;) {
    const place = takeBest(open);
    const parent = place.parent!;
    if (place.rank === 0) {
      const used = parents.get(parent.level) ?? 0;
      if (used === width) continue;
      parents.set(parent.level, used + 1);
    }
    parent.children.push(place);
    left--;
    offer(parent, place.rank + 1);
    offer(place, 0);
  }
  return childrenOf(root);
}

function takeBest(open: Place[]): Place {
  let best = 0;
  for (let i = 1; i < open.length; i++) if (open[i]!.value > open[best]!.value) best = i;
  return open.splice(best, 1)[0]!;
}

function childrenOf({ children }: Place): Shape {
  return children.map(childrenOf);
}

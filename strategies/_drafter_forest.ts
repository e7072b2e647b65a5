/**
 * Trees from a draft model, for both rules that are exact on trees.
 *
 * `coupled`, exact for any tree: several first tokens, each continued to a chain by the draft's own picks.
 * The first tokens are the likeliest under the noise of the position: children as in Gumbel-top-k (Kool et
 * al. 2019, https://arxiv.org/abs/1903.06059) with the noise the target uses, so that the first child is
 * the target's pick wherever the two laws agree. Branches below the root would need the draft's logits at
 * every node, where chains only need it to decode by itself.
 * `ratio`: trees that branch at every node, in the shape that keeps most by the acceptance so far
 * (`_tree_shape.ts`), drawn layer by layer (`_drafter_layers.ts`).
 */
import { largest, type Seed, type Session, tokenGumbel, warpedLogprobs } from "../runtime/mod.ts";
import type { Drafter, DraftTree, ModelDraftOptions } from "./_drafter.ts";
import { drawLayers } from "./_drafter_layers.ts";
import { createRanks, type Ranks, shapeOf } from "./_tree_shape.ts";

type DraftSession = Session<"edit" | "generate" | "sample" | "logits">;

/** How a forest is drafted. */
export interface ForestOptions extends ModelDraftOptions {
  /** Most branches that go on at a time. */
  readonly chains: number;
  /** Most nodes of a tree that is drawn. */
  readonly nodes: number;
  readonly stopTokens: ReadonlySet<number>;
  /** Whether chains go on past those. */
  readonly ignoreStop: boolean;
}

/**
 * Drafts trees whose branches share steps and the prefix.
 *
 * A constraint does not shape the proposals: what it forbids is never picked by the target.
 */
export function forestDrafter(
  root: DraftSession,
  options: ForestOptions,
): Drafter {
  // At temperature 0 a draw without replacement would give one child only.
  const chance = options.sampling.temperature > 0 ? options.chance : undefined;
  let session = root;
  const ranks = createRanks();
  let forks: readonly DraftSession[] = [];
  let tree: DraftTree = { tokens: [], parents: [] };
  return {
    propose: () => Promise.resolve([]),
    async proposeTree(depth) {
      if (chance) {
        const size = { nodes: options.nodes, depth, width: options.chains };
        const drawn = drawLayers(session, shapeOf(size, ranks.rates()), { ...options, chance });
        for await (const open of drawn.layers) forks = open;
        return tree = drawn.tree;
      }
      const [row] = await session.logits();
      const firsts = firstTokens(row!, session, options);
      forks = firsts.map((first) => {
        const fork = session.fork();
        fork.append([first]);
        return fork;
      });
      return treeOf(await pickedPaths(forks, firsts, depth, options));
    },
    settle({ drafts, accepted, token }) {
      const base = session.length;
      const kept = drafts.slice(0, accepted).map((draft) => draft.token);
      if (chance) recordPath(ranks, tree, kept);
      const [chosen, shared] = closest(forks, base, kept);
      for (const fork of forks) if (fork !== chosen) fork[Symbol.dispose]();
      forks = [];
      if (chosen) {
        session[Symbol.dispose]();
        session = chosen;
        session.truncate(base + shared);
      }
      session.append([...kept.slice(shared), token]);
    },
    [Symbol.dispose]() {
      for (const fork of [session, ...forks]) fork[Symbol.dispose]();
    },
  };
}

/** Which child was kept at each node of a path; at its end none. */
function recordPath(ranks: Ranks, { tokens, parents }: DraftTree, path: readonly number[]): void {
  let node = -1;
  for (let i = 0; i <= path.length; i++) {
    const children = tokens.flatMap((_, child) => parents[child] === node ? [child] : []);
    const rank = children.findIndex((child) => tokens[child] === path[i]);
    ranks.record(children.length, rank);
    if (rank < 0) return;
    node = children[rank]!;
  }
}

/** The fork that has most of a path, and how much; none if no fork has its first token. */
function closest(
  forks: readonly DraftSession[],
  base: number,
  path: readonly number[],
): readonly [DraftSession | undefined, number] {
  let best: DraftSession | undefined;
  let most = 0;
  for (const fork of forks) {
    const { tokens } = fork;
    let shared = 0;
    while (shared < path.length && tokens[base + shared] === path[shared]) shared++;
    if (shared > most) [best, most] = [fork, shared];
  }
  return [best, most];
}

/** Chains go on by themselves, with the noise of their positions. */
function pickedPaths(
  forks: readonly DraftSession[],
  firsts: readonly number[],
  depth: number,
  { sampling, ignoreStop, stopTokens }: ForestOptions,
): Promise<readonly (readonly number[])[]> {
  return Promise.all(forks.map(async (fork, i) => {
    const tokens = [firsts[i]!];
    if (depth > 1 && (ignoreStop || !stopTokens.has(tokens[0]!))) {
      const asked = { sampling, maxTokens: depth - 1, ignoreStop };
      for await (const { token } of fork.generate(asked)) tokens.push(token);
    }
    return tokens;
  }));
}

function firstTokens(
  row: Float32Array,
  session: DraftSession,
  { sampling, promptLength, chains }: ForestOptions,
): readonly number[] {
  const isGreedy = sampling.temperature === 0;
  const scores = warpedLogprobs(row, {
    // At temperature 0 the law is one token; what comes second best is in the law at 1.
    sampling: isGreedy ? { ...sampling, temperature: 1, ...noFilters } : sampling,
    promptTokens: session.tokens.slice(0, promptLength),
    completionTokens: session.tokens.slice(promptLength),
  });
  if (!isGreedy) addNoise(scores, sampling.seed, session.length);
  return Array.from(largest(scores, chains)).filter((token) => scores[token]! > -Infinity);
}

const noFilters = { topK: 0, topP: 1, minP: 0, typicalP: 1 };

function addNoise(scores: Float64Array, seed: Seed, position: number): void {
  const noise = new Float64Array(4);
  for (let token = 0; token < scores.length; token++) {
    if ((token & 3) === 0) tokenGumbel(noise, seed, position, token >> 2);
    scores[token]! += noise[token & 3]!;
  }
}

function treeOf(paths: readonly (readonly number[])[]): DraftTree {
  const tokens: number[] = [];
  const parents: number[] = [];
  for (const path of paths) {
    path.forEach((token, i) => {
      parents.push(i === 0 ? -1 : tokens.length - 1);
      tokens.push(token);
    });
  }
  return { tokens, parents };
}

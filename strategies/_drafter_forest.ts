/**
 * Trees from a draft model for the rule `coupled`: its likeliest first tokens under the noise of the
 * position, each continued to a chain by the draft's own picks.
 *
 * Source: children as in Gumbel-top-k (Kool et al. 2019, https://arxiv.org/abs/1903.06059) with the noise
 * the target uses, so that the first child is the target's pick wherever the two laws agree. Differs from
 * trees that branch at every level: one branching, since that is where chains are lost most.
 */
import { largest, type Seed, type Session, tokenGumbel, warpedLogprobs } from "../runtime/mod.ts";
import type { Drafter, DraftTree, ModelDraftOptions } from "./_drafter.ts";

type DraftSession = Session<"edit" | "generate" | "sample" | "logits">;

/** How a forest is drafted. */
export interface ForestOptions extends ModelDraftOptions {
  /** Most chains. */
  readonly chains: number;
  readonly stopTokens: ReadonlySet<number>;
  /** Whether chains go on past those. */
  readonly ignoreStop: boolean;
}

/**
 * Drafts `chains` chains side by side; they share steps and the prefix.
 *
 * A constraint does not shape the proposals: what it forbids is never picked by the target.
 */
export function forestDrafter(
  root: DraftSession,
  options: ForestOptions,
): Drafter {
  const { sampling, ignoreStop } = options;
  let session = root;
  let forks: readonly DraftSession[] = [];
  return {
    propose: () => Promise.resolve([]),
    async proposeTree(depth) {
      const [row] = await session.logits();
      const firsts = firstTokens(row!, session, options);
      const paths = await Promise.all(firsts.map(async (first) => {
        const fork = session.fork();
        forks = [...forks, fork];
        fork.append([first]);
        const path = [first];
        if (depth === 1 || (!ignoreStop && options.stopTokens.has(first))) return path;
        const asked = { sampling, maxTokens: depth - 1, ignoreStop };
        for await (const { token } of fork.generate(asked)) path.push(token);
        return path;
      }));
      return treeOf(paths);
    },
    settle({ drafts, accepted, token }) {
      const base = session.length;
      const kept = drafts.slice(0, accepted).map((draft) => draft.token);
      const holds = (fork: DraftSession) => kept.every((id, i) => fork.tokens[base + i] === id);
      const chosen = accepted > 0 ? forks.find(holds) : undefined;
      for (const fork of forks) if (fork !== chosen) fork[Symbol.dispose]();
      forks = [];
      if (chosen) {
        session[Symbol.dispose]();
        session = chosen;
        session.truncate(base + accepted);
      }
      session.append([token]);
    },
    [Symbol.dispose]() {
      for (const fork of [session, ...forks]) fork[Symbol.dispose]();
    },
  };
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

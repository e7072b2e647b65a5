/**
 * Trees from a draft model: several first tokens, each continued to a chain by the draft's own picks.
 *
 * For the rule `coupled` the first tokens are the likeliest under the noise of the position: children as
 * in Gumbel-top-k (Kool et al. 2019, https://arxiv.org/abs/1903.06059) with the noise the target uses, so
 * that the first child is the target's pick wherever the two laws agree. For `ratio` they are drawn
 * without replacement and keep their laws, as recursive rejection sampling needs it (Yang et al. 2024,
 * "Multi-candidate speculative decoding", https://arxiv.org/abs/2401.06706). Differs from trees that branch
 * at every level: one branching, since that is where chains are lost most.
 */
import { largest, type Seed, type Session, tokenGumbel, warpedLogprobs } from "../runtime/mod.ts";
import { type Chance, exponentiate } from "./_chance.ts";
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

/** A chain of proposals, and the laws its tokens after the first were drawn with. */
interface Path {
  readonly tokens: readonly number[];
  readonly laws: readonly Float64Array[];
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
  // At temperature 0 a draw without replacement would give one child only.
  const chance = options.sampling.temperature > 0 ? options.chance : undefined;
  let session = root;
  let forks: readonly DraftSession[] = [];
  const openChains = (firsts: readonly number[]) => {
    forks = firsts.map((first) => {
      const fork = session.fork();
      fork.append([first]);
      return fork;
    });
    return forks;
  };
  return {
    propose: () => Promise.resolve([]),
    async proposeTree(depth) {
      const [row] = await session.logits();
      if (!chance) {
        const firsts = firstTokens(row!, session, options);
        return treeOf(await pickedPaths(openChains(firsts), firsts, depth, options), undefined);
      }
      const law = lawOf(row!, session, options);
      const firsts = drawnApart(law, options.chains, chance);
      const paths = await drawnPaths(openChains(firsts), firsts, depth, { ...options, chance });
      return treeOf(paths, law);
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

/** Chains go on by themselves, with the noise of their positions. */
function pickedPaths(
  forks: readonly DraftSession[],
  firsts: readonly number[],
  depth: number,
  { sampling, ignoreStop, stopTokens }: ForestOptions,
): Promise<readonly Path[]> {
  return Promise.all(forks.map(async (fork, i) => {
    const tokens = [firsts[i]!];
    if (depth > 1 && (ignoreStop || !stopTokens.has(tokens[0]!))) {
      const asked = { sampling, maxTokens: depth - 1, ignoreStop };
      for await (const { token } of fork.generate(asked)) tokens.push(token);
    }
    return { tokens, laws: [] };
  }));
}

/** Chains go on by draws whose laws are kept; side by side, so that draws have one order. */
async function drawnPaths(
  forks: readonly DraftSession[],
  firsts: readonly number[],
  depth: number,
  options: ForestOptions & { readonly chance: Chance },
): Promise<readonly Path[]> {
  const { chance, ignoreStop, stopTokens } = options;
  const paths = firsts.map((first) => ({ tokens: [first], laws: [] as Float64Array[] }));
  for (let level = 1; level < depth; level++) {
    const going = paths.flatMap(({ tokens }, i) =>
      ignoreStop || !stopTokens.has(tokens.at(-1)!) ? [i] : []
    );
    const rows = await Promise.all(going.map((i) => forks[i]!.logits()));
    for (const [j, i] of going.entries()) {
      const law = lawOf(rows[j]![0]!, forks[i]!, options);
      const token = chance.draw(law);
      paths[i]!.laws.push(law);
      paths[i]!.tokens.push(token);
      forks[i]!.append([token]);
    }
  }
  return paths;
}

/** At most `count` different tokens, each drawn from what is left of the law. */
function drawnApart(law: Float64Array, count: number, chance: Chance): readonly number[] {
  const rest = law.slice();
  const tokens: number[] = [];
  while (tokens.length < count && rest.some((mass) => mass > 0)) {
    const token = chance.draw(rest);
    tokens.push(token);
    rest[token] = 0;
  }
  return tokens;
}

function lawOf(
  row: Float32Array,
  session: DraftSession,
  { sampling, promptLength }: ForestOptions,
): Float64Array {
  return exponentiate(warpedLogprobs(row, {
    sampling,
    promptTokens: session.tokens.slice(0, promptLength),
    completionTokens: session.tokens.slice(promptLength),
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

/** @param law of the first tokens; undefined = no laws are kept */
function treeOf(paths: readonly Path[], law: Float64Array | undefined): DraftTree {
  const tokens: number[] = [];
  const parents: number[] = [];
  const laws: (Float64Array | undefined)[] = [law];
  for (const path of paths) {
    path.tokens.forEach((token, i) => {
      parents.push(i === 0 ? -1 : tokens.length - 1);
      tokens.push(token);
      laws.push(path.laws[i]);
    });
  }
  return law ? { tokens, parents, laws } : { tokens, parents };
}

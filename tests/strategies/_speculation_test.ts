/** The law of rounds by enumeration: what is accepted and drawn is the target's, in chains and trees. */
import { assert, assertAlmostEquals, assertEquals } from "@std/assert";
import { greedySampling, type Session, type TokenTree } from "../../runtime/mod.ts";
import { type DraftTree, modelDrafter } from "../../strategies/_drafter.ts";
import { forestDrafter } from "../../strategies/_drafter_forest.ts";
import { createSchedule, declaredCosts } from "../../strategies/_gamma.ts";
import { Speculation } from "../../strategies/_speculation.ts";
import { createStopCheck } from "../../strategies/_stop_check.ts";
import { compileStops } from "../../strategies/_stop_strings.ts";
import { ownLaw } from "../../strategies/_combine.ts";
import { fakeVocab } from "../fakes/mod.ts";
import { hashLaw, lawOf, productLaw, roundsLaw, totalVariation } from "./_enumerate.ts";
import { InstantSession } from "./_instant_session.ts";

for (const rule of ["ratio", "block"] as const) {
  Deno.test(`${rule}: the law of rounds with filters and penalties on both sides is the target's`, async () => {
    const [p, q] = [hashLaw(1, 3), hashLaw(2, 3)];
    const sampling = { ...greedySampling, temperature: 0.8, topP: 0.95, frequencyPenalty: 0.6 };
    const vocab = fakeVocab({ pieces: ["a", "b", "c"], chat: false });
    const depth = 3;
    const exact = productLaw(
      (completionTokens) =>
        ownLaw(Float32Array.from(p(completionTokens), Math.log), {
          sampling,
          promptTokens: [0],
          completionTokens,
        }),
      depth,
    );
    for (const [gamma, temperature] of [[1, 0.8], [2, 0.8], [2, 1.5], [2, 0]] as const) {
      const law = await lawOf(async (chance) => {
        const draft = { sampling: { ...sampling, temperature }, promptLength: 1, chance };
        const speculation = new Speculation({
          target: new InstantSession(p),
          tree: undefined,
          drafter: modelDrafter(
            Object.assign(new InstantSession(q), { generate: unused, sample: unused }),
            { ...draft, stopBelow: 0.3 },
          ),
          rule,
          sampling,
          chance,
          schedule: createSchedule("fixed", gamma, declaredCosts(0, 0)),
          maxTokens: depth,
          logprobs: undefined,
          stops: createStopCheck({ vocab, strings: compileStops([]), tokens: new Set() }),
          constraint: undefined,
          masker: undefined,
        });
        const tokens: number[] = [];
        while (!speculation.reason) {
          await speculation.draft(1);
          tokens.push(...(await speculation.verify()).tokens.map(({ token }) => token));
        }
        return tokens;
      });
      assertAlmostEquals(totalVariation(law, exact), 0, 1e-6); // rows are f32
    }
  });
}

/** Rows of a tree at once; the session ends one token before the completion's last. */
class TreeSession extends InstantSession implements Session<"tree"> {
  tree({ tokens, parents }: TokenTree): Promise<readonly Float32Array[]> {
    const path = (node: number): readonly number[] =>
      node < 0 ? [] : [...path(parents[node]!), tokens[node]!];
    const base = this.tokens;
    return Promise.resolve(
      tokens.map((_, node) => {
        const completion = [...base, ...path(node)].slice(this.prompt.length);
        return Float32Array.from(this.law(completion), Math.log);
      }),
    );
  }
}

/** Law of the first three tokens of rounds with trees, and how often they branched below the root. */
async function treeLaw(
  { chains, gamma, temperature = 1, order = (tree) => tree }: {
    readonly chains: number;
    readonly gamma: number;
    readonly temperature?: number;
    /** What is done to the tree before it is verified. */
    readonly order?: (tree: DraftTree) => DraftTree;
  },
): Promise<{ readonly off: number; readonly branches: number }> {
  const [p, q] = [hashLaw(5, 3), hashLaw(6, 3)];
  const vocab = fakeVocab({ pieces: ["a", "b", "c"], chat: false });
  const sampling = { ...greedySampling, temperature: 1 };
  const shifted = (law: typeof p, prefix: readonly number[]) => (completion: readonly number[]) =>
    law([...prefix, ...completion]);
  const length = 3;
  let branches = 0;
  const law = await roundsLaw(async (prefix, chance) => {
    const target = new TreeSession(shifted(p, prefix), [0, ...prefix]);
    const draft = Object.assign(new InstantSession(shifted(q, prefix), [0, ...prefix]), {
      generate: unused,
      sample: unused,
    });
    const drafter = forestDrafter(draft, {
      sampling: { ...sampling, temperature },
      promptLength: prefix.length + 1,
      chance,
      stopBelow: 0,
      chains,
      nodes: chains * gamma,
      ignoreStop: true,
      stopTokens: new Set(),
    });
    const speculation = new Speculation({
      target,
      tree: target,
      drafter: {
        ...drafter,
        async proposeTree(depth) {
          const tree = await drafter.proposeTree!(depth);
          const inner = tree.parents.filter((parent) => parent >= 0);
          branches += inner.length - new Set(inner).size;
          return order(tree);
        },
      },
      rule: "ratio",
      sampling,
      chance,
      schedule: createSchedule("fixed", gamma, declaredCosts(0, 0)),
      maxTokens: gamma + 1,
      logprobs: undefined,
      stops: createStopCheck({ vocab, strings: compileStops([]), tokens: new Set() }),
      constraint: undefined,
      masker: undefined,
    });
    await speculation.draft(1);
    return (await speculation.verify()).tokens.map(({ token }) => token);
  }, length);
  return { off: totalVariation(law, productLaw(p, length)), branches };
}

Deno.test("ratio on trees: the law of rounds is the target's, for trees that branch at every node and draws of the target", async () => {
  const settings = [[1, 2, 1], [2, 1, 1], [2, 2, 1], [2, 3, 1], [3, 1, 0.7], [3, 2, 0.7], [
    3,
    1,
    0,
  ]];
  for (const [chains = 0, gamma = 0, temperature = 0] of settings) {
    const { off, branches } = await treeLaw({ chains, gamma, temperature });
    const name = `${chains} ${gamma} ${temperature}`;
    assertAlmostEquals(off, 0, 1e-6, name); // rows are f32
    assertEquals(branches > 0, chains > 1 && gamma > 1, `${name}: ${branches} branches`);
  }
});

Deno.test("negative control: siblings in the order of their ids instead of their draws change the law", async () => {
  // Leaves alone: swapping them moves no subtree.
  const byId = (tree: DraftTree) => ({ ...tree, tokens: tree.tokens.toSorted((a, b) => a - b) });
  assert((await treeLaw({ chains: 2, gamma: 1, order: byId })).off > 0.01);
});

function unused(): never {
  throw new Error("drafts that keep their laws ask for logits");
}

import { assert, assertAlmostEquals } from "@std/assert";
import { greedySampling, type SamplingParams } from "../../runtime/mod.ts";
import type { Chance } from "../../strategies/_chance.ts";
import {
  type Combination,
  contrast,
  ownLaw,
  weightedMean,
  weightedProduct,
} from "../../strategies/_combine.ts";
import { type Decider, ratioDecider } from "../../strategies/_deciders.ts";
import { Ensemble, type Framework } from "../../strategies/_ensemble.ts";
import { createStopCheck } from "../../strategies/_stop_check.ts";
import { compileStops } from "../../strategies/_stop_strings.ts";
import { fakeVocab } from "../fakes/mod.ts";
import { hashLaw, lawOf, productLaw, totalVariation } from "./_enumerate.ts";
import { InstantSession, type PrefixLaw } from "./_instant_session.ts";

const depth = 3;
const plain: SamplingParams = { ...greedySampling, temperature: 1 };

interface Setup {
  readonly laws: readonly PrefixLaw[];
  readonly combination: Combination;
  readonly framework?: Framework;
  readonly gamma?: number;
  readonly proposer?: number;
  readonly sampling?: SamplingParams;
  readonly decider?: (chance: Chance) => Decider;
}

async function run(setup: Setup, chance: Chance): Promise<readonly number[]> {
  const vocab = fakeVocab({ pieces: ["a", "b", "c"], chat: false });
  const ensemble = new Ensemble({
    sessions: setup.laws.map((law) => new InstantSession(law)),
    combination: setup.combination,
    decider: (setup.decider ?? ratioDecider)(chance),
    framework: setup.framework ?? "alternate",
    proposer: setup.proposer ?? 0,
    gamma: setup.gamma ?? 1,
    sampling: setup.sampling ?? plain,
    maxTokens: depth,
    logprobs: undefined,
    stops: createStopCheck({ vocab, strings: compileStops([]), tokens: new Set() }),
    constraint: undefined,
    masker: undefined,
  });
  const tokens: number[] = [];
  while (!ensemble.reason) tokens.push(...(await ensemble.advance()).map(({ token }) => token));
  return tokens;
}

/** Total variation between what comes out and the product of the combination. */
async function distance(setup: Setup): Promise<number> {
  const { laws, combination, sampling = plain } = setup;
  const exact = productLaw((completionTokens) => {
    const rows = laws.map((law) => Float32Array.from(law(completionTokens), Math.log));
    return combination.law(rows, { sampling, promptTokens: [0], completionTokens });
  }, depth);
  return totalVariation(await lawOf((chance) => run(setup, chance)), exact);
}

const two = [hashLaw(1, 3), hashLaw(2, 3)];
/** A combination of our own: the normalised root of the product. */
const rooted: Combination = {
  raw: (rows) => rows[0]!,
  law(rows, shape) {
    const [a, b] = rows.map((row) => ownLaw(row, shape));
    const root = a!.map((p, i) => Math.sqrt(p * b![i]!));
    const total = root.reduce((sum, p) => sum + p, 0);
    return root.map((p) => p / total);
  },
};
const combinations: Readonly<Record<string, Combination>> = {
  weighted: weightedMean([0.4, 0.6]),
  product: weightedProduct([0.3, 0.7]),
  contrastive: contrast(0.5, 0.1),
  rooted,
};

for (const [name, combination] of Object.entries(combinations)) {
  Deno.test(`${name}: the law of two models is the combination's in every framework`, async () => {
    for (
      const [framework, gamma] of [["plain", 1], ["naive", 1], ["naive", 2], ["alternate", 1], [
        "alternate",
        2,
      ], ["alternate", 3]] as const
    ) {
      const off = await distance({ laws: two, combination, framework, gamma });
      assertAlmostEquals(off, 0, 1e-6, `${framework} ${gamma}`); // rows are f32
    }
  });
}

Deno.test("filters, temperature and penalties: the law is still the combination's", async () => {
  const sampling = { ...plain, temperature: 0.7, topP: 0.9, frequencyPenalty: 0.8 };
  for (const [name, combination] of Object.entries(combinations)) {
    const off = await distance({ laws: two, combination, sampling, gamma: 2, proposer: 1 });
    assertAlmostEquals(off, 0, 1e-6, name);
  }
});

Deno.test("three models: the law is the combination's, naive and in turn", async () => {
  const laws = [hashLaw(3, 2), hashLaw(4, 2), hashLaw(5, 2)];
  const combination = weightedMean([0.5, 0.3, 0.2]);
  for (const framework of ["naive", "alternate"] as const) {
    for (const gamma of [1, 2]) {
      for (const proposer of [0, 2]) {
        const off = await distance({ laws, combination, framework, gamma, proposer });
        assertAlmostEquals(off, 0, 1e-6, `${framework} ${gamma} ${proposer}`);
      }
    }
  }
});

Deno.test("negative controls: an unchecked bonus and the law of another owner change the law", async () => {
  const combination = weightedMean([0.4, 0.6]);
  let rows: readonly Float32Array[] = [];
  const watched: Combination = {
    raw: combination.raw,
    law: (given, shape) => combination.law(rows = given, shape),
  };
  const shape = { sampling: plain, promptTokens: [], completionTokens: [] };
  const sameLaw = (a: Float64Array, b: Float64Array) => a.every((p, i) => p === b[i]);
  const wrong: Readonly<Record<string, (chance: Chance) => Decider>> = {
    "unchecked bonus": (chance) => {
      const right = ratioDecider(chance);
      return {
        ...right,
        check(token, proposed, law, position) {
          const isProposers = sameLaw(proposed, ownLaw(rows[0]!, shape));
          return isProposers ? right.check(token, proposed, law, position) : { kept: true, token };
        },
      };
    },
    "another owner's law": (chance) => {
      const right = ratioDecider(chance);
      return {
        ...right,
        check: (token, _, law, position) =>
          right.check(token, ownLaw(rows[0]!, shape), law, position),
      };
    },
  };
  const setup = { laws: two, combination: watched };
  assertAlmostEquals(await distance(setup), 0, 1e-6);
  for (const [name, decider] of Object.entries(wrong)) {
    const off = await distance({ ...setup, decider });
    assert(off > 0.005, `${name}: ${off}`);
  }
});

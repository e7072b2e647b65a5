/** Executions of rules between models, enumerated: each has the rule's law. */
import { assert, assertAlmostEquals } from "@std/assert";
import type { SamplingParams } from "../../runtime/mod.ts";
import type { Chance } from "../../strategies/_chance.ts";
import { Gated, type LargeVoice } from "../../strategies/_collaboration_gated.ts";
import { type CascadeParams, params as schema } from "../../strategies/_collaboration_params.ts";
import { smallSpeaks } from "../../strategies/_collaboration_rules.ts";
import { type Combination, ownLaw } from "../../strategies/_combine.ts";
import { type Decider, ratioDecider } from "../../strategies/_deciders.ts";
import { Ensemble, type Framework, type Gate } from "../../strategies/_ensemble.ts";
import { createStopCheck } from "../../strategies/_stop_check.ts";
import { compileStops } from "../../strategies/_stop_strings.ts";
import { fakeVocab } from "../fakes/mod.ts";
import { plain, rule, settings, shape } from "./_collaboration_settings.ts";
import { hashLaw, lawOf, productLaw, totalVariation } from "./_enumerate.ts";
import { InstantSession, type PrefixLaw } from "./_instant_session.ts";

const large = hashLaw(1, 3);
const small = hashLaw(2, 3);
const tuned = hashLaw(3, 3);
const depth = 3;

interface Setup {
  readonly rule: Combination;
  readonly framework: Framework;
  readonly gamma: number;
  readonly sampling?: SamplingParams;
  readonly decider?: (chance: Chance) => Decider;
  readonly models?: number;
}

const stops = () =>
  createStopCheck({
    vocab: fakeVocab({ pieces: ["a", "b", "c"], chat: false }),
    strings: compileStops([]),
    tokens: new Set(),
  });

function lawsOf(models: number): readonly PrefixLaw[] {
  return [large, small, tuned].slice(0, models);
}

async function runEnsemble(setup: Setup, chance: Chance): Promise<readonly number[]> {
  const { models = 2 } = setup;
  const ensemble = new Ensemble({
    sessions: lawsOf(models).map((law) => new InstantSession(law)),
    combination: setup.rule,
    decider: (setup.decider ?? ratioDecider)(chance),
    framework: setup.framework,
    proposer: models - 1,
    gamma: setup.gamma,
    sampling: setup.sampling ?? plain,
    maxTokens: depth,
    logprobs: undefined,
    stops: stops(),
    constraint: undefined,
    masker: undefined,
  });
  const tokens: number[] = [];
  while (!ensemble.reason) tokens.push(...(await ensemble.advance()).map(({ token }) => token));
  return tokens;
}

/** Law of the rule, position after position. */
function exactLaw(combination: Combination, sampling = plain, models = 2) {
  return productLaw((completionTokens) => {
    const rows = lawsOf(models).map((law) => Float32Array.from(law(completionTokens), Math.log));
    return combination.law(rows, { sampling, promptTokens: [0], completionTokens });
  }, depth);
}

async function distance(setup: Setup): Promise<number> {
  const exact = exactLaw(setup.rule, setup.sampling, setup.models);
  return totalVariation(await lawOf((chance) => runEnsemble(setup, chance)), exact);
}

for (const options of settings) {
  Deno.test(`${JSON.stringify(options)}: step and both speculative executions have the rule's law`, async () => {
    const models = options.rule === "proxy" ? 3 : 2;
    for (
      const [framework, gamma] of [["plain", 1], ["naive", 1], ["naive", 2], [
        "alternate",
        2,
      ]] as const
    ) {
      const off = await distance({ rule: rule(options), framework, gamma, models });
      assertAlmostEquals(off, 0, 1e-6, `${framework} ${gamma}`); // rows are f32
    }
  });
}

Deno.test("with temperature, filters and penalties the executions keep the rule's law", async () => {
  const sampling = { ...plain, temperature: 0.6, topP: 0.9, frequencyPenalty: 0.7 };
  for (const options of settings.filter(({ rule }) => rule !== "proxy")) {
    const off = await distance({ rule: rule(options), framework: "alternate", gamma: 2, sampling });
    assertAlmostEquals(off, 0, 1e-6, JSON.stringify(options));
  }
});

/** The large model as a voice whose draws can be enumerated. */
function chanceVoice(chance: Chance, sampling: SamplingParams): LargeVoice {
  const tokens: number[] = [];
  return {
    draw(unseen) {
      tokens.push(...unseen);
      const row = Float32Array.from(large(tokens), Math.log);
      const token = chance.draw(
        ownLaw(row, { sampling, promptTokens: [0], completionTokens: tokens }),
      );
      tokens.push(token);
      return Promise.resolve({ token, logprob: 0, top: [] });
    },
    [Symbol.dispose]: () => {},
  };
}

Deno.test("gated execution has the rule's law at every temperature", async () => {
  for (const sampling of [plain, { ...plain, temperature: 0.5, presencePenalty: 0.8 }]) {
    for (const options of settings.slice(0, 5).filter(({ rule }) => rule !== "oracle")) {
      const { rule: name, alpha, margin } = schema.parse(options);
      const law = await lawOf(async (chance) => {
        using gated = new Gated({
          small: new InstantSession(small),
          large: chanceVoice(chance, sampling),
          speaks: (row, shape) => smallSpeaks(name as "chow", row, { shape, alpha, margin }),
          draw: (row, shape) => chance.draw(ownLaw(row, shape)),
          sampling,
          maxTokens: depth,
          logprobs: undefined,
          stops: stops(),
          constraint: undefined,
          masker: undefined,
        });
        const tokens: number[] = [];
        while (!gated.reason) tokens.push(...(await gated.advance()).map(({ token }) => token));
        return tokens;
      });
      const off = totalVariation(law, exactLaw(rule(options), sampling));
      assertAlmostEquals(off, 0, 1e-6, JSON.stringify(options));
    }
  }
});

/** The small model goes on past its deferrals by the criterion of `options`. */
function gate(options: Partial<CascadeParams>, ahead: number): Gate {
  const { rule: name, alpha, margin } = schema.parse(options);
  return {
    ahead,
    speaks: (row, shape) => smallSpeaks(name as "chow", row, { shape, alpha, margin }),
  };
}

const gatedSettings: readonly Partial<CascadeParams>[] = [
  { rule: "chow", alpha: 0.45 },
  { rule: "chow", alpha: 0.6 },
  { rule: "margin", margin: 0.05 },
  { rule: "always" },
  { rule: "never" },
];

Deno.test("gated execution that goes on past deferrals has the rule's law, however many wait", async () => {
  for (const sampling of [plain, { ...plain, temperature: 0.5, presencePenalty: 0.8 }]) {
    for (const options of gatedSettings) {
      for (const [gamma, ahead] of [[1, 1], [1, 4], [2, 3], [2, 4], [4, 2]] as const) {
        const framework = gate(options, ahead);
        const off = await distance({ rule: rule(options), framework, gamma, sampling });
        assertAlmostEquals(off, 0, 1e-6, `${JSON.stringify(options)} ${gamma} ${ahead}`);
      }
    }
  }
});

Deno.test("negative control: a gate that lets the small model speak where the rule defers changes the law", async () => {
  const options = { rule: "chow", alpha: 0.45 } as const;
  const wrong = { rule: rule(options), framework: gate({ rule: "never" }, 4), gamma: 2 };
  assert(await distance(wrong) > 0.01);
});

Deno.test("negative controls: an unchecked bonus, tempered criteria and the large model's residual change the law", async () => {
  const token = rule({ alpha: 0.3 });
  let rows: readonly Float32Array[] = [];
  const watched: Combination = {
    raw: token.raw,
    law: (given, shape) => token.law(rows = given, shape),
  };
  const sameLaw = (a: Float64Array, b: Float64Array) => a.every((p, i) => p === b[i]);
  const unchecked = (chance: Chance): Decider => {
    const right = ratioDecider(chance);
    return {
      ...right,
      check(token, proposed, law, position) {
        const isLarges = sameLaw(proposed, ownLaw(rows[0]!, shape));
        return isLarges ? { kept: true, token } : right.check(token, proposed, law, position);
      },
    };
  };
  const residualOfLarge = (chance: Chance): Decider => ({
    draw: (law) => chance.draw(law),
    check(token, proposed, law) {
      if (chance.coin(law[token]!, proposed[token]!)) return { kept: true, token };
      const p = ownLaw(rows[0]!, shape);
      const rest = p.map((mass, v) => Math.max(0, mass - proposed[v]!));
      return { kept: false, token: chance.draw(rest.some((mass) => mass > 0) ? rest : p) };
    },
  });
  const setup: Setup = { rule: watched, framework: "alternate", gamma: 1 };
  assertAlmostEquals(await distance(setup), 0, 1e-6);
  for (const decider of [unchecked, residualOfLarge]) {
    const off = await distance({ ...setup, decider });
    assert(off > 0.005, `${decider.name}: ${off}`);
  }
  // Rows divided by the temperature before the criteria see them.
  const sampling = { ...plain, temperature: 0.5 };
  const tempered: Combination = {
    raw: token.raw,
    law: (rows, { sampling: _, ...rest }) =>
      token.law(rows.map((row) => row.map((logit) => logit / 0.5)), { ...rest, sampling: plain }),
  };
  const right = exactLaw(token, sampling);
  const law = await lawOf((chance) => runEnsemble({ ...setup, rule: tempered, sampling }, chance));
  const off = totalVariation(law, right);
  assert(off > 0.005, `tempered criteria: ${off}`);
});

// deno-lint-ignore-file camelcase -- parameters as on the wire
import { assert, assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import {
  choiceConstraint,
  createRng,
  greedySampling,
  seedFrom,
  type Session,
  type TokenTree,
} from "../../runtime/mod.ts";
import { getStrategy, RoleError, runStrategy, StrategyParamError } from "../../strategies/mod.ts";
import { type DraftTree, modelDrafter } from "../../strategies/_drafter.ts";
import { forestDrafter } from "../../strategies/_drafter_forest.ts";
import { createSchedule, declaredCosts } from "../../strategies/_gamma.ts";
import { Speculation } from "../../strategies/_speculation.ts";
import { createStopCheck } from "../../strategies/_stop_check.ts";
import { compileStops } from "../../strategies/_stop_strings.ts";
import { ownLaw } from "../../strategies/_combine.ts";
import { requestOf, runToEnd } from "../conformance/_strategy_run.ts";
import { assertDistribution } from "../_statistics.ts";
import { fakeVocab, hashModel, tableModel } from "../fakes/mod.ts";
import { hashLaw, lawOf, productLaw, roundsLaw, totalVariation } from "./_enumerate.ts";
import { InstantSession } from "./_instant_session.ts";

const speculative = getStrategy("speculative");
const never = { stopBias: -Infinity };

Deno.test("coupled equals sample token for token, for 200 random drafts, warpers, stops and choices", async () => {
  const rng = createRng(seedFrom(4));
  const pick = <T>(options: readonly T[]): T => options[Math.floor(rng.next() * options.length)]!;
  let accepted = 0;
  for (let i = 0; i < 200; i++) {
    const window = pick([1, 2, 3]);
    const model = hashModel({ window });
    const draft = hashModel({ window, seed: pick([1, 2]), spread: pick([1, 3, 6]) });
    const overrides = {
      sampling: {
        seed: seedFrom(i),
        temperature: pick([0, 0.3, 0.8, 1, 1.8]),
        topK: pick([0, 0, 5]),
        topP: pick([1, 1, 0.9]),
        minP: pick([0, 0, 0.1]),
        typicalP: pick([1, 1, 0.8]),
        repetitionPenalty: pick([1, 1, 1.3]),
        presencePenalty: pick([0, 0, 0.7]),
        frequencyPenalty: pick([0, 0, -0.4]),
        logitBias: pick([[], [[2, 1.5], [4, -100]]] as const),
      },
      choices: pick([1, 1, 3]),
      maxTokens: pick([1, 2, 7, 40]),
      stop: pick([[], ["ab", "po"]]),
      stopTokens: pick([[], [3]]),
      ignoreStop: pick([false, true]),
      logprobs: pick([undefined, 0, 2]),
      constraint: pick([
        undefined,
        undefined,
        choiceConstraint(model.vocab, ["abba", "cab", "abc"]),
      ]),
    };
    const params = {
      draft: pick(["model", "model", "prompt-lookup", "suffix", "token-recycling"]),
      gamma: pick([1, 2, 5, 16]),
      gamma_schedule: pick(["fixed", "heuristic", "ema"]),
      stop_below: pick([0, 0.2]),
      draft_temperature: pick(["same", 0, 1.5]),
    };
    const trees = ["model", "token-recycling"].includes(params.draft) &&
      params.gamma_schedule === "fixed";
    const plain = await runToEnd(requestOf("sample", model, overrides));
    const run = await runToEnd(requestOf(speculative, { model, draft }, {
      ...overrides,
      params: { ...params, tree_nodes: trees ? pick([0, 1, 7, 30]) : 0 },
    }));
    assertEquals(run.choices, plain.choices, JSON.stringify(params));
    accepted += run.result.metrics["accepted"]!;
  }
  assert(accepted > 300, `only ${accepted} proposals were accepted`);
});

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

Deno.test("ratio and block: texts follow the target's distribution (false alarms 1e-6 in all)", async () => {
  const vocab = fakeVocab({ pieces: ["a", "b"], chat: false });
  const model = tableModel({
    vocab,
    table: {
      "": { a: 0.5, b: 0.2, "<end>": 0.3 },
      a: { a: 0.1, b: 0.6, "<end>": 0.3 },
      b: { a: 0.7, "<end>": 0.3 },
    },
  });
  const draft = tableModel({ vocab, table: { "": { a: 0.3, b: 0.5, "<end>": 0.2 } } });
  const exact: Record<string, number> = { "": 0.3, a: 0.15, b: 0.06, aa: 0.05, ab: 0.3, ba: 0.14 };
  const texts = Object.keys(exact);
  for (
    const params of [
      { verify: "ratio" },
      { verify: "block" },
      { verify: "ratio", draft: "suffix" },
      { verify: "ratio", tree_nodes: 8, gamma: 2 },
      { verify: "ratio", tree_nodes: 8, draft: "token-recycling" },
    ]
  ) {
    const counts = texts.map(() => 0);
    const runs = Array.from(
      { length: 1500 },
      (_, seed) =>
        runToEnd(requestOf(speculative, { model, draft }, {
          params,
          prompt: [2],
          maxTokens: 2,
          sampling: { seed: seedFrom(seed) },
        })),
    );
    for (const { choices } of await Promise.all(runs)) counts[texts.indexOf(choices[0]!.text)]!++;
    assertDistribution(counts, Object.values(exact), 2e-7, JSON.stringify(params));
  }
});

Deno.test("a draft that is the target is accepted whole: ceil(N / (gamma + 1)) steps", async () => {
  for (const verify of ["coupled", "ratio", "block"]) {
    for (const gamma of [1, 3, 4]) {
      const model = hashModel(never);
      const { result } = await runToEnd(requestOf(speculative, { model, draft: hashModel(never) }, {
        params: { verify, gamma },
        maxTokens: 30,
      }));
      const { proposed, accepted, target_steps: steps } = result.metrics;
      assertEquals(accepted, proposed);
      assertEquals([steps, model.stats.steps], [
        Math.ceil(30 / (gamma + 1)),
        Math.ceil(30 / (gamma + 1)),
      ]);
    }
  }
});

Deno.test("a draft that is always wrong costs a step per token and changes nothing", async () => {
  const vocab = fakeVocab({ pieces: ["a", "b"], chat: false });
  const model = tableModel({ vocab, table: { "": { a: 1 } } });
  const draft = tableModel({ vocab, table: { "": { b: 1 } } });
  for (const verify of ["coupled", "ratio", "block"]) {
    const run = await runToEnd(requestOf(speculative, { model, draft }, {
      params: { verify },
      prompt: [0],
      maxTokens: 12,
    }));
    assertEquals(run.choices[0]!.text, "a".repeat(12));
    assertEquals([run.result.metrics["accepted"], run.result.metrics["target_steps"]], [0, 12]);
    // 12 tokens, and the proposals of rounds that had room for them.
    assert(run.result.usage.drawnTokens > run.result.usage.completionTokens);
  }
});

Deno.test("temperature 0: a stop token at any place of a block ends there", async () => {
  const letters = "abcdefghijkl";
  const vocab = fakeVocab({ pieces: [...letters], chat: false });
  for (let end = 1; end < letters.length; end++) {
    const next = Object.fromEntries(
      [...letters].map((
        letter,
        i,
      ) => [letter, { [i === end ? "<end>" : letters[i + 1] ?? "a"]: 1 }]),
    );
    const model = tableModel({ vocab, table: { "": { a: 1 }, ...next } });
    for (const maxTokens of [1, 2, 3, 5, 20]) {
      for (
        const params of [{ gamma: 4 }, { verify: "block", gamma: 3 }, { draft: "prompt-lookup" }]
      ) {
        const overrides = { prompt: [0], maxTokens, sampling: { temperature: 0 } };
        const plain = await runToEnd(requestOf("greedy", model, overrides));
        const run = await runToEnd(
          requestOf(speculative, { model, draft: model }, { ...overrides, params }),
        );
        assertEquals(run.choices, plain.choices);
        assertEquals(run.result.usage.completionTokens, plain.result.usage.completionTokens);
      }
    }
  }
});

Deno.test("choices accept different numbers and do not change each other's rounds", async () => {
  const rounds = async (choices: number) => {
    const models = {
      model: hashModel({ window: 2, ...never }),
      draft: hashModel({ window: 2, spread: 1, ...never }),
    };
    const { result } = await runToEnd(
      requestOf(speculative, models, { choices, trace: "steps", maxTokens: 80 }),
    );
    return result.steps.map(({ choice, accepted }) => [choice, accepted]);
  };
  const first = (all: (readonly unknown[])[]) => all.filter(([choice]) => choice === 0);
  const three = await rounds(3);
  assertEquals(first(three), await rounds(1));
  const lengths = [0, 1, 2].map((choice) => three.filter(([c]) => c === choice).length);
  assert(new Set(lengths).size > 1, `all choices took ${lengths} rounds`);
});

Deno.test("text that repeats is proposed by every table, in fewer steps than tokens", async () => {
  const vocab = fakeVocab({ pieces: [..."abcdef"], chat: false });
  const next = Object.fromEntries(
    [..."abcdef"].map((letter, i) => [letter, { ["bcdefa"[i]!]: 1 }]),
  );
  const model = tableModel({ vocab, table: { "": { a: 1 }, ...next } });
  for (const draft of ["prompt-lookup", "suffix", "token-recycling"]) {
    const { result, choices } = await runToEnd(requestOf(speculative, { model }, {
      params: { draft, gamma: 9 },
      prompt: [0],
      maxTokens: 60,
    }));
    assertEquals(choices[0]!.text, "bcdefa".repeat(10));
    const steps = result.metrics["target_steps"]!;
    assert(steps <= 6 + 54 / 3, `${draft}: ${steps} steps`);
    assertEquals(result.usage.promptTokens, 1);
  }
});

Deno.test("a tree keeps at least as much as a chain, and follows a pick that is not the first", async () => {
  let chainSteps = 0, treeSteps = 0;
  for (let seed = 1; seed <= 10; seed++) {
    const steps = async (tree_nodes: number) => {
      const run = await runToEnd(
        requestOf(speculative, { model: hashModel({ window: 1, ...never }) }, {
          params: { draft: "token-recycling", tree_nodes },
          sampling: { seed: seedFrom(seed) },
          maxTokens: 80,
        }),
      );
      return run.result.metrics["target_steps"]!;
    };
    chainSteps += await steps(0);
    treeSteps += await steps(40);
  }
  assert(treeSteps < 0.8 * chainSteps, `${treeSteps} steps with trees, ${chainSteps} with chains`);
});

Deno.test("trees of a draft model keep more than its chains, at the same depth", async () => {
  for (const verify of ["coupled", "ratio"]) {
    let chainSteps = 0, treeSteps = 0;
    for (let seed = 1; seed <= 10; seed++) {
      const steps = async (tree_nodes: number) => {
        const models = {
          model: hashModel({ ...never }),
          draft: hashModel({ spread: 2, ...never }),
        };
        const run = await runToEnd(requestOf(speculative, models, {
          params: { tree_nodes, verify },
          sampling: { seed: seedFrom(seed) },
          maxTokens: 60,
        }));
        return run.result.metrics["target_steps"]!;
      };
      chainSteps += await steps(0);
      treeSteps += await steps(16);
    }
    assert(treeSteps < chainSteps, `${treeSteps} steps with trees, ${chainSteps} with chains`);
  }
});

Deno.test("ema: proposes all where passes are flat, and stops where every token costs a pass", async () => {
  const metrics = async (params: Record<string, unknown>) => {
    const { result } = await runToEnd(
      requestOf(speculative, { model: hashModel(never), draft: hashModel(never) }, {
        params: { gamma_schedule: "ema", ...params },
        maxTokens: 40,
      }),
    );
    return result.metrics;
  };
  const flat = await metrics({ verify_cost: 0, draft_cost: 0.01 });
  assertEquals(flat["target_steps"], 8);
  const dear = await metrics({ verify_cost: 1, draft_cost: 0.2 });
  assertEquals([dear["proposed"], dear["target_steps"]], [0, 40]);
  assertEquals(dear["speedup_estimate"], 1);
});

Deno.test("ema with a clock: dear drafts are switched off, cheap ones stay, the text is the same", async () => {
  const run = (perDraft: number, perPass: number) => {
    const model = hashModel({ window: 1, ...never });
    const draft = hashModel({ window: 1, ...never });
    return runToEnd({
      ...requestOf(speculative, { model, draft }, {
        params: { gamma_schedule: "ema" },
        maxTokens: 60,
      }),
      clock: () => draft.stats.steps * perDraft + model.stats.steps * perPass,
    });
  };
  const dear = await run(10, 1);
  const cheap = await run(1, 10);
  assertEquals(dear.choices, cheap.choices);
  assertEquals(dear.result.metrics["proposed"], 4); // the measured round alone
  assert(cheap.result.metrics["proposed"]! > 40);
  assert(cheap.result.metrics["speedup_estimate"]! > 2);
});

Deno.test("models and parameters that do not fit are refused by name", () => {
  const model = hashModel();
  const run = (draft: typeof model, params = {}) => () =>
    runStrategy(requestOf(speculative, { model, draft }, { params }));
  const other = hashModel({ vocab: fakeVocab({ pieces: ["a", "b"] }) });
  assertEquals(assertThrows(run(other), RoleError, "vocabulary").role, "draft");
  assertEquals(assertThrows(run(model, { gamma: 17 }), StrategyParamError).param, "gamma");
  run(model, { gamma: 17, draft: "suffix" })();
  const trees = { draft: "token-recycling", tree_nodes: 8 };
  run(model, trees)();
  for (
    const wrong of [{ draft: "suffix" }, { draft: "prompt-lookup" }, { verify: "block" }, {
      gamma_schedule: "ema",
    }]
  ) {
    const error = assertThrows(run(model, { ...trees, ...wrong }), StrategyParamError);
    assertEquals(error.param, "tree_nodes");
  }
  assertEquals(assertThrows(run(model, { min_n: 4 }), StrategyParamError).param, "min_n");
  assertThrows(
    () => runStrategy(requestOf(speculative, { model }, {})),
    RangeError,
    'role "draft"',
  );
});

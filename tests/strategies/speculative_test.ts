// deno-lint-ignore-file camelcase -- parameters as on the wire
/** What speculation puts out: the target's text, whatever drafts. */
import { assert, assertEquals, assertThrows } from "@std/assert";
import { choiceConstraint, createRng, seedFrom } from "../../runtime/mod.ts";
import { getStrategy, RoleError, runStrategy, StrategyParamError } from "../../strategies/mod.ts";
import { requestOf, runToEnd } from "../conformance/_strategy_run.ts";
import { assertDistribution } from "../_statistics.ts";
import { fakeVocab, hashModel, tableModel } from "../fakes/mod.ts";

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

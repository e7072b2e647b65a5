import { assert, assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import { encodePrompt, logNormalizer, seedFrom } from "../../runtime/mod.ts";
import { RoleError, runStrategy, StrategyParamError } from "../../strategies/mod.ts";
import { speculativeEnsemble } from "../../strategies/speculative_ensemble.ts";
import { chatPrompt, requestOf, runToEnd } from "../conformance/_strategy_run.ts";
import { assertDistribution } from "../_statistics.ts";
import { type FakeModel, fakeVocab, hashModel, tableModel } from "../fakes/mod.ts";

const never = { stopBias: -Infinity };

/** One model per seed. */
function models(seeds: readonly number[] = [1, 2, 3, 4]): Record<string, FakeModel> {
  const roles = ["model", "expert2", "expert3", "expert4"];
  return Object.fromEntries(seeds.map((seed, i) => [roles[i], hashModel({ seed, ...never })]));
}

Deno.test("coupled: every framework, gamma, proposer and order gives the same tokens for a seed", async () => {
  const settings = [
    { framework: "naive", gamma: 3 },
    { framework: "alternate" },
    { framework: "alternate", gamma: 4, proposer: 1 },
    { framework: "alternate", gamma: 2, proposer: 3 },
  ];
  for (let seed = 1; seed <= 8; seed++) {
    const sampling = { seed: seedFrom(seed), topP: 0.9, presencePenalty: 0.4 };
    const overrides = { sampling, logprobs: 2, choices: 2, stop: ["ab"], maxTokens: 40 };
    const shared = { models: 3, weights: [0.5, 0.3, 0.2], verify: "coupled" };
    const plain = await runToEnd(requestOf(speculativeEnsemble, models(), {
      ...overrides,
      params: { ...shared, framework: "plain" },
    }));
    for (const setting of settings) {
      const params = { ...shared, ...setting };
      const run = await runToEnd(
        requestOf(speculativeEnsemble, models(), { ...overrides, params }),
      );
      assertEquals(run.choices, plain.choices);
    }
    const turned = await runToEnd(requestOf(speculativeEnsemble, models([3, 1, 2]), {
      ...overrides,
      params: { ...shared, weights: [0.2, 0.5, 0.3] },
    }));
    assertEquals(
      turned.choices.map(({ tokens }) => tokens),
      plain.choices.map(({ tokens }) => tokens),
    );
  }
});

Deno.test("temperature 0: every combination equals its plain loop in every framework", async () => {
  for (const combine of ["weighted", "product", "contrastive"]) {
    for (let seed = 1; seed <= 6; seed++) {
      const run = (params: Record<string, unknown>) =>
        runToEnd(requestOf(speculativeEnsemble, models([seed, seed + 9]), {
          sampling: { temperature: 0, logitBias: [[2, 1]] },
          logprobs: 1,
          params: { combine, ...params },
        }));
      const plain = await run({ framework: "plain" });
      for (const framework of ["naive", "alternate"]) {
        for (const gamma of [1, 3]) {
          for (const proposer of [1, 2]) {
            assertEquals((await run({ framework, gamma, proposer })).choices, plain.choices);
          }
        }
      }
      assertEquals(plain.result.metrics["greedy_mixture"], combine === "weighted" ? 1 : undefined);
    }
  }
});

Deno.test("one model alone: weight 1 and mu 0 give what it samples with the same seed", async () => {
  for (
    const params of [{ weights: 1 }, { combine: "product", weights: 1 }, {
      combine: "contrastive",
      mu: 0,
    }]
  ) {
    for (let seed = 1; seed <= 10; seed++) {
      const overrides = { sampling: { seed: seedFrom(seed), minP: 0.05 }, logprobs: 1 };
      const alone = await runToEnd(
        requestOf("sample", hashModel({ seed: 1, ...never }), overrides),
      );
      const ensemble = await runToEnd(requestOf(speculativeEnsemble, models(), {
        ...overrides,
        params: { ...params, verify: "coupled" },
      }));
      assertEquals(
        ensemble.choices.map(({ tokens }) => tokens),
        alone.choices.map(({ tokens }) => tokens),
      );
    }
  }
});

Deno.test("ratio: two tokens follow the mixture (false alarms 1e-6 in all)", async () => {
  const vocab = fakeVocab({ pieces: ["a", "b", "c"], chat: false });
  const p = {
    "": { a: 0.6, b: 0.3, c: 0.1 },
    a: { a: 0.1, b: 0.2, c: 0.7 },
    b: { a: 0.5, b: 0.5 },
  };
  const q = {
    "": { a: 0.2, b: 0.2, c: 0.6 },
    a: { a: 0.4, b: 0.4, c: 0.2 },
    b: { b: 0.3, c: 0.7 },
  };
  const model = tableModel({ vocab, table: p });
  const expert2 = tableModel({ vocab, table: q });
  const at = (table: typeof p | typeof q, before: string, token: string): number =>
    Object(Object(table)[before] ?? table[""])[token] ?? 0;
  const mixed = (before: string, token: string) =>
    0.3 * at(p, before, token) + 0.7 * at(q, before, token);
  const texts = [..."abc"].flatMap((one) => [..."abc"].map((two) => one + two));
  const exact = texts.map(([one, two]) => mixed("", one!) * mixed(one!, two!));
  for (
    const params of [{ gamma: 1 }, { gamma: 2, proposer: 1 }, { framework: "naive", gamma: 2 }]
  ) {
    const counts = texts.map(() => 0);
    const runs = Array.from(
      { length: 3000 },
      (_, seed) =>
        runToEnd(requestOf(speculativeEnsemble, { model, expert2 }, {
          params: { weights: 0.3, ...params },
          prompt: [2],
          maxTokens: 2,
          sampling: { seed: seedFrom(seed) },
        })),
    );
    for (const { choices } of await Promise.all(runs)) {
      counts[texts.indexOf(choices[0]!.text)]!++;
    }
    assertDistribution(counts, exact, 3e-7, JSON.stringify(params));
  }
});

Deno.test("equal models: everything is accepted and each is called for every other token", async () => {
  const { result } = await runToEnd(requestOf(speculativeEnsemble, models([1, 1]), {
    maxTokens: 40,
    params: {},
  }));
  const { metrics } = result;
  assertEquals(metrics["accepted_model"]! + metrics["accepted_expert2"]!, 40);
  assertEquals(metrics["calls_plain"], 80);
  assert(metrics["calls"]! <= 42, `${metrics["calls"]} calls`);
});

Deno.test("acceptance is at least the proposer's weight, and calls never exceed the plain loop's by more than rejections", async () => {
  for (const weight of [0.3, 0.7]) {
    let proposed = 0, accepted = 0, calls = 0, plain = 0;
    for (let seed = 1; seed <= 10; seed++) {
      const { result: { metrics } } = await runToEnd(
        requestOf(speculativeEnsemble, models([1, 2]), {
          maxTokens: 60,
          sampling: { seed: seedFrom(seed) },
          params: { weights: weight, proposer: 1 },
        }),
      );
      proposed += metrics["proposed_model"]!;
      accepted += metrics["accepted_model"]!;
      calls += metrics["calls"]!;
      plain += metrics["calls_plain"]!;
    }
    const sigma = Math.sqrt(weight * (1 - weight) / proposed);
    assert(accepted / proposed > weight - 4 * sigma, `${accepted} of ${proposed}`);
    assert(calls <= plain, `${calls} calls, plain ${plain}`);
  }
});

Deno.test("log-probabilities are the combination's at temperature 1", async () => {
  const [model, expert2] = [1, 2].map((seed) => hashModel({ seed, ...never }));
  const all = { model: model!, expert2: expert2! };
  const { choices: [choice] } = await runToEnd(requestOf(speculativeEnsemble, all, {
    params: { weights: 0.25 },
    sampling: { temperature: 0.5, topK: 3 },
    logprobs: 2,
    maxTokens: 8,
  }));
  const prompt = encodePrompt(chatPrompt, all.model.vocab, { model: "hash" });
  for (const [i, token] of choice!.tokens.entries()) {
    const shares = await Promise.all([all.model, all.expert2].map(async (model) => {
      using session = model.session([...prompt, ...choice!.tokens.slice(0, i)]);
      const [row] = await session.logits();
      return Math.exp(row![token]! - logNormalizer(row!));
    }));
    assertAlmostEquals(
      choice!.logprobs[i]!.logprob,
      Math.log(0.25 * shares[0]! + 0.75 * shares[1]!),
      1e-5,
    );
    assertEquals(choice!.logprobs[i]!.top.length, 2);
  }
});

Deno.test("weights, proposers and vocabularies that do not fit are refused by name", () => {
  const refuse = (params: Record<string, unknown>) =>
    assertThrows(
      () => runStrategy(requestOf(speculativeEnsemble, models(), { params })),
      StrategyParamError,
    ).param;
  assertEquals(refuse({ weights: [0.5, 0.4] }), "weights");
  assertEquals(refuse({ weights: [0.5, 0.3, 0.2] }), "weights");
  assertEquals(refuse({ combine: "contrastive", weights: 0.5 }), "weights");
  assertEquals(refuse({ proposer: 3 }), "proposer");
  const other = hashModel({ vocab: fakeVocab({ pieces: ["a", "b"] }) });
  const error = assertThrows(
    () =>
      runStrategy(
        requestOf(speculativeEnsemble, { ...models(), expert3: other }, { params: { models: 3 } }),
      ),
    RoleError,
  );
  assertEquals(error.role, "expert3");
});

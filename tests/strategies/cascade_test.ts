// deno-lint-ignore-file camelcase -- names as on the wire
import { assert, assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import { CapabilityError, seedFrom } from "../../runtime/mod.ts";
import {
  bestPossible,
  parseCalibration,
  scoreOf,
  thresholdAt,
} from "../../strategies/_cascade_rule.ts";
import { featureCount, featuresOf, forward } from "../../strategies/_cascade_network.ts";
import { promptFeatures, routerBuckets } from "../../strategies/_cascade_router.ts";
import { quantileOf } from "../../strategies/_quantile.ts";
import { RoleError, runStrategy, StrategyParamError } from "../../strategies/mod.ts";
import { cascade } from "../../strategies/cascade.ts";
import { testStrategy } from "../conformance/strategy.ts";
import { requestOf, type RequestOverrides, runToEnd } from "../conformance/_strategy_run.ts";
import { fakeVocab, hashModel, letterVocab, textOnly } from "../fakes/mod.ts";

const opposite = "the first model is not asked at all; cascade_test.ts looks at the small one";

// Answers that are kept: the small model's, whatever the rule.
testStrategy(cascade, {
  params: [{ threshold: -1e6 }, { threshold: -1e6, rule: "average", small_decoding: "request" }],
  skip: [
    { law: "log-probabilities are the raw model's", reason: opposite },
    { law: "alone equals in a crowd, which shares steps", reason: opposite },
    { law: "usage adds up", reason: opposite },
  ],
  steps: ({ tokens }) => 2 * tokens, // where the small one runs into the limit
});

const models = (options: Parameters<typeof hashModel>[0] = {}) => ({
  large: hashModel({ id: "large", seed: 1, stopBias: 2, ...options }),
  small: hashModel({ id: "small", seed: 2, stopBias: 2, ...options }),
});

const ask = (params: Record<string, unknown>, overrides: RequestOverrides = {}, all = models()) =>
  runToEnd(requestOf(cascade, all, { params, ...overrides }));

Deno.test("quantileOf() is linear between order statistics, and monotone in the level", () => {
  assertEquals([0, 0.25, 0.5, 1].map((q) => quantileOf([1, 2, 4], q)), [1, 1.5, 2, 4]);
  assertEquals(quantileOf([-3], 0.7), -3);
  // Missing values count as 0 at the upper end.
  assertEquals(quantileOf([-4, -2], 0.5, 4), quantileOf([-4, -2, 0, 0], 0.5));
  assertThrows(() => quantileOf([], 0.5), RangeError);
});

Deno.test("scores: one token makes all rules equal, the sum is m times the average", () => {
  const score = (rule: "sum" | "average" | "quantile", alpha: number, l: readonly number[]) =>
    scoreOf({ rule, alpha, calibrated: undefined }, l)!;
  for (const alpha of [0, 0.3, 1]) {
    const all = [
      score("sum", 0, [-1.5]),
      score("average", 0, [-1.5]),
      score("quantile", alpha, [-1.5]),
    ];
    assertEquals(all, [-1.5, -1.5, -1.5]);
  }
  const l = [-0.1, -3, -0.5, -0.2];
  assertAlmostEquals(score("sum", 0, l), 4 * score("average", 0, l), 1e-12);
  const levels = [0, 0.1, 0.5, 0.9, 1].map((alpha) => score("quantile", alpha, l));
  assertEquals([levels[0], levels.at(-1)], [-3, -0.1]);
  assertEquals(levels, levels.toSorted((a, b) => a - b));
  assertEquals(scoreOf({ rule: "sum", alpha: 0, calibrated: undefined }, []), undefined);
});

Deno.test("bestPossible() is at least the score of every continuation, and reached by certain tokens", () => {
  const begun = [-0.4, -2, -1];
  for (const rule of ["sum", "average", "quantile"] as const) {
    for (const alpha of [0, 0.2, 0.7]) {
      const scoring = { rule, alpha, calibrated: undefined };
      const best = bestPossible(scoring, begun, 10)!;
      for (let more = 0; more <= 7; more++) {
        for (const l of [0, -0.1, -5]) {
          const full = [...begun, ...Array.from({ length: more }, () => l)];
          assert(scoreOf(scoring, full)! <= best + 1e-12, `${rule} ${alpha} ${more} ${l}`);
        }
      }
      const certain = [...begun, ...Array.from({ length: 7 }, () => 0)];
      if (rule !== "sum") assertAlmostEquals(scoreOf(scoring, certain)!, best, 1e-12);
    }
  }
});

Deno.test("cascade: a threshold below every score keeps all answers and never asks the large model", async () => {
  for (let seed = 1; seed <= 10; seed++) {
    const all = models();
    const overrides = { sampling: { seed: seedFrom(seed) }, prompt: [seed], logprobs: 2 };
    const kept = await ask({ threshold: -1e6, small_decoding: "request" }, overrides, all);
    const alone = await runToEnd(requestOf("sample", all.small, overrides));
    assertEquals(kept.choices, alone.choices);
    assertEquals([all.large.stats.steps, kept.result.servedBy], [0, ["small"]]);
    assertEquals(kept.result.usage.promptTokens, 1);
    const greedy = await ask({ threshold: -1e6 }, overrides);
    assertEquals(
      greedy.choices,
      (await runToEnd(requestOf("greedy", all.small, overrides))).choices,
    );
  }
});

Deno.test("cascade: a threshold above every score is the large model alone, token for token", async () => {
  for (let seed = 1; seed <= 10; seed++) {
    const overrides = {
      sampling: { seed: seedFrom(seed) },
      prompt: [seed],
      logprobs: 2,
      choices: 3,
    };
    const deferred = await ask({ threshold: 1 }, overrides);
    const alone = await runToEnd(requestOf("sample", models().large, overrides));
    assertEquals(deferred.choices, alone.choices);
    assertEquals(deferred.result.servedBy, ["large", "large", "large"]);
    assertEquals(deferred.result.metrics, { deferred: 3, kept: 0 });
  }
});

Deno.test("cascade: stopping early decides as full scoring does, and draws less", async () => {
  const settings = [
    { rule: "sum", threshold: -4 },
    { rule: "quantile", threshold: -1.2 },
    { rule: "quantile", alpha_q: 0.2, threshold: -1 },
    { rule: "average", threshold: -0.8 },
  ];
  for (const params of settings) {
    let kept = 0, saved = 0;
    for (let seed = 1; seed <= 40; seed++) {
      const overrides = { sampling: { seed: seedFrom(seed) }, prompt: [seed % 17, 3], choices: 2 };
      const run = (early: boolean) =>
        ask({ ...params, early_stop: early, small_decoding: "request" }, overrides);
      const [early, full] = [await run(true), await run(false)];
      assertEquals(early.choices, full.choices);
      assertEquals(early.result.servedBy, full.result.servedBy);
      kept += full.result.metrics.kept!;
      saved += full.result.meters.small!.drawnTokens - early.result.meters.small!.drawnTokens;
    }
    assert(kept > 4 && kept < 76, `${JSON.stringify(params)} kept ${kept} of 80`);
    assert(saved > 0 || params.rule === "average", `${JSON.stringify(params)} saved ${saved}`);
  }
});

Deno.test("cascade: an answer cut by the token limit is deferred, however sure it looks", async () => {
  const all = models({ stopBias: -Infinity });
  const { result } = await ask({ threshold: -1e6 }, { maxTokens: 5 }, all);
  assertEquals([result.servedBy, result.metrics.deferred], [["large"], 1]);
});

Deno.test("cascade: three models, each link with its threshold", async () => {
  const all = { ...models(), middle: hashModel({ id: "middle", seed: 3, stopBias: 2 }) };
  const served = async (threshold: number[]) =>
    (await runToEnd(requestOf(cascade, all, { params: { models: 3, rule: "sum", threshold } })))
      .result.servedBy;
  assertEquals(await served([-1e6, 1]), ["small"]);
  assertEquals(await served([1, -1e6]), ["middle"]);
  assertEquals(await served([1, 1]), ["large"]);
});

Deno.test("cascade: the trace tells score, threshold and log-probabilities of every link", async () => {
  const params = { rule: "sum", threshold: -3, early_stop: false };
  for (let seed = 1; seed <= 8; seed++) {
    const { result } = await ask(params, { prompt: [seed], trace: "steps" });
    const [step] = result.steps;
    const logprobs = step!.logprobs as number[];
    assertAlmostEquals(Number(step!.score), logprobs.reduce((a, b) => a + b, 0), 1e-12);
    assertEquals(step!.deferred, Number(step!.score) < -3);
    assertEquals(result.choices[0]!.score, step!.score);
    assertEquals(result.metrics.deferred, step!.deferred ? 1 : 0);
    const dropped = step!.deferred ? logprobs.length : undefined;
    assertEquals(result.choices[0]!.dropped_tokens, dropped);
  }
});

Deno.test("cascade: models with other tokens, and models without any, answer as text", async () => {
  const pieces = ["ab", "a", "b", "é", "n", " ", ..."cdefghijklmop"];
  const other = hashModel({ id: "other", vocab: fakeVocab({ pieces }), seed: 5, stopBias: 1 });
  const large = models().large;
  const chat = [{ role: "user", content: "abba" }] as const;
  const run = (all: Parameters<typeof requestOf>[1], threshold: number) =>
    runToEnd(requestOf(cascade, all, { params: { threshold }, prompt: chat, logprobs: 1 }));
  const alone = await runToEnd(requestOf("greedy", other, { prompt: chat, logprobs: 1 }));
  const kept = await run({ large, small: other }, -1e6);
  assertEquals(kept.choices[0]!.text, alone.choices[0]!.text);
  assertEquals(kept.choices[0]!.logprobs, alone.choices[0]!.logprobs);
  assertEquals(kept.result.usage.completionTokens, alone.result.usage.completionTokens);
  const far = { ...textOnly(large), topLogprobs: 20 };
  const sampled = await runToEnd(requestOf("sample", large, { prompt: chat }));
  const text = await runToEnd(
    requestOf(cascade, { large: far, small: other }, { params: { threshold: 1 }, prompt: chat }),
  );
  assertEquals(text.choices[0]!.text, sampled.choices[0]!.text);
});

const calibration = parseCalibration({
  version: 1,
  created: "2026-11-24",
  models: ["small", "large"],
  prompts: 100,
  quality: [{ mean: 0.5, low: 0.4, high: 0.6 }, { mean: 0.9, low: 0.8, high: 1 }],
  rules: [
    {
      rule: "quantile",
      alpha_q: 0,
      scores: Array.from({ length: 101 }, (_, i) => -3 + i / 40),
      threshold: -1.5,
      defer_rate: 0.6,
      area: { mean: 0.8, low: 0.7, high: 0.9 },
      curve: [[0, 0.5, 0.4, 0.6], [1, 0.9, 0.8, 1]],
    },
    {
      rule: "learned",
      scores: Array.from({ length: 101 }, (_, i) => i / 100),
      threshold: 0.5,
      defer_rate: 0.5,
      area: { mean: 0.8, low: 0.7, high: 0.9 },
      curve: [[0, 0.5, 0.4, 0.6]],
      network: {
        mean: Array(featureCount).fill(0),
        deviation: Array(featureCount).fill(1),
        // Minus the least log-probability: the same decisions as quantile 0.
        layers: [{ weights: [[-1, ...Array(featureCount - 1).fill(0)]], bias: [0] }],
      },
    },
    {
      rule: "router",
      scores: Array.from({ length: 101 }, (_, i) => i / 100 - 1),
      threshold: -0.05,
      defer_rate: 0.5,
      area: { mean: 0.8, low: 0.7, high: 0.9 },
      curve: [[0, 0.5, 0.4, 0.6]],
      router: {
        weights: Array.from(
          { length: routerBuckets },
          (_, i) => promptFeatures("a b").has(i) ? 1 : 0,
        ),
        bias: 0,
      },
    },
  ],
});
const calibrations = new Map([["toy", calibration]]);

Deno.test("cascade: a calibration's threshold, or the one of a wanted rate", async () => {
  const threshold = async (params: Record<string, unknown>) =>
    (await ask({ calibration: "toy", ...params }, { calibrations })).result.choices[0]!.threshold;
  assertEquals(await threshold({}), -1.5);
  assertEquals(await threshold({ defer_rate: 0.25 }), -3 + 25 / 40);
  assertEquals(await threshold({ threshold: -2 }), -2);
  const rule = calibration.rules[0]!;
  assertEquals([thresholdAt(rule, 0), thresholdAt(rule, 1) > rule.scores[100]!], [-3, true]);
});

Deno.test("cascade: the learned rule decides by its network", async () => {
  assertEquals(forward(calibration.rules[1]!.network!, featuresOf([-2, -1])), 2);
  for (let seed = 1; seed <= 20; seed++) {
    const overrides = { prompt: [seed % 17], calibrations };
    const learned = await ask({ calibration: "toy", rule: "learned", threshold: -1 }, overrides);
    const least = await ask({ threshold: -1 }, overrides);
    assertEquals(learned.result.servedBy, least.result.servedBy);
  }
});

Deno.test("cascade: the router asks one model only, decided by the prompt", async () => {
  for (const [content, served] of [["a b", "large"], ["n m o p n m o p n", "small"]] as const) {
    const all = models();
    const prompt = [{ role: "user" as const, content }];
    const { result } = await ask(
      { calibration: "toy", rule: "router" },
      { prompt, calibrations },
      all,
    );
    assertEquals(result.servedBy, [served]);
    const idle = served === "large" ? all.small : all.large;
    assertEquals(idle.stats.steps, 0);
  }
});

Deno.test("cascade: what does not go together is refused before any work, by name", () => {
  const refuse = (
    params: Record<string, unknown>,
    overrides: RequestOverrides = {},
    all: Parameters<typeof requestOf>[1] = models(),
  ) =>
    assertThrows(() =>
      runStrategy(requestOf(cascade, all, { params, calibrations, ...overrides }))
    );
  const cases: [Record<string, unknown>, string][] = [
    [{}, "threshold"],
    [{ rule: "learned", threshold: 0 }, "calibration"],
    [{ rule: "router" }, "calibration"],
    [{ calibration: "nope" }, "calibration"],
    [{ calibration: "toy", rule: "sum" }, "rule"],
    [{ calibration: "toy", alpha_q: 0.5 }, "rule"],
    [{ calibration: "toy", threshold: 0, defer_rate: 0.5 }, "defer_rate"],
    [{ threshold: [0, 0] }, "threshold"],
    [{ calibration: "../x", threshold: 0 }, "calibration"],
    [{ defer_rate: 1.5 }, "defer_rate"],
  ];
  for (const [params, param] of cases) {
    const error = refuse(params);
    assert(error instanceof StrategyParamError, String(error));
    assertEquals(error.param, param, JSON.stringify(params));
  }
  const large = models().large;
  const mute = refuse({ threshold: 0 }, {}, { large, small: textOnly(models().small) });
  assert(mute instanceof CapabilityError && mute.use.role === "small", String(mute));
  const foreign = hashModel({ id: "small", vocab: fakeVocab({ pieces: [..."ab"] }) });
  const bias: RequestOverrides = { sampling: { logitBias: [[0, 1]] } };
  const mixed = refuse({ threshold: 0 }, bias, { large, small: foreign });
  assert(mixed instanceof RoleError, String(mixed));
  const stranger = hashModel({ id: "other", vocab: letterVocab() });
  const wrong = refuse({ calibration: "toy" }, {}, { large, small: stranger });
  assert(wrong instanceof StrategyParamError && wrong.param === "calibration", String(wrong));
});

Deno.test("parseCalibration() names what is wrong with a file", () => {
  for (
    const [bad, path] of [
      [{ ...calibration, version: 2 }, "version"],
      [{ ...calibration, rules: [] }, "rules"],
      [{ ...calibration, rules: [{ ...calibration.rules[0], scores: [1] }] }, "rules.0.scores"],
      [{ ...calibration, extra: 1 }, "extra"],
    ] as const
  ) assertThrows(() => parseCalibration(bad), RangeError, path === "extra" ? "" : path);
});

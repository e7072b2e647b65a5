/** Policies that rank. */
import { assert, assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { PolicyError } from "../../../../runtime/errors.ts";
import { smooth } from "../../../../runtime/kv/policies/_observed.ts";
import { expectedAttention } from "../../../../runtime/kv/policies/expected_attention.ts";
import { h2o } from "../../../../runtime/kv/policies/h2o.ts";
import { keyDiff, unusualness } from "../../../../runtime/kv/policies/key_diff.ts";
import { keyNorm } from "../../../../runtime/kv/policies/key_norm.ts";
import { pyramidBudget, pyramidkv } from "../../../../runtime/kv/policies/pyramidkv.ts";
import { snapkv } from "../../../../runtime/kv/policies/snapkv.ts";
import { tova } from "../../../../runtime/kv/policies/tova.ts";
import type { KvPolicy } from "../../../../runtime/kv/policy.ts";
import { groupOf, keptAfter, modelOf, started, viewOf } from "./_view.ts";

const upTo = (n: number) => [...Array(n).keys()];
const params = { budget: 6, sinks: 1, window: 2 };

Deno.test("h2o keeps sinks, window and the largest sums; ties go to the newer token", () => {
  const sums = [0, 5, 1, 9, 1, 1, 7, 0, 0, 0];
  const view = viewOf({ groups: [groupOf(upTo(10), { "attention-sum": sums })] });
  const { edits } = h2o.plan(started(h2o, params), view);
  assertEquals(keptAfter(view, edits), [0, 1, 3, 6, 8, 9]);
  const equal = viewOf({ groups: [groupOf(upTo(10), { "attention-sum": sums.map(() => 1) })] });
  assertEquals(keptAfter(equal, h2o.plan(started(h2o, params), equal).edits), [0, 5, 6, 7, 8, 9]);
});

Deno.test("tova drops exactly what the newest token looks at least", () => {
  const last = [3, 2, 9, 1, 8, 7, 4];
  const view = viewOf({ groups: [groupOf(upTo(7), { "attention-last": last })] });
  const state = started(tova, { budget: 6, sinks: 0, window: 1, interval: 1 });
  assertEquals(keptAfter(view, tova.plan(state, view).edits), [0, 1, 2, 4, 5, 6]);
});

Deno.test("nothing changes while there are no more tokens than the budget", () => {
  for (const policy of [h2o, tova, snapkv, pyramidkv, keyNorm, keyDiff, expectedAttention]) {
    const view = viewOf({ groups: [groupOf(upTo(6))] }); // no signals: none may be asked for
    assertEquals(policy.plan(started(policy, params), view).edits, [], policy.name);
  }
});

Deno.test("snapkv keeps what is attended to and its neighbours within the pooling, once", () => {
  const sums = upTo(20).map((i) => i === 8 ? 10 : 0);
  const view = viewOf({ groups: [groupOf(upTo(20), { "attention-sum": sums })] });
  const first = snapkv.plan(started(snapkv, { budget: 9, sinks: 2, window: 2 }), view);
  assertEquals(keptAfter(view, first.edits), [0, 1, 6, 7, 8, 9, 10, 18, 19]);
  const later = { ...view, promptLength: 20, committed: 20 };
  assertEquals(snapkv.plan(first.state, later).edits, []);
  assertEquals([...smooth(Float32Array.of(0, 5, 0, 0, 0, 0))].map((x) => Math.round(60 * x)), [
    100,
    75,
    60,
    60,
    0,
    0,
  ]);
});

Deno.test("pyramidkv's budgets fall with the layer and keep their mean", () => {
  const layers = 8, window = 32, budget = 32 + 1600, prompt = 8000;
  const budgets = upTo(layers).map((l) => pyramidBudget(budget, l, layers, window, prompt));
  for (let l = 1; l < layers; l++) assert(budgets[l]! < budgets[l - 1]!);
  assertAlmostEquals(budgets.reduce((a, b) => a + b) / layers, budget, 1);
  assertEquals(budgets[0], 32 + 2 * 1600 - 80);
  // The fallback: 640 - 32 beyond the window is below 20 windows.
  assertEquals(pyramidBudget(640, 3, layers, 32, prompt), 640);
});

Deno.test("key-norm keeps short keys, key-diff unusual ones", () => {
  const norms = [1, 9, 2, 8, 3, 7, 4, 6, 5, 5];
  const view = viewOf({ groups: [groupOf(upTo(10), { "key-norm": norms })] });
  assertEquals(keptAfter(view, keyNorm.plan(started(keyNorm, params), view).edits), [
    0,
    2,
    4,
    6,
    8,
    9,
  ]);
  const keys = upTo(10).flatMap((i) => i === 4 ? [0, -1] : [1, 0.1 * i]);
  const odd = viewOf({ groups: [groupOf(upTo(10), { key: keys })] });
  assert(keptAfter(odd, keyDiff.plan(started(keyDiff, params), odd).edits).includes(4));
  const scores = unusualness(Float32Array.of(2, 0, 0, 3, 1, 0), 3, 2);
  assertAlmostEquals(scores[1]!, -1 / Math.sqrt(5), 1e-6);
});

Deno.test("expected-attention keeps keys that the mean query points at, weighed by values", () => {
  const { frequencies, layout } = { frequencies: [0], layout: "half" as const }; // no rotation
  const model = modelOf({ rope: { frequencies, layout } });
  const query = upTo(12).flatMap(() => [1, 0]);
  const key = upTo(12).flatMap((i) => i === 5 || i === 7 ? [4, 0] : [0, 1]);
  const value = upTo(12).flatMap((i) => i === 7 ? [0.001, 0] : [1, 0]);
  const view = viewOf({ groups: [groupOf(upTo(12), { query, key, value })] });
  const state = started(expectedAttention, { budget: 4, sinks: 1, window: 2 }, model);
  assertEquals(keptAfter(view, expectedAttention.plan(state, view).edits), [0, 5, 10, 11]);
});

Deno.test("a format stores what is left, tentative tokens excepted", () => {
  const view = {
    ...viewOf({ groups: [groupOf(upTo(12), { "key-norm": upTo(12) })] }),
    committed: 10,
    promptLength: 10,
  };
  const { edits } = keyNorm.plan(started(keyNorm, { ...params, format: "int8" }), view);
  assertEquals(keptAfter(view, edits), [0, 1, 2, 3, 8, 9, 10, 11]);
  assertEquals(edits.at(-1), { op: "encode", group: 0, slots: 6, format: "int8" });
});

Deno.test("budgets below sinks and window, of zero, or twice, are refused with the parameter", () => {
  for (
    const [change, param] of [
      [{ budget: 2 }, "budget"],
      [{ ratio: 0.5 }, "ratio"],
      [{ window: 5000, budget: 6000 }, "window"],
    ] as const
  ) {
    const error = assertThrows(() => started(h2o, { ...params, ...change }), PolicyError);
    assertEquals(error.param, param);
  }
  for (const budget of [0, -3, 1.5]) assertThrows(() => started(h2o, { budget }));
  assertThrows(() => started(snapkv, { interval: 4 })); // it evicts once
});

Deno.test("a ratio that was not given is part of the parameters after defaults", () => {
  for (const policy of [h2o, snapkv]) {
    const ratioOf = (params: unknown) => policy.params.parse(params).ratio;
    assertEquals([ratioOf({}), ratioOf({ ratio: 0.2 }), ratioOf({ budget: 40 })], [
      0.5,
      0.2,
      undefined,
    ]);
    assertEquals(policy.params.parse(policy.params.parse({})), policy.params.parse({}));
  }
});

Deno.test("every ranking keeps sinks and window, and as many tokens as the budget says", () => {
  const signals = ["attention-sum", "attention-last", "key-norm"];
  const wideSignals = ["key", "value", "query"];
  const policies: readonly KvPolicy[] = [
    h2o,
    tova,
    snapkv,
    pyramidkv,
    keyNorm,
    keyDiff,
    expectedAttention,
  ];
  const values = fc.array(fc.float({ noNaN: true }), { minLength: 1, maxLength: 60 });
  const sizes = fc.tuple(fc.nat(8), fc.integer({ min: 1, max: 12 }), fc.nat(20), fc.nat(5));
  fc.assert(fc.property(values, sizes, (list, [sinks, window, more, tentative]) => {
    const length = list.length, committed = Math.max(1, length - tentative);
    const wide = list.flatMap((value) => [value, 1]);
    const own = {
      ...Object.fromEntries(signals.map((name) => [name, list])),
      ...Object.fromEntries(wideSignals.map((name) => [name, wide])),
    };
    const base = viewOf({ groups: [groupOf(upTo(length), own)] });
    const view = { ...base, committed, promptLength: committed };
    const budget = sinks + window + more;
    for (const policy of policies) {
      const state = started(policy, { budget, sinks, window });
      const kept = keptAfter(view, policy.plan(state, view).edits);
      const settled = kept.filter((position) => position < committed);
      assertEquals(settled.length, Math.min(budget, committed), policy.name);
      for (let i = 0; i < Math.min(sinks, committed); i++) assert(kept.includes(i));
      for (let i = Math.max(0, committed - window); i < length; i++) assert(kept.includes(i));
      assertEquals(kept, [...kept].sort((a, b) => a - b));
    }
  }));
});

Deno.test("groups of kivi4 are kept or dropped whole by their mean score, and only older ones are stored", () => {
  const params = { budget: 40, sinks: 0, window: 4, format: "kivi4" };
  const state = started(keyNorm, params);
  const positions = [...Array(72).keys()];
  // The second group is best on the mean, though the best single token is in the first.
  const norms = positions.map((i) => i === 3 ? 0 : i < 32 ? 9 : i < 64 ? 5 : i);
  const group = { ...groupOf(positions, { "key-norm": norms }), encoded: 64 };
  const view = viewOf({ groups: [group] });
  assertEquals(keptAfter(view, keyNorm.plan(state, view).edits), positions.slice(32));
  const plain = viewOf({
    groups: [groupOf(positions.slice(0, 37), { "key-norm": norms.slice(0, 37) })],
  });
  assertEquals(keyNorm.plan(state, plain).edits, [
    { op: "encode", group: 0, slots: 32, format: "kivi4" },
  ]);
  const recent = viewOf({
    groups: [groupOf(positions.slice(0, 35), { "key-norm": norms.slice(0, 35) })],
  });
  assertEquals(keyNorm.plan(state, recent).edits, [], "one of 32 is still in the window");
});

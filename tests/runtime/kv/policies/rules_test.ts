/** Policies whose kept set follows from tokens and positions alone. */
import { assert, assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import * as z from "zod";
import { PolicyError } from "../../../../runtime/errors.ts";
import type { KvPolicy } from "../../../../runtime/kv/policy.ts";
import { listPolicies } from "../../../../runtime/kv/policies/mod.ts";
import { h2o } from "../../../../runtime/kv/policies/h2o.ts";
import { quest } from "../../../../runtime/kv/policies/quest.ts";
import { snapkv } from "../../../../runtime/kv/policies/snapkv.ts";
import { attentionPredictor } from "../../../../runtime/kv/policies/attention_predictor.ts";
import { nats } from "../../../../runtime/kv/policies/nats.ts";
import { scoreHeads } from "../../../../runtime/kv/policies/score_heads.ts";
import { sepllm } from "../../../../runtime/kv/policies/sepllm.ts";
import { tokenButler } from "../../../../runtime/kv/policies/tokenbutler.ts";
import { streaming } from "../../../../runtime/kv/policies/streaming.ts";
import { int8 } from "../../../../runtime/kv/policies/quantised.ts";
import { separatorsOf } from "../../../../runtime/kv/separators.ts";
import { fakeVocab } from "../../../fakes/mod.ts";
import { groupOf, keptAfter, modelOf, started, viewOf } from "./_view.ts";

/** Runs a policy token by token and returns the positions held after each token was appended. */
function replay(
  policy: typeof sepllm,
  params: unknown,
  tokens: readonly number[],
  model = modelOf(),
): number[][] {
  let state = started(policy, params, model), held: number[] = [];
  return tokens.map((_, position) => {
    held = [...held, position];
    const before = [...held];
    const view = viewOf({
      groups: [groupOf(held)],
      tokens: tokens.slice(0, position + 1),
      promptLength: 0,
    });
    const { state: next, edits } = policy.plan(state, view);
    state = next;
    held = keptAfter(view, edits);
    return before;
  });
}

Deno.test("sepllm stream: the golden vector of sinks 2, separators 2, window 3, capacity 9", () => {
  const tokens = [0, 5, 1, 5, 5, 1, 5, 1, 5, 5, 5, 1, 5, 5, 1, 5]; // 1 = separator
  const params = { mode: "stream", sinks: 2, separators: 2, window: 3, capacity: 9, interval: 1 };
  const after = replay(sepllm, params, tokens);
  assertEquals(after[8], [0, 1, 2, 3, 4, 5, 6, 7, 8]);
  assertEquals(after[9], [0, 1, 2, 5, 7, 8, 9]);
  assertEquals(after[12], [0, 1, 5, 7, 10, 11, 12]);
  assertEquals(after[15], [0, 1, 7, 11, 13, 14, 15]);
});

interface Stream {
  readonly sinks: number;
  readonly separators: number;
  readonly window: number;
  readonly capacity: number;
}

/** The published algorithm with its three lists: what each token attends to. */
function streamed(tokens: readonly number[], { sinks, separators, window, capacity }: Stream) {
  const recent: number[] = [];
  let marks: number[] = [];
  return tokens.map((_, position) => {
    const first = Array.from({ length: Math.min(sinks, position + 1) }, (_, i) => i);
    if (position >= sinks) recent.push(position);
    if (first.length + marks.length + recent.length > capacity) {
      const old = recent.splice(0, Math.max(0, recent.length - window));
      marks = [...marks, ...old.filter((at) => tokens[at] === 1)];
      marks = marks.slice(Math.max(0, marks.length - separators));
    }
    return [...first, ...marks, ...recent];
  });
}

Deno.test("sepllm stream is the published algorithm, within its capacity, on random texts", () => {
  const texts = fc.array(fc.constantFrom(0, 1, 5, 5), { minLength: 1, maxLength: 60 });
  const sizes = fc.tuple(fc.nat(4), fc.nat(4), fc.integer({ min: 1, max: 6 }), fc.nat(8));
  fc.assert(fc.property(texts, sizes, (tokens, [sinks, separators, window, more]) => {
    const capacity = sinks + separators + window + 1 + more;
    const params = { mode: "stream", sinks, separators, window, capacity, interval: 1 };
    const held = replay(sepllm, params, tokens);
    assertEquals(held, streamed(tokens, params));
    for (const one of held) assert(one.length <= capacity);
    // Without separators it is sinks and a window that breathes.
    const unmarked = modelOf({ separators: new Set([9]) });
    assertEquals(
      replay(sepllm, params, tokens, unmarked),
      streamed(tokens, { ...params, separators: 0 }),
    );
  }));
});

Deno.test("sepllm within the context: a token sees sinks, separators and the window, itself included", () => {
  const tokens = [5, 5, 1, 5, 5, 5, 1, 5, 5, 5, 5, 5];
  const after = replay(sepllm, { sinks: 1, window: 3, interval: 1 }, tokens);
  after.forEach((held, m) => {
    const visible = tokens.slice(0, m + 1).flatMap((token, j) =>
      j < 1 || token === 1 || m - j <= 2 ? [j] : []
    );
    assertEquals(held, visible, `row ${m}`);
  });
});

Deno.test("sepllm with every token a separator keeps all, with none it is streaming", () => {
  const tokens = Array.from({ length: 40 }, (_, i) => i % 2);
  const all = modelOf({ separators: new Set([0, 1]) });
  const group = groupOf(tokens.map((_, i) => i));
  const view = viewOf({ groups: [group], tokens });
  const state = started(sepllm, { sinks: 1, window: 4, interval: 1 }, all);
  assertEquals(keptAfter(view, sepllm.plan(state, view).edits).length, 40);
  const none = started(
    sepllm,
    { sinks: 1, window: 4, interval: 1 },
    modelOf({ separators: new Set([9]) }),
  );
  const plain = started(streaming, { sinks: 1, window: 4, interval: 1 });
  assertEquals(
    keptAfter(view, sepllm.plan(none, view).edits),
    keptAfter(view, streaming.plan(plain, view).edits),
  );
});

Deno.test("streaming keeps sinks, the window and what is not committed", () => {
  const view = { ...viewOf({ groups: [groupOf([...Array(20).keys()])] }), committed: 17 };
  const state = started(streaming, { sinks: 2, window: 5 });
  // The next token is the fifth of the window.
  assertEquals(keptAfter(view, streaming.plan(state, view).edits), [
    0,
    1,
    13,
    14,
    15,
    16,
    17,
    18,
    19,
  ]);
});

Deno.test("rules refuse parameters that contradict each other or the model, naming one", () => {
  const refused: readonly [() => unknown, string][] = [
    [() => started(streaming, { window: 4090 }), "window"],
    [() => started(streaming, { positions: "cache", format: "int8" }), "format"],
    [() => started(sepllm, { mode: "stream", capacity: 300 }), "capacity"],
    [() => started(sepllm, { mode: "stream", capacity: 5000 }), "capacity"],
    [() => started(sepllm, {}, modelOf({ separators: new Set() })), "mode"],
    [() => started(streaming, { positions: "cache", format: "kivi4" }), "format"],
    [() => started(tokenButler, { budget: 5000, window: 4096 }), "window"],
    [() => started(attentionPredictor, { budget: 5000, window: 4096 }), "window"],
    [() => started(scoreHeads, { window: 4096 }), "window"],
    [() => started(scoreHeads, { sinks: 4096 }), "sinks"],
    [() => started(streaming, { interval: 512 }, modelOf({ contextLength: 600 })), "interval"],
    [() => started(nats, { window: 900 }, modelOf({ contextLength: 512 })), "window"],
  ];
  for (const [start, param] of refused) {
    assertEquals(assertThrows(start, PolicyError).param, param);
  }
  assertThrows(() => started(streaming, { window: 0 }));
  assertThrows(() => started(streaming, { windw: 3 }));
});

Deno.test("what does not fit into a budget is named, and the budget only if it is too small in itself", () => {
  const refused: readonly [() => unknown, string][] = [
    [() => started(tokenButler, { window: 4096 }), "window"],
    [() => started(tokenButler, { window: 64 }), "window"],
    [() => started(tokenButler, { sinks: 64 }), "sinks"],
    [() => started(tokenButler, { budget: 9 }), "budget"], // not more than 8 and 1
    [() => started(attentionPredictor, { window: 4096 }), "window"],
    [() => started(attentionPredictor, { window: 57 }), "window"],
    [() => started(attentionPredictor, { block: 64 }), "block"],
    [() => started(attentionPredictor, { budget: 15 }), "budget"], // less than 8, 4 and 4
    [() => started(quest, { window: 300 }), "window"],
    [() => started(quest, { budget: 20 }), "budget"],
    [() => started(h2o, { budget: 100, window: 200 }), "window"],
    [() => started(h2o, { budget: 20 }), "budget"],
    [() => started(sepllm, { mode: "stream", window: 900 }), "window"],
    [() => started(sepllm, { mode: "stream", separators: 700 }), "separators"],
  ];
  for (const [start, param] of refused) {
    assertEquals(assertThrows(start, PolicyError).param, param);
  }
  started(tokenButler, { budget: 10 });
  started(attentionPredictor, { budget: 16 });
});

Deno.test("parameters that would do nothing are refused by name, and are not answered", () => {
  const unused: readonly [KvPolicy, Record<string, unknown>, string][] = [
    [sepllm, { capacity: 5000 }, "capacity"],
    [sepllm, { mode: "within_context", separators: 8 }, "separators"],
    [attentionPredictor, { forecast: "last-row", history: 8 }, "history"],
    [snapkv, { interval: 4 }, "interval"],
  ];
  for (const [policy, params, param] of unused) {
    const { issues: [issue] } = assertThrows(() => policy.params.parse(params), z.ZodError);
    const keys = issue?.code === "unrecognized_keys" ? issue.keys : [];
    assertEquals([...issue!.path, ...keys], [param]);
    const { [param]: _, ...rest } = params;
    assertEquals(Object.keys(Object(policy.params.parse(rest))).includes(param), false);
  }
});

Deno.test("parameters after defaults are read again as they are", () => {
  for (const policy of listPolicies()) {
    const variants: Record<string, unknown>[] = [{}];
    if (policy.name === "sepllm") variants.push({ mode: "stream" });
    if (policy.name === "attention-predictor") variants.push({ forecast: "last-row" });
    if (policy.name === "streaming") variants.push({ positions: "cache" });
    for (const params of variants) {
      const parsed = policy.params.parse(params);
      assertEquals(policy.params.parse(parsed), parsed, policy.name);
    }
  }
});

Deno.test("intervals that were not given are part of the parameters after defaults", () => {
  const intervalOf = (policy: typeof streaming | typeof sepllm, params: unknown) =>
    policy.params.parse(params).interval;
  assertEquals(intervalOf(streaming, {}), 16);
  assertEquals(intervalOf(streaming, { positions: "cache" }), 1);
  assertEquals(intervalOf(sepllm, { mode: "stream" }), 1);
  assertEquals(intervalOf(sepllm, { interval: 5 }), 5);
});

Deno.test("streaming keeps a group of kivi4 until the last of its tokens has left the window", () => {
  const positions = [...Array(80).keys()],
    state = started(streaming, { sinks: 0, window: 10, format: "kivi4" });
  const at = (committed: number, encoded: number, held: readonly number[]) => {
    const view = { ...viewOf({ groups: [{ ...groupOf(held), encoded }] }), committed };
    return { kept: keptAfter(view, streaming.plan(state, view).edits) };
  };
  assertEquals(at(64, 64, positions.slice(0, 64)).kept, positions.slice(32, 64));
  assertEquals(at(72, 64, positions.slice(0, 72)).kept, positions.slice(32, 72));
  assertEquals(at(73, 64, positions.slice(0, 73)).kept, positions.slice(64, 73));
});

Deno.test("score-heads keeps sinks, the window, what scores enough and what is not committed", () => {
  const scores = [-9, -9, 3, -5, -4, -9, 0, -9, -9, -9, -9, -9];
  const own = { "adapter:score-heads": scores };
  const view = { ...viewOf({ groups: [groupOf([...scores.keys()], own)] }), committed: 10 };
  const state = started(scoreHeads, { sinks: 1, window: 2 });
  assertEquals(keptAfter(view, scoreHeads.plan(state, view).edits), [0, 2, 4, 6, 8, 9, 10, 11]);
  const all = started(scoreHeads, { threshold: -9 });
  assertEquals(scoreHeads.plan(all, view).edits, []);
});

Deno.test("int8 stores what is older than its residual", () => {
  const view = viewOf({ groups: [groupOf([...Array(40).keys()])] });
  const { edits } = int8.plan(started(int8, { residual: 10 }), view);
  assertEquals(edits, [{ op: "encode", group: 0, slots: 30, format: "int8" }]);
});

Deno.test("separatorsOf() finds tokens of punctuation and white space, and no parts of characters", () => {
  const pieces = [".", " ,", "...", "\n\n", "?!", "a.", "é", " ", "word", ";"];
  const vocab = fakeVocab({ pieces });
  const found = [...separatorsOf(vocab)].map((token) => vocab.decode([token]));
  assertEquals(found, [".", " ,", "...", "\n\n", "?!", " ", ";"]);
});

/** What policies keep, on a real forward pass: which tokens, and with which keys. */
import { assert, assertAlmostEquals, assertEquals } from "@std/assert";
import { createCpuBackend } from "../../../runtime/backend/cpu/mod.ts";
import { h2o } from "../../../runtime/kv/policies/h2o.ts";
import { keyNorm } from "../../../runtime/kv/policies/key_norm.ts";
import { snapkv } from "../../../runtime/kv/policies/snapkv.ts";
import { streaming } from "../../../runtime/kv/policies/streaming.ts";
import type { KvPolicy } from "../../../runtime/kv/policy.ts";
import type { KvChoice } from "../../../runtime/mod.ts";
import { testScope } from "../engine/_fixtures.ts";
import { backends, open, tokensOf } from "./_tiny_engine.ts";

/** Looks at every token and changes nothing. */
const plain: KvPolicy = {
  name: "plain",
  source: "test",
  lossless: false,
  granularity: "sequence",
  signals: [],
  params: { parse: (value) => value },
  schedule: () => ({ prompt: 1, decode: 1 }),
  init: () => null,
  fork: (state) => state,
  plan: (state) => ({ state, edits: [] }),
};

/** What each consultation left, as positions per group. */
function watched(policy: KvPolicy, seen: number[][][]): KvPolicy {
  return {
    ...policy,
    plan(state, view) {
      const planned = policy.plan(state, view);
      seen.push(view.groups.map((group, g) => {
        const edit = planned.edits.find((one) => one.op === "keep" && one.group === g);
        return edit?.op === "keep"
          ? Array.from(edit.slots, (slot) => group.positions[slot]!)
          : [...group.positions];
      }));
      return planned;
    },
  };
}

Deno.test("what is kept of a document depends on the question only where queries are looked at", async () => {
  const params = { budget: 14, sinks: 1, window: 6 }, document = tokensOf(30);
  for (const [policy, isAware] of [[keyNorm, false], [snapkv, true], [h2o, true]] as const) {
    const kept: number[][][] = [];
    for (const question of [[1, 2, 3, 4, 5, 6], [9, 8, 14, 3, 2, 10]]) {
      const seen: number[][][] = [];
      const findPolicy = (): KvPolicy => watched(policy as KvPolicy, seen);
      await using engine = open(createCpuBackend, { findPolicy });
      const scope = testScope({ kv: { name: policy.name, params } });
      using session = engine.session([...document, ...question], { scope });
      await session.logits();
      kept.push(seen[0]!.map((group) => group.filter((position) => position < document.length)));
    }
    assert(kept[0]!.every((group) => group.length === 14 - 6), policy.name);
    assertEquals(JSON.stringify(kept[0]) !== JSON.stringify(kept[1]), isAware, policy.name);
  }
});

for (const [name, create] of Object.entries(backends)) {
  Deno.test(`${name}: keys that were turned many times are those of their place`, async () => {
    const tokens = tokensOf(90);
    // Keys of layer 0, which follow from token and place alone.
    let keys = new Float32Array(0), held: readonly number[] = [];
    const look = (policy: KvPolicy): KvPolicy => ({
      ...policy,
      signals: ["key"],
      plan(state, view) {
        const [group] = view.groups;
        keys = group!.signalOf("key", 0, 1).slice();
        held = Array.from(group!.positions, (position) => view.tokens[position]!);
        return policy.plan(state, view);
      },
    });
    const keysAfter = async (policy: KvPolicy, params: KvChoice["params"], prompt: number[]) => {
      await using engine = open(create, { findPolicy: () => look(policy) });
      const scope = testScope({ kv: { name: policy.name, params } });
      using session = engine.session(prompt.slice(0, 10), { scope });
      await session.logits();
      for (const token of prompt.slice(10)) { // one at a time: as many turns
        session.append([token]);
        await session.logits();
      }
      return keys;
    };
    const params = { sinks: 2, window: 12, positions: "cache" };
    const turned = await keysAfter(streaming as KvPolicy, params, tokens);
    const fresh = await keysAfter(plain, {}, [...held]);
    assert(turned.length === fresh.length && turned.length > 0);
    turned.forEach((value, i) => assertAlmostEquals(value, fresh[i]!, 1e-4));
  });
}

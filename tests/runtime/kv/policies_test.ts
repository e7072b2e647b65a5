import { assertEquals, assertThrows } from "@std/assert";
import * as z from "zod";
import { getPolicy, listPolicies } from "../../../runtime/kv/policies/mod.ts";
import { NotFoundError } from "../../../runtime/mod.ts";
import { testKvPolicy } from "../../conformance/kv_policy.ts";
import { windowPolicy } from "../../fakes/window_policy.ts";

/** Small enough that something happens in sequences of 40 tokens on pages of 4. */
const small: Readonly<Record<string, readonly Readonly<Record<string, unknown>>[]>> = {
  full: [{}],
  streaming: [
    { sinks: 2, window: 6, interval: 4 },
    { sinks: 1, window: 3, interval: 1, positions: "cache" },
    { sinks: 0, window: 5, interval: 3, format: "int8" },
    { sinks: 1, window: 7, format: "kivi4" },
    { sinks: 1, window: 7 },
  ],
  sepllm: [
    { sinks: 2, window: 4, interval: 4 },
    { mode: "stream", sinks: 1, window: 3, separators: 2, capacity: 12, interval: 2 },
    { sinks: 1, window: 2, interval: 1, format: "int4", prefill: "dense" },
    { sinks: 2, window: 5, prefill: "dense" },
    { sinks: 1, window: 4, interval: 5, format: "kivi4" },
    { mode: "stream", sinks: 1, window: 3, separators: 3, capacity: 14 },
  ],
  h2o: [{ budget: 9, sinks: 1, window: 3, interval: 4 }, {
    ratio: 0.3,
    sinks: 1,
    window: 2,
    interval: 3,
    format: "int8",
  }],
  tova: [{ budget: 7, sinks: 0, window: 1, interval: 1 }],
  snapkv: [{ budget: 8, sinks: 1, window: 4 }, {
    budget: 6,
    sinks: 0,
    window: 2,
    format: "int4",
  }],
  pyramidkv: [{ budget: 8, sinks: 1, window: 2 }],
  "expected-attention": [{ budget: 8, sinks: 1, window: 2 }],
  "key-norm": [{ budget: 8, sinks: 1, window: 2, interval: 4 }],
  "key-diff": [{ budget: 8, sinks: 1, window: 2, interval: 4, format: "int8" }, {
    budget: 37,
    sinks: 1,
    window: 2,
    interval: 2,
    format: "kivi4",
  }],
  quest: [{ budget: 8, sinks: 1, window: 2 }],
  nats: [{ window: 4, interval: 3 }],
  "score-heads": [{ threshold: 0.6, sinks: 1, window: 3 }],
  tokenbutler: [{ budget: 8, sinks: 1, window: 2 }],
  "attention-predictor": [
    { budget: 8, sinks: 1, window: 2, block: 2, history: 3, calibrate_every: 3, dense_layers: 1 },
  ],
  int8: [{ residual: 0 }, { residual: 5 }],
  int4: [{ residual: 4, keys: "token" }, { residual: 3 }],
};
for (const policy of listPolicies()) {
  for (const params of small[policy.name] ?? []) {
    const isDense = "format" in params, isGrouped = policy.name === "int4" && !("keys" in params);
    const isHidden = policy.lifetime !== undefined && params["mode"] !== "stream";
    testKvPolicy(policy, {
      params,
      // What is stored in few bits, and where places are slots, depends on what was committed.
      isExact: policy.lossless ||
        isHidden && params["positions"] !== "cache" && !("format" in params),
      tightPages: isGrouped ? 13 : policy.family === "quantisation" ? 10 : isDense ? 16 : 20,
    });
  }
}
Deno.test("every policy of the registry is under the shared suite", () => {
  assertEquals(Object.keys(small).sort(), listPolicies().map(({ name }) => name).sort());
});

testKvPolicy(windowPolicy);
testKvPolicy(windowPolicy, { params: { sinks: 0, recent: 3 } });
testKvPolicy(windowPolicy, { params: { sinks: 4, recent: 8 } }); // whole pages
testKvPolicy(windowPolicy, { params: { sinks: 1000, recent: 0 } }); // drops nothing

Deno.test("getPolicy() finds policies by name and lists what there is", () => {
  assertEquals(getPolicy("full").name, "full");
  const error = assertThrows(() => getPolicy("fool"), NotFoundError);
  assertEquals([error.kind, error.subject], ["policy", "fool"]);
  assertEquals(error.known, listPolicies().map(({ name }) => name));
});

Deno.test("full takes no parameters", () => {
  assertEquals(getPolicy("full").params.parse({}), {});
  assertThrows(() => getPolicy("full").params.parse({ budget: 3 }), z.ZodError, "budget");
});

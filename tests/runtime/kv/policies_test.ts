import { assertEquals, assertThrows } from "@std/assert";
import { getPolicy, listPolicies } from "../../../runtime/kv/policies/mod.ts";
import { NotFoundError } from "../../../runtime/mod.ts";
import { testKvPolicy } from "../../conformance/kv_policy.ts";
import { windowPolicy } from "../../fakes/window_policy.ts";

for (const policy of listPolicies()) testKvPolicy(policy);
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
  assertThrows(() => getPolicy("full").params.parse({ budget: 3 }), RangeError, "budget");
});

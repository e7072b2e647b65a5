import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { type KvChoice, PolicyError } from "../../runtime/mod.ts";
import { listStrategies, parseParams, usedRoles } from "../../strategies/mod.ts";
import {
  chatBody,
  chatModel,
  type GatewayOptions,
  type Json,
  readEvents,
  testGateway,
} from "./_support.ts";

const path = "/v1/chat/completions";

interface Ask {
  readonly header?: string;
  readonly kv?: string;
  readonly body?: Json;
  readonly options?: GatewayOptions;
}

async function ask({ header, kv, body = {}, options }: Ask) {
  const response = await testGateway(options).post(path, chatBody(body), {
    ...header === undefined ? {} : { "x-decoding-strategy": header },
    ...kv === undefined ? {} : { "x-kv-policy": kv },
  });
  const json = await response.json();
  return {
    status: response.status,
    strategy: response.headers.get("x-decoding-strategy"),
    source: response.headers.get("x-decoding-source"),
    policy: response.headers.get("x-kv-policy"),
    code: json.error?.code,
    param: json.error?.param,
    message: json.error?.message,
    json,
  };
}

/** Asks and returns only status, code and param. */
async function refusal(request: Ask) {
  const { status, code, param } = await ask(request);
  return [status, code, param];
}

Deno.test("the strategy comes from the header, the body, the alias, or the default", async () => {
  const aliases = new Map([
    ["careful", { model: "hash", strategy: "beam", params: { num_beams: 2 } }],
    ["plain", { model: "hash" }],
  ]);
  const seen = async (request: Ask) => {
    const { status, strategy, source, policy } = await ask({ ...request, options: { aliases } });
    return [status, strategy, source, policy];
  };
  assertEquals(await seen({}), [200, "sample", "default", "full"]);
  assertEquals(await seen({ header: "greedy" }), [200, "greedy", "header", "full"]);
  const greedy = { decoding: { strategy: "greedy" } };
  assertEquals(await seen({ body: greedy }), [200, "greedy", "body", "full"]);
  assertEquals(await seen({ body: { model: "careful" } }), [200, "beam", "alias", "full"]);
  assertEquals(await seen({ body: { model: "plain" } }), [200, "sample", "default", "full"]);
  const over = { model: "careful", ...greedy };
  assertEquals(await seen({ body: over }), [200, "greedy", "body", "full"]);
  assertEquals(
    await seen({ body: { model: "careful" }, header: "greedy" }),
    [200, "greedy", "header", "full"],
  );
});

Deno.test("an alias answers as the model that really ran, with its parameters", async () => {
  const aliases = new Map([["careful", {
    model: "hash",
    strategy: "beam",
    params: { num_beams: 2, length_penalty: 0 },
  }]]);
  const body = { model: "careful", decoding: { params: { num_beams: 3 }, trace: "summary" } };
  const { json, source } = await ask({ body, options: { aliases } });
  assertEquals(json.model, "hash");
  assertEquals(source, "alias");
  assertEquals(json.decoding.params.num_beams, 3);
  assertEquals(json.decoding.params.length_penalty, 0);
});

Deno.test("header parameters of every type reach the strategy", async () => {
  const body = { decoding: { trace: "summary" } };
  const header = "beam;num_beams=3;length_penalty=0.5;early_stopping";
  const { json } = await ask({ header, body });
  const { num_beams: beams, length_penalty: penalty, early_stopping: early } = json.decoding.params;
  assertEquals([beams, penalty, early], [3, 0.5, true]);
  const { json: text } = await ask({ header: 'beam;early_stopping="never"', body });
  assertEquals(text.decoding.params.early_stopping, "never");
  const { json: token } = await ask({ header: "beam;early_stopping=never", body });
  assertEquals(token.decoding.params.early_stopping, "never");
});

Deno.test("header and body may both speak if they say the same", async () => {
  const same = { decoding: { strategy: "beam", params: { num_beams: 3 } } };
  assertEquals((await ask({ header: "beam;num_beams=3", body: same })).source, "header");
  // 4 is the default, so saying it and leaving it out are the same.
  const bare = { decoding: { strategy: "beam" } };
  assertEquals((await ask({ header: "beam;num_beams=4", body: bare })).status, 200);
  const trace = { decoding: { trace: "summary" } };
  assertEquals((await ask({ header: "beam;num_beams=3", body: trace })).status, 200);
  const conflict = [400, "strategy_conflict", "decoding"];
  assertEquals(await refusal({ header: "beam;num_beams=2", body: same }), conflict);
  assertEquals(await refusal({ header: "greedy", body: same }), conflict);
  const params = { decoding: { params: { num_beams: 2 } } };
  assertEquals(await refusal({ header: "beam", body: params }), conflict);
});

Deno.test("unknown strategies are refused where they were named, with the known names", async () => {
  const byHeader = await ask({ header: "bream" });
  assertEquals(
    [byHeader.status, byHeader.code, byHeader.param],
    [400, "unknown_strategy", "X-Decoding-Strategy"],
  );
  for (const { name } of listStrategies()) assertStringIncludes(byHeader.message, name);
  assertEquals(
    await refusal({ body: { decoding: { strategy: "bream" } } }),
    [400, "unknown_strategy", "decoding.strategy"],
  );
  assertEquals(
    await refusal({ body: { decoding: { strategy: "__proto__" } } }),
    [400, "unknown_strategy", "decoding.strategy"],
  );
});

Deno.test("strategy parameters are refused by name, never clamped", async () => {
  const code = "invalid_strategy_param";
  assertEquals(await refusal({ header: "beam;num_beams=0" }), [
    400,
    code,
    "decoding.params.num_beams",
  ]);
  assertEquals(await refusal({ header: "beam;num_beams=65" }), [
    400,
    code,
    "decoding.params.num_beams",
  ]);
  assertEquals(await refusal({ header: "greedy;x" }), [400, code, "decoding.params.x"]);
  const body = { decoding: { strategy: "beam", params: { num_beams: "4" } } };
  const { strategy, source, ...refused } = await ask({ body });
  assertEquals([refused.status, refused.code], [400, code]);
  // What is known already is said on errors too.
  assertEquals([strategy, source], ["beam", "body"]);
});

Deno.test("malformed headers are 400 with the header as param", async () => {
  const expected = [400, "invalid_value", "X-Decoding-Strategy"];
  for (
    const header of [
      "",
      "beam, greedy",
      "beam;num_beams=",
      "beam;Num=1",
      '"beam"',
      "4",
      "(beam)",
      "beam;x=:aGk=:",
      "beam;x=@1700000000",
      "beam greedy",
      "-beam",
      `beam;x="${"y".repeat(5000)}"`,
    ]
  ) {
    assertEquals(await refusal({ header }), expected, header.slice(0, 40));
  }
  assertEquals(await refusal({ kv: "full," }), [400, "invalid_value", "X-KV-Policy"]);
});

Deno.test("KV policies: known ones run, unknown ones are named, disagreement is refused", async () => {
  assertEquals((await ask({ kv: "full" })).policy, "full");
  const inBody = (name: string, params = {}) => ({ decoding: { kv_policy: { name, params } } });
  assertEquals((await ask({ body: inBody("full") })).policy, "full");
  const unknown = await ask({ kv: "sepplm;window=256" });
  assertEquals([unknown.status, unknown.code, unknown.param], [
    400,
    "invalid_value",
    "X-KV-Policy",
  ]);
  assertStringIncludes(unknown.message, "full");
  assertEquals(
    await refusal({ body: inBody("sepplm") }),
    [400, "invalid_value", "decoding.kv_policy.name"],
  );
  assertEquals(
    await refusal({ body: inBody("streaming") }),
    [400, "strategy_unsupported", "decoding.kv_policy.name"],
    "a model without policies is no reason to fall back to the full cache",
  );
  assertEquals(await refusal({ kv: "full;window=2" }), [400, "invalid_value", "X-KV-Policy"]);
  const window = {
    name: "window",
    params: { parse: (value: unknown) => ({ size: 64, ...Object(value) }) },
  };
  const kvPolicies = [window, { name: "full", params: window.params }];
  const checkKv = ({ name, params }: KvChoice) => {
    if (params["size"] === 7) throw new PolicyError("window", "odd", "size");
    if (params["size"] === 5) throw new PolicyError("window", "the model has no windows");
    return { name, params };
  };
  const options = { kvPolicies, models: [chatModel({ checkKv })] };
  const agreed = await ask({ kv: "window;size=64", body: inBody("window"), options });
  assertEquals([agreed.status, agreed.policy], [200, "window;size=64"]);
  assertEquals(
    await refusal({ kv: "window;size=8", body: inBody("window"), options }),
    [400, "strategy_conflict", "decoding.kv_policy"],
  );
  assertEquals(
    await refusal({ body: inBody("window", { size: 7 }), options }),
    [400, "invalid_value", "decoding.kv_policy.params.size"],
  );
  assertEquals(await refusal({ kv: "window;size=5", options }), [
    400,
    "strategy_unsupported",
    "X-KV-Policy",
  ]);
});

Deno.test("X-KV-Policy tells what the models of a request settle alike, and nothing else", async () => {
  const kvPolicies = [{ name: "learned", params: { parse: () => ({ size: 64 }) } }];
  const settles = (id: string, params: Readonly<Record<string, unknown>>) =>
    chatModel({
      id,
      checkKv: (choice) => ({ ...choice, params: { ...choice.params, ...params } }),
    });
  const models = [
    settles("hash", { window: 8, bias: 1 }),
    settles("small", { window: 9, bias: 1 }),
  ];
  const options = { kvPolicies, models }, kv = "learned";
  assertEquals((await ask({ kv, options })).policy, "learned;size=64;window=8;bias=1");
  const decoding = { strategy: "speculative", models: { draft: "small" } };
  const both = await ask({ kv, options, body: { decoding } });
  assertEquals([both.status, both.policy], [200, "learned;size=64;bias=1"]);
});

Deno.test("a model that lacks what the strategy needs is refused, or the default runs if allowed", async () => {
  const models = [chatModel({ capabilities: ["generate"] })];
  const decoding = { strategy: "beam" };
  const refused = await ask({ body: { decoding }, options: { models } });
  assertEquals([refused.status, refused.code], [400, "strategy_unsupported"]);
  assertStringIncludes(refused.message, "topk");
  const gateway = testGateway({ models });
  const body = chatBody({ decoding: { ...decoding, fallback: "allow" } });
  const response = await gateway.post(path, body);
  assertEquals(response.status, 200);
  assertEquals(response.headers.get("x-decoding-strategy"), "sample");
  assertEquals(response.headers.get("x-decoding-fallback"), "beam");
});

Deno.test("roles: unknown ones, unknown models and another first model are refused", async () => {
  const body = (models: Json) => ({ decoding: { strategy: "greedy", models } });
  assertEquals(
    await refusal({ body: body({ judge: "hash" }) }),
    [400, "invalid_value", "decoding.models.judge"],
  );
  assertEquals((await ask({ body: body({ model: "hash" }) })).status, 200);
  assertEquals(
    await refusal({ body: body({ model: "nope" }) }),
    [404, "model_not_found", "decoding.models.model"],
  );
  const models = [chatModel(), chatModel({ id: "other" })];
  assertEquals(
    await refusal({ body: body({ model: "other" }), options: { models } }),
    [400, "invalid_value", "decoding.models.model"],
  );
});

Deno.test("more sequences than allowed are refused before anything runs", async () => {
  const model = chatModel();
  const options = { models: [model], limits: { sequences: 6 } };
  assertEquals(await refusal({ body: { n: 7 }, options }), [400, "invalid_value", "n"]);
  assertEquals(
    await refusal({ header: "beam;num_beams=7", options }),
    [400, "invalid_strategy_param", "decoding.params"],
  );
  assertEquals(await refusal({ header: "greedy", options }), [200, undefined, undefined]);
  const { steps } = model.stats;
  await ask({ body: { n: 7 }, options });
  assertEquals(model.stats.steps, steps);
});

Deno.test("every strategy of the registry answers over HTTP, whole and streamed", async () => {
  for (const strategy of listStrategies()) {
    const { name } = strategy;
    const roles = Object.keys(usedRoles(strategy, parseParams(strategy, {}))).slice(1);
    const gateway = testGateway();
    const decoding = {
      strategy: name,
      // A cascade has no threshold that would do for every model.
      params: name === "cascade" ? { threshold: -3 } : {},
      models: Object.fromEntries(roles.map((role) => [role, "hash"])),
    };
    const body = chatBody({ seed: 2, decoding });
    const whole = await gateway.post(path, body);
    assertEquals(whole.status, 200, `${name}: ${await whole.clone().text()}`);
    assertEquals(whole.headers.get("x-decoding-strategy"), name);
    const { choices } = await whole.json();
    const events = await readEvents(await gateway.post(path, { ...body, stream: true }));
    const text = events.map((event) => event.choices[0].delta.content ?? "").join("");
    assertEquals(text, choices[0].message.content, name);
    assert(events.at(-1).choices[0].finish_reason);
  }
});

// deno-lint-ignore-file camelcase -- names as on the wire
/** Listings and pages: models, strategies, tokens, health, metrics, openapi, the start page. */
import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { routes } from "../../routes/app.ts";
import * as schemas from "../../routes/schema/responses.ts";
import { listStrategies } from "../../strategies/mod.ts";
import {
  asciiVocab,
  chatBody,
  chatModel,
  digest,
  type GatewayOptions,
  type Json,
  metric,
  testGateway,
} from "./_support.ts";

async function getJson(path: string, options?: GatewayOptions): Promise<Json> {
  const response = await testGateway(options).get(path);
  assertEquals(response.status, 200, path);
  return await response.json();
}

const slashed = {
  models: [chatModel(), chatModel({ id: "org/name.v1" })],
  info: { hash: { draft: "org/name.v1", parameters: 3_100_000 } },
  aliases: new Map([["careful", { model: "hash", strategy: "beam", params: { num_beams: 2 } }]]),
};

Deno.test("models and aliases are listed with the four members and more", async () => {
  const json = schemas.modelListSchema.parse(await getJson("/v1/models", slashed));
  assertEquals(json.data.map(({ id }) => id), ["hash", "org/name.v1", "careful"]);
  const [hash, , careful] = json.data;
  assertEquals(hash!["draft"], "org/name.v1");
  assertEquals(hash!["max_model_len"], 1024);
  assertEquals(careful!["alias_of"], "hash");
  assertEquals(careful!["decoding"], { strategy: "beam", params: { num_beams: 2 } });
});

Deno.test("model ids with slashes work plain and encoded", async () => {
  for (const id of ["hash", "org/name.v1", "org%2Fname.v1", "careful"]) {
    const model = schemas.modelSchema.parse(await getJson(`/v1/models/${id}`, slashed));
    assertEquals(model.id, decodeURIComponent(id));
  }
  const unknown = await testGateway(slashed).get("/v1/models/org/other");
  assertEquals([unknown.status, (await unknown.json()).error.code], [404, "model_not_found"]);
});

Deno.test("strategies are listed with parameters and the models that can run them", async () => {
  const models = [chatModel(), chatModel({ id: "thin", capabilities: ["generate"] })];
  const json = schemas.strategyListSchema.parse(await getJson("/v1/strategies", { models }));
  assertEquals(json.data.map(({ name }) => name), listStrategies().map(({ name }) => name));
  const one = await getJson("/v1/strategies/beam", { models });
  assertEquals(one, json.data.find(({ name }) => name === "beam"));
  assertEquals(one.params.properties.num_beams.default, 4);
  assertEquals(one.models, { model: ["hash"] });
  assertEquals((await getJson("/v1/strategies/sample", { models })).default, true);
  const unknown = await testGateway().get("/v1/strategies/nope");
  assertEquals([unknown.status, (await unknown.json()).error.code], [404, "not_found"]);
});

Deno.test("tokenize and detokenize agree with the vocabulary", async () => {
  const gateway = testGateway();
  const ask = async (path: string, body: Json) => await (await gateway.post(path, body)).json();
  const text = schemas.tokenizeResponseSchema.parse(
    await ask("/tokenize", { model: "hash", prompt: "a<end>é", return_token_strs: true }),
  );
  assertEquals(text.tokens, asciiVocab.encode("a<end>é", { special: true, bos: true }));
  assertEquals([text.count, text.max_model_len], [4, 1024]);
  assertEquals(text.token_strs!.slice(0, 3), ["<s>", "a", "<end>"]);
  const plain = { prompt: "a<end>", add_special_tokens: false, parse_special: false };
  assertEquals((await ask("/tokenize", plain)).tokens, asciiVocab.encode("a<end>"));
  assertEquals((await ask("/tokenize", { prompt: "" })).tokens.length, 1);
  const { messages } = chatBody();
  const chat = await ask("/tokenize", { messages, continue_final_message: true });
  assertEquals(
    asciiVocab.decode(chat.tokens, { special: true }),
    "<s><user>hello",
  );
  const back = schemas.detokenizeResponseSchema.parse(
    await ask("/detokenize", { tokens: text.tokens }),
  );
  assertEquals(back.prompt, "<s>a<end>é");
  const bare = await ask("/detokenize", { tokens: text.tokens, skip_special_tokens: true });
  assertEquals(bare.prompt, "aé");
});

Deno.test("health always answers; ready and text wait for the models", async () => {
  let isReady = false;
  const gateway = testGateway({ isReady: () => isReady });
  assertEquals((await gateway.get("/health")).status, 200);
  for (
    const response of [
      await gateway.get("/ready"),
      await gateway.post("/v1/chat/completions", chatBody()),
    ]
  ) {
    assertEquals([response.status, response.headers.get("retry-after")], [503, "1"]);
    assertEquals((await response.json()).error.code, "model_loading");
  }
  isReady = true;
  assertEquals(await (await gateway.get("/ready")).json(), { status: "ready" });
  assertEquals((await gateway.post("/v1/chat/completions", chatBody())).status, 200);
});

Deno.test("metrics count requests and tokens; switched off they are not there", async () => {
  const gateway = testGateway({ engineStats: () => ({ engine_steps: 7 }) });
  const body = chatBody({ ignore_eos: true, decoding: { strategy: "best-of-n" } });
  await (await gateway.post("/v1/chat/completions", body)).json();
  await (await gateway.post("/v1/chat/completions", chatBody({ n: 0 }))).json();
  const labels = 'model="hash",strategy="best-of-n"';
  assertEquals(await metric(gateway, `prompt_tokens_total{${labels}}`), 9);
  assertEquals(await metric(gateway, `generated_tokens_total{${labels}}`), 8);
  assertEquals(await metric(gateway, `tokens_drawn_total{${labels}}`), 32);
  assertEquals(await metric(gateway, "engine_steps"), 7);
  const route = 'route="/v1/chat/completions"';
  const good = `requests_total{${route},strategy="best-of-n",model="hash",status="200"}`;
  assertEquals(await metric(gateway, good), 1);
  const bad = `requests_total{${route},strategy="",model="",status="400"}`;
  assertEquals(await metric(gateway, bad), 1);
  assertEquals((await testGateway({ metrics: false }).get("/metrics")).status, 404);
});

Deno.test("the API description covers every route and resolves all its references", async () => {
  const json = await getJson("/openapi.json");
  assertEquals(json.openapi, "3.1.0");
  const described = Object.entries<Json>(json.paths).flatMap(([path, item]) =>
    Object.keys(item).map((method) => `${method.toUpperCase()} ${path}`)
  );
  const expected = routes.filter(({ path }) => !["/", "/docs", "/playground"].includes(path))
    .map(({ method, path }) =>
      `${method} ${path.replace("/:id{.+}", "/{id}").replace("/:name", "/{name}")}`
    );
  assertEquals(described.sort(), expected.sort());
  const chat = json.paths["/v1/chat/completions"].post.requestBody.content["application/json"];
  assertEquals(chat.schema.required, ["model", "messages"]);
  assertEquals(chat.schema.properties.seed.anyOf[0].format, "int64");
  assertEquals(chat.schema.properties.n.anyOf[0].maximum, 16);
  const ids = Object.values<Json>(json.paths).flatMap((item) =>
    Object.values<Json>(item).map(({ operationId }) => operationId)
  );
  assertEquals(new Set(ids).size, ids.length);
  for (const [, reference] of JSON.stringify(json).matchAll(/"\$ref":"([^"]+)"/g)) {
    const target = reference!.slice(2).split("/").reduce((value, key) => value?.[key], json);
    assert(target, reference);
  }
});

Deno.test("the start page shows what is served, escaped, and loads nothing", async () => {
  const evil = `<script>alert("x")</script>&'`;
  const gateway = testGateway({
    models: [chatModel({ id: evil })],
    aliases: new Map([["<b>", { model: evil }]]),
  });
  const response = await gateway.get("/");
  const page = await response.text();
  assertEquals(response.headers.get("content-type"), "text/html; charset=utf-8");
  assertEquals(/<script|<b>|javascript:|https?:\/\/(?!localhost)/.test(page), false);
  assertStringIncludes(page, "&lt;script&gt;");
  for (const { name } of listStrategies()) assertStringIncludes(page, name);
  for (const text of ["/openapi.json", "curl ", "X-Decoding-Strategy", "/v1/completions"]) {
    assertStringIncludes(page, text);
  }
  const policy = response.headers.get("content-security-policy")!;
  const style = /<style>([^]*?)<\/style>/.exec(page)![1]!;
  const hash = (await digest(style)).toBase64();
  assertStringIncludes(policy, `style-src 'sha256-${hash}'`);
  assertStringIncludes(policy, "default-src 'none'");
  assertEquals(/style=|onclick=|unsafe/.test(page + policy), false);
  const docs = await gateway.get("/docs");
  assertEquals([docs.status, docs.headers.get("location")], [302, "/#api"]);
});

Deno.test("with keys configured the start page names no model", async () => {
  const gateway = testGateway({
    models: [chatModel({ id: "hidden-model" })],
    apiKeys: [await digest("k")],
  });
  const page = await (await gateway.get("/")).text();
  assertEquals(page.includes("hidden-model"), false);
  assertMatch(page, /Authorization: Bearer/);
});

Deno.test("the playground holds no data, runs only its own script, and talks only to this origin", async () => {
  const response = await testGateway().get("/playground");
  const page = await response.text();
  const policy = response.headers.get("content-security-policy")!;
  const script = /<script>([\s\S]*)<\/script>/.exec(page)![1]!;
  assertStringIncludes(policy, `script-src 'sha256-${(await digest(script)).toBase64()}'`);
  assertStringIncludes(policy, "connect-src 'self'");
  assertEquals(/innerHTML|insertAdjacent|document\.write|eval\(|https?:/.test(script), false);
  assertEquals(/ on[a-z]+="|<link|<img|src=/.test(page.replace(script, "")), false);
});

Deno.test("the playground's script finds every field it asks for, KV policy and constraint among them", async () => {
  const page = await (await testGateway().get("/playground")).text();
  const script = /<script>([\s\S]*)<\/script>/.exec(page)![1]!;
  const asked = new Set([...script.matchAll(/\bat\("([\w-]+)"\)/g)].map((match) => match[1]!));
  const there = new Set([...page.matchAll(/ id="([\w-]+)"/g)].map((match) => match[1]!));
  for (const id of ["kv", "kv-params", "kind", "constraint"]) assert(asked.has(id), id);
  for (const id of asked) assert(there.has(id), id);
});

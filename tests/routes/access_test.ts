/** Keys, Host, Origin, methods: what stands in front of every route. */
import { assert, assertEquals } from "@std/assert";
import { routes } from "../../routes/app.ts";
import { errorSchema } from "../../routes/schema/responses.ts";
import { chatBody, digest, testGateway } from "./_support.ts";

/** Routes anybody may call. A route that is added needs a key unless it is added here as well. */
const publicPaths = ["/", "/docs", "/playground", "/health", "/ready"];

/** A path that matches a pattern. */
const concrete = (pattern: string) =>
  pattern.replace("/:id{.+}", "/org/name").replace("/:name", "/beam");

Deno.test("every registered route but the public ones needs a key", async () => {
  const gateway = testGateway({ apiKeys: [await digest("secret")] });
  const registered = gateway.app.routes.filter(({ method }) => method !== "ALL");
  assertEquals(registered.length, routes.length);
  for (const { method, path } of registered) {
    const isPublic = publicPaths.includes(path);
    for (const headers of [{}, { authorization: "Bearer wrong" }, { "x-api-key": "wrong" }]) {
      const response = await gateway.app.request(concrete(path), { method, headers });
      const what = `${method} ${path}`;
      if (isPublic) {
        assert(response.status < 400, what);
        continue;
      }
      assertEquals(response.status, 401, what);
      assertEquals(response.headers.get("www-authenticate"), "Bearer");
      assertEquals(errorSchema.parse(await response.json()).error.code, "invalid_api_key");
    }
    const known = { method, headers: { authorization: "Bearer secret" } };
    assert((await gateway.app.request(concrete(path), known)).status !== 401);
  }
  const wild = gateway.app.routes.filter(({ method }) => method === "ALL").map(({ path }) => path);
  assertEquals(new Set(wild), new Set(["/*", ...routes.map(({ path }) => path)]));
});

Deno.test("any configured key is accepted, as Bearer or X-Api-Key; near misses are not", async () => {
  const gateway = testGateway({ apiKeys: await Promise.all(["one", "two", "zwölf"].map(digest)) });
  const status = async (headers: Record<string, string>) =>
    (await gateway.get("/v1/models", headers)).status;
  assertEquals(await status({ authorization: "Bearer one" }), 200);
  assertEquals(await status({ authorization: "bearer two" }), 200);
  assertEquals(await status({ "x-api-key": "two" }), 200);
  for (const key of ["on", "one ", "onee", "One", "one two", "x".repeat(4000), "Bearer one"]) {
    const expected = key.trim() === "one" ? 200 : 401;
    assertEquals(await status({ "x-api-key": key }), expected, key.slice(0, 20));
  }
  assertEquals(await status({ authorization: "Basic one" }), 401);
  assertEquals(await status({ authorization: "one" }), 401);
  assertEquals(await status({}), 401);
});

Deno.test("a key that is longer than keys may be is wrong, whatever it starts with", async () => {
  const gateway = testGateway({ apiKeys: [await digest("x".repeat(512))] });
  const status = async (length: number) =>
    (await gateway.get("/v1/models", { "x-api-key": "x".repeat(length) })).status;
  assertEquals([await status(512), await status(513), await status(511)], [200, 401, 401]);
});

Deno.test("a key never shows in answers or the log, only 8 digits of its hash", async () => {
  const gateway = testGateway({ apiKeys: [await digest("secret-1")] });
  const wrong = await gateway.get("/v1/models", { authorization: "Bearer secret-2" });
  const right = await gateway.get("/v1/models", { authorization: "Bearer secret-1" });
  const text = await wrong.text() + await right.text() + JSON.stringify(gateway.log);
  assertEquals(text.includes("secret"), false);
  const hex = (await digest("secret-1")).toHex();
  assertEquals(gateway.log.at(-1)!["key"], hex.slice(0, 8));
});

Deno.test("the Host header must be a plain host name, whatever the path", async () => {
  const gateway = testGateway({ apiKeys: [await digest("secret")] });
  for (
    const host of [
      "x/v1/models?",
      "x/health#",
      "user@host",
      "a b",
      "host:port",
      "host:123456",
      "[::1",
      "::1",
      "-host",
      "a_b",
      "host,other",
      "",
      "x".repeat(256),
    ]
  ) {
    for (const path of ["/health", "/v1/models", "/nothing"]) {
      const response = await gateway.get(path, { host });
      assertEquals(response.status, 400, host);
      const { error } = errorSchema.parse(await response.json());
      assertEquals(error.code, "invalid_host");
      assert(response.headers.get("x-request-id"));
    }
  }
  for (
    const host of ["localhost", "localhost:8000", "Gateway.Example:443", "127.0.0.1", "[::1]:80"]
  ) {
    assertEquals((await gateway.get("/health", { host })).status, 200, host);
  }
});

Deno.test("bound to loopback, only its own names are answered", async () => {
  const allowedHosts = ["localhost", "127.0.0.1", "[::1]"];
  const gateway = testGateway({ allowedHosts });
  for (const host of ["localhost:8000", "LOCALHOST", "127.0.0.1:1", "[::1]", "localhost."]) {
    assertEquals((await gateway.get("/health", { host })).status, 200, host);
  }
  for (const host of ["evil.example", "127.0.0.1.evil.example", "127.0.0.2", "[::2]"]) {
    assertEquals((await gateway.get("/health", { host })).status, 400, host);
  }
});

Deno.test("pages of foreign origins cannot make the gateway work", async () => {
  const gateway = testGateway({ corsOrigins: ["https://chat.example"] });
  const post = async (origin: string) =>
    await gateway.post("/v1/chat/completions", chatBody(), { host: "localhost:8000", origin });
  for (
    const origin of [
      "https://evil.example",
      "null",
      "https://chat.example.evil",
      "http://chat.example",
    ]
  ) {
    const response = await post(origin);
    assertEquals(response.status, 403, origin);
    const { error } = errorSchema.parse(await response.json());
    assertEquals([error.type, error.code], ["permission_error", "origin_not_allowed"]);
    assertEquals(response.headers.get("access-control-allow-origin"), null);
  }
  const allowed = await post("https://chat.example");
  assertEquals(allowed.status, 200);
  assertEquals(allowed.headers.get("access-control-allow-origin"), "https://chat.example");
  assertEquals((await post("http://localhost:8000")).status, 200);
});

Deno.test("OPTIONS never needs a key and names the methods", async () => {
  const gateway = testGateway({
    apiKeys: [await digest("secret")],
    corsOrigins: ["https://chat.example"],
  });
  const options = async (path: string, headers: Record<string, string> = {}) =>
    await gateway.app.request(path, { method: "OPTIONS", headers });
  const plain = await options("/v1/chat/completions");
  assertEquals([plain.status, plain.headers.get("allow")], [204, "POST, OPTIONS"]);
  assertEquals(plain.headers.get("access-control-allow-headers"), null);
  const cross = await options("/v1/models", {
    origin: "https://chat.example",
    "access-control-request-headers": "authorization, x-stainless-lang, x-evil",
  });
  assertEquals(cross.headers.get("access-control-allow-methods"), "GET, HEAD, OPTIONS");
  const allowed = cross.headers.get("access-control-allow-headers")!.toLowerCase();
  assert(allowed.includes("authorization") && allowed.includes("x-stainless-lang"));
  assertEquals(allowed.includes("x-evil"), false);
  assertEquals((await options("/nothing")).status, 404);
});

Deno.test("unknown paths are 404, wrong methods 405 with Allow, both with an error object", async () => {
  const gateway = testGateway();
  for (
    const path of ["/v1", "/v1/chat", "/v2/models", "/v1/models/", "/nothing", "/%2e%2e/x", "/%zz"]
  ) {
    const response = await gateway.get(path);
    assertEquals(response.status, 404, path);
    errorSchema.parse(await response.json());
  }
  for (
    const [method, path, allow] of [
      ["GET", "/v1/chat/completions", "POST, OPTIONS"],
      ["DELETE", "/v1/models", "GET, HEAD, OPTIONS"],
      ["PUT", "/v1/models/a/b", "GET, HEAD, OPTIONS"],
      ["POST", "/health", "GET, HEAD, OPTIONS"],
    ] as const
  ) {
    const response = await gateway.app.request(path, { method });
    assertEquals([response.status, response.headers.get("allow")], [405, allow]);
    const { error } = errorSchema.parse(await response.json());
    assertEquals([error.code, error.type], ["method_not_allowed", "invalid_request_error"]);
  }
  const head = await gateway.app.request("/v1/models", { method: "HEAD" });
  assertEquals([head.status, await head.text()], [200, ""]);
});

Deno.test("a plain X-Request-Id is kept, any other one replaced", async () => {
  const gateway = testGateway();
  const id = async (given: string) =>
    (await gateway.get("/nothing", { "x-request-id": given })).headers.get("x-request-id");
  assertEquals(await id("Abc-1.2_3"), "Abc-1.2_3");
  for (const given of ["a b", "", "x".repeat(129), "a;b", "a\u00e9"]) {
    assert((await id(given))!.startsWith("req_id"), given);
  }
});

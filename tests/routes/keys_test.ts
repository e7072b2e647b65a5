// deno-lint-ignore-file camelcase -- names as on the wire
/** Keys with limits of their own, the line for a place, deadlines in it. */
import { assert, assertEquals } from "@std/assert";
import type { KeyGrant } from "../../routes/mod.ts";
import { chatBody, chatModel, digest, metric, settle, testGateway } from "./_support.ts";

const path = "/v1/chat/completions";
const as = (key: string) => ({ authorization: `Bearer ${key}` });

/** A gateway with the key "all", and "some" with these limits. */
async function withKeys(
  grant: Omit<KeyGrant, "digest">,
  options: Parameters<typeof testGateway>[0] = {},
) {
  return testGateway({
    models: [chatModel(), chatModel({ id: "other" })],
    apiKeys: [await digest("all")],
    keys: [{ ...grant, digest: await digest("some") }],
    ...options,
  });
}

async function refusal(response: Response): Promise<[number, string, string | null]> {
  const { error } = await response.json();
  return [response.status, error.code, error.param];
}

Deno.test("a key reaches its models alone, by every route that names one", async () => {
  const gateway = await withKeys({ models: ["hash", "named"] }, {
    aliases: new Map([["named", { model: "other" }], ["hidden", { model: "hash" }]]),
  });
  const some = as("some");
  const list = await (await gateway.get("/v1/models", some)).json();
  assertEquals(list.data.map(({ id }: { id: string }) => id), ["hash", "named"]);
  const all = await (await gateway.get("/v1/models", as("all"))).json();
  assertEquals(all.data.length, 4);
  for (const model of ["other", "hidden"]) {
    const expected: [number, string, string] = [403, "model_not_allowed", "model"];
    const bodies = { [path]: chatBody({ model }), "/v1/completions": { model, prompt: "a" } };
    for (const [route, body] of Object.entries(bodies)) {
      assertEquals(await refusal(await gateway.post(route, body, some)), expected);
    }
    const tokenize = await gateway.post("/tokenize", { model, prompt: "a" }, some);
    assertEquals(await refusal(tokenize), expected);
    assertEquals(await refusal(await gateway.get(`/v1/models/${model}`, some)), expected);
    assertEquals((await gateway.post(path, chatBody({ model }), as("all"))).status, 200);
  }
  assertEquals((await gateway.post(path, chatBody({ model: "named" }), some)).status, 200);
  for (const listing of ["/v1/strategies", "/v1/strategies/beam", "/v1/kv-policies"]) {
    const text = await (await gateway.get(listing, some)).text();
    assertEquals([text.includes('"hash"'), text.includes('"other"')], [true, false], listing);
  }
  const unknown = await (await gateway.post(path, chatBody({ model: "x" }), some)).text();
  assertEquals(unknown.includes("hidden") || unknown.includes("other"), false);
  const decoding = { strategy: "speculative", models: { draft: "other" } };
  const asRole = await gateway.post(path, chatBody({ decoding }), some);
  assertEquals(await refusal(asRole), [403, "model_not_allowed", "decoding.models.draft"]);
});

Deno.test("a key uses its strategies alone, and its own default", async () => {
  const gateway = await withKeys({ strategies: ["greedy", "beam"], strategy: "greedy" }, {
    aliases: new Map([["cold", { model: "hash", strategy: "best-of-n" }]]),
  });
  const own = await gateway.post(path, chatBody(), as("some"));
  assertEquals(own.headers.get("x-decoding-strategy"), "greedy");
  assertEquals(own.headers.get("x-decoding-source"), "key");
  const other = await gateway.post(path, chatBody(), as("all"));
  assertEquals(other.headers.get("x-decoding-source"), "default");
  const named = (name: string) => ({ ...as("some"), "x-decoding-strategy": name });
  assertEquals((await gateway.post(path, chatBody(), named("beam"))).status, 200);
  assertEquals(
    await refusal(await gateway.post(path, chatBody(), named("sample"))),
    [403, "strategy_not_allowed", "X-Decoding-Strategy"],
  );
  assertEquals(
    await refusal(await gateway.post(path, chatBody({ model: "cold" }), as("some"))),
    [403, "strategy_not_allowed", "model"],
  );
  const bestOf = { model: "hash", prompt: "a", best_of: 3, n: 1 };
  assertEquals((await gateway.post("/v1/completions", bestOf, as("some"))).status, 403);
});

Deno.test("requests per minute: headers tell what is left, 429 when to come back", async () => {
  const gateway = await withKeys({ requestsPerMinute: 3 });
  const post = () => gateway.post(path, chatBody(), as("some"));
  const first = await post();
  assertEquals(first.headers.get("x-ratelimit-limit-requests"), "3");
  assertEquals(first.headers.get("x-ratelimit-remaining-requests"), "2");
  assertEquals(first.headers.get("x-ratelimit-reset-requests"), "20s");
  await post();
  await gateway.post("/tokenize", { prompt: "a" }, as("some"));
  const refused = await gateway.post(path, chatBody({ stream: true }), as("some"));
  assertEquals(refused.headers.get("retry-after"), "20");
  assertEquals(refused.headers.get("content-type"), "application/json");
  assertEquals(await refusal(refused), [429, "rate_limit_exceeded", null]);
  assertEquals((await gateway.post(path, chatBody(), as("all"))).status, 200);
  assertEquals((await gateway.get("/v1/models", as("some"))).status, 200); // reading is free
  gateway.clock.advance(20_000);
  assertEquals((await post()).status, 200);
});

Deno.test("tokens per minute: the most a request may draw is put aside, what it needed is spent", async () => {
  const gateway = await withKeys({ tokensPerMinute: 1000 });
  const ask = chatBody({ max_tokens: 10, ignore_eos: true });
  const first = await gateway.post(path, ask, as("some"));
  const { usage } = await first.json();
  assertEquals(first.headers.get("x-ratelimit-limit-tokens"), "1000");
  assertEquals(first.headers.get("x-ratelimit-remaining-tokens"), "990");
  const second = await gateway.post(path, ask, as("some"));
  const left = 1000 - usage.total_tokens - 10;
  assertEquals(second.headers.get("x-ratelimit-remaining-tokens"), String(left));
  await second.text();
  // Four beams may draw four times as much.
  const beams = { ...as("some"), "x-decoding-strategy": "beam;num_beams=4" };
  const wide = await gateway.post(path, { ...ask, max_tokens: 240 }, beams);
  assertEquals(await refusal(wide), [429, "rate_limit_exceeded", null]);
  assert(Number(wide.headers.get("retry-after")) >= 1);
  assertEquals((await gateway.post(path, { ...ask, max_tokens: 240 }, as("some"))).status, 200);
});

Deno.test("tokens per minute: a stream that is cut off pays for what it got", async () => {
  const gateway = await withKeys({ tokensPerMinute: 2000 });
  const long = chatBody({ max_tokens: 900, ignore_eos: true, stream: true });
  const response = await gateway.post(path, long, as("some"));
  assertEquals(response.headers.get("x-ratelimit-remaining-tokens"), "1100");
  const reader = response.body!.getReader();
  for (let i = 0; i < 5; i++) await reader.read();
  await reader.cancel();
  const next = await gateway.post(path, chatBody({ max_tokens: 1 }), as("some"));
  const remaining = Number(next.headers.get("x-ratelimit-remaining-tokens"));
  assert(remaining > 1900 && remaining < 1999, String(remaining));
});

Deno.test("one busy key does not shut out another: its requests wait behind its own", async () => {
  const model = chatModel();
  const gateway = testGateway({
    models: [model],
    apiKeys: await Promise.all(["a", "b"].map(digest)),
    limits: { requestsPerModel: 2, queuedPerModel: 4, perKey: { running: 2, queued: 3 } },
  });
  model.pause();
  const order: string[] = [];
  const post = (key: string, name: string) =>
    gateway.post(path, chatBody(), as(key)).then((response) => {
      order.push(name);
      return response.status;
    });
  const all = ["a1", "a2", "a3", "a4"].map((name) => post("a", name));
  await untilBusy(gateway, 2, 2);
  all.push(post("b", "b1"));
  await untilBusy(gateway, 2, 3);
  const third = post("a", "a5"); // the last place in the key's line
  await untilBusy(gateway, 2, 4);
  const full = await gateway.post(path, chatBody(), as("a"));
  assertEquals(await refusal(full), [429, "concurrency_exceeded", null]);
  all.push(third);
  model.resume();
  assertEquals(new Set(await Promise.all(all)), new Set([200]));
  await settle();
  assert(order.indexOf("b1") < order.indexOf("a4"), order.join());
});

/** Keys are digested in other threads, so how many turns it takes to get in line is not fixed. */
async function untilBusy(
  gateway: ReturnType<typeof testGateway>,
  running: number,
  waiting: number,
): Promise<void> {
  let seen: number[] = [];
  for (let turn = 0; turn < 1000; turn++) {
    seen = [
      await metric2(gateway, "requests_running"),
      await metric2(gateway, "requests_waiting"),
    ];
    if (seen[0] === running && seen[1] === waiting) return;
    await settle();
  }
  assertEquals(seen, [running, waiting]);
}

async function metric2(gateway: ReturnType<typeof testGateway>, name: string): Promise<number> {
  const text = await (await gateway.get("/metrics", as("a"))).text();
  const line = text.split("\n").find((one) =>
    one.startsWith(`decoding_gateway_${name}{model="hash"}`)
  );
  return Number(line!.split(" ").at(-1));
}

Deno.test("a request in line sends keep-alive comments, and leaves by deadline or by itself", async () => {
  const model = chatModel();
  const gateway = testGateway({
    models: [model],
    limits: { requestsPerModel: 1, queuedPerModel: 2 },
  });
  model.pause();
  const running = gateway.post(path, chatBody());
  await settle();
  const client = new AbortController();
  const leaving = gateway.app.request(path, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(chatBody()),
    signal: client.signal,
  });
  const late = gateway.post(path, chatBody({ stream: true }), { "x-request-timeout-ms": "30000" });
  await settle();
  assertEquals(await metric(gateway, 'requests_waiting{model="hash"}'), 2);
  client.abort();
  assertEquals((await leaving).status, 499);
  assertEquals(await metric(gateway, 'requests_waiting{model="hash"}'), 1);
  gateway.clock.advance(1000);
  const response = await late; // headers leave, so that nobody takes the silence for a failure
  assertEquals(response.status, 200);
  const reader = response.body!.getReader();
  const first = new TextDecoder().decode((await reader.read()).value);
  assert(first.includes('"role":"assistant"') || first.startsWith(": keep-alive"), first);
  gateway.clock.advance(29_500);
  let rest = "";
  for (let next = await reader.read(); !next.done; next = await reader.read()) {
    rest += new TextDecoder().decode(next.value);
  }
  assert(rest.includes("deadline_exceeded") && rest.endsWith("data: [DONE]\n\n"), rest);
  assertEquals(await metric(gateway, 'requests_waiting{model="hash"}'), 0);
  assertEquals(model.stats.openSessions, 1);
  model.resume();
  assertEquals((await running).status, 200);
  assertEquals(gateway.clock.pending, 0);
});

Deno.test("a request whose timers no longer run loses its place", async () => {
  const model = chatModel();
  let frozen = false;
  const base = testGateway();
  const gateway = testGateway({
    models: [model],
    limits: { requestsPerModel: 1, queuedPerModel: 0, placeLeaseMs: 10_000 },
    clock: {
      ...base.clock,
      monotonicMs: () => base.clock.monotonicMs(),
      after: (ms, run) => base.clock.after(ms, () => frozen || run()),
    },
  });
  model.pause();
  const lost = gateway.post(path, chatBody());
  await settle();
  base.clock.advance(60_000);
  assertEquals((await gateway.post(path, chatBody())).status, 429); // it is alive
  frozen = true; // a platform has dropped it
  base.clock.advance(11_000);
  frozen = false;
  const next = gateway.post(path, chatBody());
  await settle();
  assertEquals(await metric(gateway, 'requests_running{model="hash"}'), 1);
  model.resume();
  assertEquals((await next).status, 200);
  await lost;
  assertEquals(await metric(gateway, 'requests_running{model="hash"}'), 0);
});

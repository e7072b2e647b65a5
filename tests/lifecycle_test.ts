// deno-lint-ignore-file camelcase -- names as on the wire
/** Starting, reloading, loading and unloading, draining, stopping. */
import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { type ConfigInput, createGateway, type Gateway } from "../mod.ts";
import { ConfigError } from "../runtime/mod.ts";

const draft = "decant-tiny-draft";
const megabyte = 1024 * 1024;
const secrets: Readonly<Record<string, string>> = {
  DECANT_ADMIN: "admin-secret",
  DECANT_ONE: "one-secret",
};

/** A gateway in this thread with the small embedded model. */
async function open(config: ConfigInput = {}, log: (line: string) => void = () => {}) {
  return await createGateway({ models: [draft], kv_bytes: megabyte, ...config }, {
    thread: "own",
    env: (name) => secrets[name],
    log: (event) => log(JSON.stringify(event)),
  });
}

async function call(
  gateway: Gateway,
  path: string,
  body?: unknown,
  key?: string,
): Promise<Response> {
  return await gateway.fetch(
    new Request(`http://localhost${path}`, {
      method: body === undefined ? "GET" : "POST",
      headers: {
        "content-type": "application/json",
        ...key === undefined ? {} : { authorization: `Bearer ${key}` },
      },
      ...body === undefined ? {} : { body: JSON.stringify(body) },
    }),
  );
}

const ask = (extra: Readonly<Record<string, unknown>> = {}) => ({
  model: draft,
  max_tokens: 8,
  messages: [{ role: "user", content: "What is 27 + 58?" }],
  ...extra,
});
const chat = "/v1/chat/completions";
const code = async (response: Response) => [response.status, (await response.json()).error.code];
const ids = async (gateway: Gateway): Promise<string[]> =>
  (await (await call(gateway, "/v1/models")).json()).data.map(({ id }: { id: string }) => id);

Deno.test("drain() refuses what is new and lets what runs finish", async () => {
  await using gateway = await open();
  assertEquals((await call(gateway, "/ready")).status, 200);
  const stream = await call(gateway, chat, ask({ stream: true }));
  gateway.drain();
  const ready = await call(gateway, "/ready");
  assertEquals(ready.headers.get("retry-after"), "5");
  assertEquals(await code(ready), [503, "shutting_down"]);
  assertEquals(await code(await call(gateway, chat, ask())), [503, "shutting_down"]);
  assertEquals((await call(gateway, "/health")).status, 200);
  const text = await stream.text();
  assertStringIncludes(text, '"finish_reason":"');
  assert(text.endsWith("data: [DONE]\n\n"));
  assertEquals(text.includes("shutting_down"), false);
});

Deno.test("drain() ends what still runs after its limit: streams by an error event, others by 503", async () => {
  await using gateway = await open({ limits: { drain_ms: 1 } });
  const long = ask({ max_tokens: 900, ignore_eos: true, n: 4 });
  const whole = call(gateway, chat, long);
  const stream = await call(gateway, chat, { ...long, stream: true });
  gateway.drain();
  const text = await stream.text();
  assertStringIncludes(text, '"code":"shutting_down"');
  assert(text.endsWith("data: [DONE]\n\n"));
  assertEquals(text.includes('"finish_reason":"'), false);
  assertEquals(await code(await whole), [503, "shutting_down"]);
});

Deno.test("reload() takes on keys, aliases, limits and models; running requests go on", async () => {
  await using gateway = await open();
  const stream = await call(
    gateway,
    chat,
    ask({ stream: true, max_tokens: 200, ignore_eos: true }),
  );
  await gateway.reload({
    models: [draft, "decant-tiny"],
    kv_bytes: megabyte,
    keys: { one: { env: "DECANT_ONE", models: ["fast"] } },
    aliases: { fast: { model: draft, strategy: "greedy" } },
    limits: { choices: 2 },
  });
  assertEquals(await code(await call(gateway, chat, ask())), [401, "invalid_api_key"]);
  const one = await call(gateway, chat, ask({ model: "fast", n: 1 }), "one-secret");
  assertEquals(one.headers.get("x-decoding-strategy"), "greedy");
  assertEquals((await call(gateway, chat, ask({ model: "fast", n: 3 }), "one-secret")).status, 400);
  assertEquals(gateway.models.map(({ id }) => id), [draft, "decant-tiny"]);
  assertStringIncludes(await stream.text(), '"finish_reason":"length"');
  await gateway.reload({ models: ["decant-tiny"], kv_bytes: megabyte });
  assertEquals(await ids(gateway), ["decant-tiny"]);
  assertEquals(await code(await call(gateway, chat, ask())), [404, "model_not_found"]);
  const metrics = await (await call(gateway, "/metrics")).text();
  assertStringIncludes(metrics, `generated_tokens_total{model="${draft}",strategy="greedy"}`);
});

Deno.test("reload() keeps everything as it was if the new configuration cannot be used", async () => {
  await using gateway = await open({ aliases: { fast: { model: draft, strategy: "greedy" } } });
  const keep = { models: [draft], kv_bytes: megabyte };
  const cases: readonly [ConfigInput, string, string][] = [
    [{ ...keep, port: 9 }, "port", "restart"],
    [{ ...keep, kv_bytes: 2 * megabyte }, "kv_bytes", "restart"],
    [{ ...keep, nonsense: 1 } as ConfigInput, "nonsense", "Unknown key"],
    [{ ...keep, aliases: { a: { model: "none" } } }, "aliases.a", "not served"],
    [{ ...keep, keys: { k: { env: "DECANT_NONE" } } }, "keys.k.env", "DECANT_NONE"],
    [{ ...keep, keys: { k: { env: "DECANT_ONE", models: ["x"] } } }, "keys.k", "not served"],
    [{ ...keep, default_strategy: "none" }, "default_strategy", "none"],
    [
      { models: [draft, "decant-tiny"], kv_bytes: megabyte, memory_bytes: 2 * megabyte },
      "memory_bytes",
      "bytes",
    ],
    [
      { models: ["decant-tiny"], kv_bytes: megabyte, aliases: { a: { model: "x" } } },
      "aliases.a",
      "not served",
    ],
  ];
  for (const [config, key, part] of cases) {
    const error = await assertRejects(() => gateway.reload(config), ConfigError);
    assertEquals((error as ConfigError).key, key);
    assertStringIncludes(error.message, part);
    assertEquals(await ids(gateway), [draft, "fast"]);
    assertEquals((await call(gateway, chat, ask({ model: "fast" }))).status, 200);
  }
  await assertRejects(
    () => gateway.reload({ ...keep, models: ["no-such-model"] }),
    Error,
    "no-such",
  );
  assertEquals(await ids(gateway), [draft, "fast"]);
});

Deno.test("administration is off without an admin key, and takes no other", async () => {
  await using off = await open();
  assertEquals(await code(await call(off, "/admin/models")), [404, "not_found"]);
  assertEquals(await code(await call(off, "/admin/models/load", { model: draft })), [
    404,
    "not_found",
  ]);
  await using on = await open({
    admin_key_env: "DECANT_ADMIN",
    keys: { one: { env: "DECANT_ONE" } },
  });
  for (const key of [undefined, "wrong", "one-secret"]) {
    const refused = await call(on, "/admin/models/unload", { model: draft }, key);
    assertEquals(await code(refused), [401, "invalid_api_key"]);
  }
  assertEquals((await call(on, "/v1/models", undefined, "admin-secret")).status, 401);
  assertEquals((await call(on, "/admin/models", undefined, "admin-secret")).status, 200);
});

Deno.test("models load and unload on demand, by names of the configuration alone", async () => {
  const lines: string[] = [];
  await using gateway = await open({
    admin_key_env: "DECANT_ADMIN",
    on_demand: ["decant-tiny"],
  }, (line) => lines.push(line));
  const admin = (what: string, model: unknown) =>
    call(gateway, `/admin/models/${what}`, { model }, "admin-secret");
  assertEquals(await ids(gateway), [draft]);
  const loaded = await (await admin("load", "decant-tiny")).json();
  assertEquals(loaded, { model: "decant-tiny", status: "loaded", unloaded: [] });
  assertEquals(await ids(gateway), [draft, "decant-tiny"]);
  assertEquals((await call(gateway, chat, ask({ model: "decant-tiny" }))).status, 200);
  assertEquals((await admin("load", "decant-tiny")).status, 200); // again changes nothing
  const running = await call(
    gateway,
    chat,
    ask({ stream: true, max_tokens: 300, ignore_eos: true }),
  );
  const unloading = admin("unload", draft);
  assertStringIncludes(await running.text(), '"finish_reason":"length"'); // it may finish
  assertEquals((await unloading).status, 200);
  assertEquals(await ids(gateway), ["decant-tiny"]);
  assertEquals(await code(await admin("unload", draft)), [400, "invalid_value"]);
  for (const name of ["../../etc/passwd", "hf:a/b", "/tmp", "none"]) {
    assertEquals(await code(await admin("load", name)), [404, "model_not_found"]);
  }
  for (const name of [1, "", null, ["x"]]) assertEquals((await admin("load", name)).status, 400);
  const events = lines.map((line) => JSON.parse(line).event);
  assert(events.includes("model_loaded") && events.includes("model_unloaded"));
});

Deno.test("a memory budget: idle models make room, busy ones do not", async () => {
  await using gateway = await open({
    admin_key_env: "DECANT_ADMIN",
    on_demand: ["decant-tiny"],
    memory_bytes: 8 * megabyte, // tiny needs 7.3, the draft 1.8
  });
  const load = (model: string) => call(gateway, "/admin/models/load", { model }, "admin-secret");
  const running = await call(
    gateway,
    chat,
    ask({ stream: true, max_tokens: 400, ignore_eos: true }),
  );
  const reader = running.body!.getReader();
  await reader.read();
  const refused = await load("decant-tiny");
  assertEquals(refused.headers.get("x-should-retry"), "false");
  assertEquals(await code(refused), [503, "overloaded"]);
  await reader.cancel();
  assertEquals((await (await load("decant-tiny")).json()).unloaded, [draft]);
  assertEquals(await ids(gateway), ["decant-tiny"]);
  assertEquals((await (await load(draft)).json()).unloaded, ["decant-tiny"]);
});

Deno.test("budgets in Deno KV are shared by gateways that name the same store", async () => {
  const folder = await Deno.makeTempDir();
  try {
    const config: ConfigInput = {
      keys: { one: { env: "DECANT_ONE", requests_per_minute: 3 } },
      rates: "kv",
      rates_path: `${folder}/rates.sqlite`,
    };
    await using first = await open(config);
    await using second = await open(config);
    const statuses: number[] = [];
    for (const gateway of [first, second, first, second]) {
      const response = await call(gateway, "/tokenize", { prompt: "a" }, "one-secret");
      statuses.push(response.status);
      await response.text();
    }
    assertEquals(statuses, [200, 200, 200, 429]);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

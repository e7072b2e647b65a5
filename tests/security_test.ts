// deno-lint-ignore-file camelcase -- names as on the wire
/** What SECURITY.md promises and no other suite checks. */
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import fc from "fast-check";
import { createGateway, type Gateway } from "../mod.ts";
import { errorSchema } from "../routes/schema/responses.ts";
import { chatBody, chatModel, settle, testGateway } from "./routes/_support.ts";

const root = new URL("../", import.meta.url);
const config = JSON.parse(await Deno.readTextFile(new URL("deno.json", root)));
const chat = "/v1/chat/completions";

/** Source files of the program itself. */
async function* sources(folder = ""): AsyncGenerator<[string, string]> {
  const skipped = ["tests", "bench", "dist", ".git", ".ci", "docs", "node_modules"];
  for await (const entry of Deno.readDir(new URL(`./${folder}`, root))) {
    const path = `${folder}${entry.name}`;
    if (entry.isDirectory && !skipped.includes(path)) yield* sources(`${path}/`);
    if (/\.(ts|js)$/.test(entry.name)) {
      const text = await Deno.readTextFile(new URL(path, root));
      yield [path, text.replaceAll(/\/\*[\s\S]*?\*\//g, "").replaceAll(/\/\/.*$/gm, "")];
    }
  }
}

Deno.test("no URL is ever fetched on a request's behalf", async () => {
  const asked: string[] = [];
  const real = globalThis.fetch;
  globalThis.fetch = (input) => {
    asked.push(String(input));
    return Promise.reject(new Error("closed"));
  };
  try {
    const gateway = testGateway();
    const url = "http://169.254.169.254/latest/meta-data";
    const part = (type: string, value: unknown) => ({ type, [type]: value });
    const contents = [
      [part("image_url", { url })],
      [part("image_url", url)],
      [part("input_audio", { data: url, format: "wav" })],
      [part("file", { file_url: url })],
      url,
    ];
    for (const content of contents) {
      await gateway.post(chat, chatBody({ messages: [{ role: "user", content }] }));
    }
    for (
      const field of [
        "api_base",
        "base_url",
        "api_key",
        "custom_llm_provider",
        "extra_headers",
        "headers",
        "webhook",
        "documents",
        "chat_template",
      ]
    ) await gateway.post(chat, chatBody({ [field]: url }));
    for (const model of [url, `hf:${url}`, "../../models/decant-tiny", "file:///etc/passwd"]) {
      const refused = await gateway.post(chat, chatBody({ model }));
      assertEquals((await refused.json()).error.code, "model_not_found");
    }
    const schema = { name: "x", schema: { $ref: `${url}#/a` } };
    const format = { type: "json_schema", json_schema: schema };
    const refused = await gateway.post(chat, chatBody({ response_format: format }));
    assertEquals(refused.status, 400);
    for (const header of ["x-portkey-custom-host", "x-api-base", "x-forwarded-host", "forwarded"]) {
      assertEquals((await gateway.post(chat, chatBody(), { [header]: url })).status, 200);
    }
    await settle();
    assertEquals(asked, []);
  } finally {
    globalThis.fetch = real;
  }
});

Deno.test("a request that comes back through an upstream is refused with 508", async () => {
  const seen: number[] = [];
  await using gateway: Gateway = await createGateway({
    models: ["decant-tiny-draft"],
    kv_bytes: 1024 * 1024,
    upstreams: {
      loop: {
        engine: "openai",
        probe: false,
        replicas: [{ url: "http://localhost:8000/v1" }],
        retries: { attempts: 1 },
      },
    },
  }, {
    thread: "own",
    fetch: async (url, init) => {
      const response = await gateway.fetch(new Request(url, init));
      seen.push(response.status);
      return response;
    },
  });
  const response = await gateway.fetch(
    new Request(`http://localhost:8000${chat}`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify(chatBody({ model: "loop" })),
    }),
  );
  assertEquals(response.status, 502, await response.text());
  assertEquals(seen, [508]);
});

Deno.test("no code from text: neither eval, nor new Function, nor a process", async () => {
  const found: string[] = [];
  for await (const [path, text] of sources()) {
    // Starts one script of ours, and only with --allow-run, which the tasks do not give.
    if (path.startsWith("models/") || path === "gpu_readback.ts") continue;
    if (/\beval\(|new Function\(|Deno\.Command|node:child_process|Deno\.dlopen/.test(text)) {
      found.push(path);
    }
  }
  assertEquals(found, []);
});

Deno.test("few packages run, pinned exactly, with a frozen lock in every task", async () => {
  const used = new Set<string>();
  for await (const [path, text] of sources()) {
    if (path.startsWith("models/")) continue;
    for (const [, name] of text.matchAll(/from "((?![./]|node:)[^"]+)"/g)) {
      used.add(name!.startsWith("@") ? name! : name!.split("/")[0]!);
    }
  }
  assertEquals([...used].sort(), [
    "@cfworker/json-schema",
    "@huggingface/jinja",
    "@opentelemetry/api",
    "hono",
    "structured-headers",
    "zod",
  ]);
  for (const target of Object.values<string>(config.imports)) {
    if (target.startsWith("./")) continue;
    assert(/^npm:\/?(@[\w.-]+\/)?[\w.-]+@\d+\.\d+\.\d+\/?$/.test(target), target);
  }
  const lock = JSON.parse(await Deno.readTextFile(new URL("deno.lock", root)));
  for (const [name, entry] of Object.entries<{ integrity?: string }>(lock.npm)) {
    assert(entry.integrity?.startsWith("sha512-"), name);
  }
  for (const [name, { command }] of Object.entries<{ command: string }>(config.tasks)) {
    for (const one of command.split(" && ")) {
      if (/deno (run|test|check)/.test(one)) assertStringIncludes(one, "--frozen", name);
    }
  }
});

Deno.test("tasks that serve have exactly the permissions that SECURITY.md lists", async () => {
  const document = await Deno.readTextFile(new URL("SECURITY.md", root));
  for (const name of ["serve", "serve:otel"]) {
    const command: string = config.tasks[name].command;
    const flags = command.split(" ").filter((word) => word.startsWith("--"));
    for (const flag of flags) {
      assert(/^--(frozen|allow-(net|read|write|env)(=|$))/.test(flag), flag);
    }
    const listed = document.matchAll(/`(--allow-[a-z]+(?:=[^`]+)?)`/g);
    const rights = new Set([...listed].flatMap(([, flag]) => split(flag!)));
    for (const right of flags.flatMap(split)) {
      if (right !== "--frozen") assert(rights.has(right), `${name}: ${right}`);
    }
  }
});

/** `--allow-net=a,b` -> `--allow-net=a`, `--allow-net=b`. */
function split(flag: string): string[] {
  const [name, values] = flag.split("=");
  return values === undefined ? [flag] : values.split(",").map((value) => `${name}=${value}`);
}

/** JSON that is almost right: a valid request with one value replaced by something odd. */
const odd = fc.oneof(
  fc.jsonValue({ maxDepth: 3 }),
  fc.constantFrom<unknown>(
    -1,
    -0,
    0.5,
    1e308,
    2 ** 53,
    2 ** 31,
    -(2 ** 63),
    "",
    "\u0000",
    "\ud800",
    null,
  ),
  fc.constantFrom<unknown>([], {}, [[]], [{}], { __proto__: 1 }, { constructor: 1 }, true),
);
const fields = [
  ...["model", "messages", "max_tokens", "temperature", "top_p", "top_k", "min_p", "n", "seed"],
  ...["stop", "stream", "stream_options", "logprobs", "top_logprobs", "logit_bias", "decoding"],
  ...["presence_penalty", "repetition_penalty", "stop_token_ids", "response_format", "tools"],
  ...["tool_choice", "chat_template_kwargs", "cache_salt", "user", "metadata", "ignore_eos"],
];

Deno.test("fuzzing: a request with odd values is answered or refused, never a failure of ours", async () => {
  const gateway = testGateway({ models: [chatModel()] });
  const change = fc.dictionary(fc.constantFrom(...fields), odd, { minKeys: 1, maxKeys: 3 });
  await fc.assert(
    fc.asyncProperty(change, async (changed) => {
      const response = await gateway.post(chat, chatBody({ max_tokens: 2, ...changed }));
      const text = await response.text();
      assert(response.status < 500, `${response.status} ${text} ${JSON.stringify(changed)}`);
      if (response.status !== 200) errorSchema.parse(JSON.parse(text));
    }),
    { numRuns: 1500, examples: [[{ "repetition_penalty": 5e-324 }]] },
  );
});

Deno.test("fuzzing: any bytes as a body, any path and any headers give an error object", async () => {
  const gateway = testGateway();
  const header = fc.string({ unit: "binary-ascii", maxLength: 40 }).map((text) =>
    // deno-lint-ignore no-control-regex -- what no client can send is left out
    text.replaceAll(/[\u0000-\u001f\u007f]/g, "").trim()
  );
  await fc.assert(
    fc.asyncProperty(fc.uint8Array({ maxLength: 200 }), header, header, async (bytes, a, b) => {
      const response = await gateway.app.request(chat, {
        method: "POST",
        headers: {
          "content-type": "application/json",
          "x-decoding-strategy": a,
          "x-kv-policy": b,
          "x-request-id": a,
          "x-request-timeout-ms": b,
        },
        body: bytes,
      });
      assert(response.status >= 400 && response.status < 500, String(response.status));
      errorSchema.parse(await response.json());
      assert(/^[A-Za-z0-9._-]{1,128}$/.test(response.headers.get("x-request-id")!));
    }),
    { numRuns: 300 },
  );
  await fc.assert(
    fc.asyncProperty(
      fc.webPath(),
      fc.constantFrom("GET", "POST", "DELETE", "PATCH"),
      async (path, method) => {
        const response = await gateway.app.request(path || "/", { method });
        assert(response.status < 500, `${method} ${path} ${response.status}`);
      },
    ),
    { numRuns: 500 },
  );
});

/** A chat body whose `decoding` is literally this JSON. */
function raw(decoding: string): string {
  return JSON.stringify(chatBody()).replace(/\}$/, `,"decoding":${decoding}}`);
}

Deno.test("structured header parameters reach a strategy as data, whatever they are called", async () => {
  const gateway = testGateway();
  for (const escaped of ["\\u005f_proto__", "__\\u0070roto__"]) {
    const hidden = raw(`{"strategy":"beam","params":{"${escaped}":{"num_beams":2}}}`);
    assertEquals((await gateway.post(chat, hidden)).status, 400);
  }
  for (const name of ["__proto__", "constructor", "prototype", "tostring", "valueof"]) {
    const headers = { "x-decoding-strategy": `beam;${name.replaceAll("_", "*")}=1` };
    const response = await gateway.post(chat, chatBody(), headers);
    assertEquals(response.status, 400, name);
    const body = raw(`{"strategy":"beam","params":{"${name}":1}}`);
    assertEquals((await gateway.post(chat, body)).status, 400, name);
    const named = chatBody({ decoding: { strategy: name } });
    assertEquals((await (await gateway.post(chat, named)).json()).error.code, "unknown_strategy");
    const kv = chatBody({ decoding: { kv_policy: { name } } });
    assertEquals((await gateway.post(chat, kv)).status, 400);
    assertEquals((await gateway.post(chat, chatBody({ model: name }))).status, 404);
  }
  assertEquals(({} as Record<string, unknown>)["1"], undefined);
});

Deno.test("control characters and bidirectional marks pass and break nothing; a lone surrogate is refused by name", async () => {
  const lines: string[] = [];
  await using gateway = await createGateway({ models: ["decant-tiny-draft"] }, {
    thread: "own",
    log: (event) => void lines.push(JSON.stringify(event)),
  });
  const nasty = "\u0000\u001b[31m\r\n\r\ndata: {}\u2028\u2029\u202e\ufeff </script>";
  const ask = async (content: string, stream: boolean) =>
    await gateway.fetch(
      new Request(`http://localhost${chat}`, {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify(chatBody({
          model: "decant-tiny-draft",
          messages: [{ role: "user", content }],
          stream,
          stop: ["\r\n\r\n"],
        })),
      }),
    );
  const lone = await (await ask("a \ud800", false)).json();
  assertEquals([lone.error.code, lone.error.param], ["invalid_value", "messages"]);
  assertStringIncludes(lone.error.message, "lone surrogate");
  for (const stream of [false, true]) {
    const response = await ask(nasty, stream);
    const text = await response.text();
    assertEquals(response.status, 200, text);
    if (stream) {
      for (const line of text.split("\n")) assert(line === "" || line.startsWith("data: "));
    } else JSON.parse(text);
  }
  assert(lines.length >= 2 && lines.every((line) => !line.includes("\n")));
});

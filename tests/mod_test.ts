import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { banner } from "../main.ts";
import { createGateway, isLoopback } from "../mod.ts";
import { ConfigError } from "../runtime/config.ts";
import { fakeHub } from "./runtime/hub/_fake_hub.ts";

const root = new URL("../", import.meta.url);

/** The start task's own command line and permissions. */
async function serveCommand(
  extra: readonly string[],
  env: Readonly<Record<string, string>> = {},
): Promise<Deno.ChildProcess> {
  const config = JSON.parse(await Deno.readTextFile(new URL("deno.json", root)));
  const home = env.HOME ?? Deno.env.get("HOME") ?? ".";
  const [, ...args] = config.tasks.serve.command.replaceAll("$HOME", home).split(" ");
  return new Deno.Command(Deno.execPath(), {
    args: [...args, ...extra],
    cwd: root,
    // Graphics libraries of the system complain on standard error without such a folder.
    env: { XDG_RUNTIME_DIR: home, ...env },
    stdout: "piped",
    stderr: "piped",
  }).spawn();
}

/** Reads standard output up to the end of the start screen. */
async function readScreen(reader: ReadableStreamDefaultReader<string>): Promise<string> {
  let screen = "";
  while (!screen.includes("]}'\n")) {
    const { value, done } = await reader.read();
    assert(!done, `the gateway ended early: ${screen}`);
    screen += value;
  }
  return screen;
}

/** A started gateway: its screen, its address, and what it wrote to standard error at the end. */
async function withServer(
  args: readonly string[],
  env: Readonly<Record<string, string>>,
  use: (url: string, screen: string) => Promise<void>,
): Promise<string> {
  await using child = await serveCommand(["--port", "0", ...args], env);
  const errors = new Response(child.stderr).text();
  const reader = child.stdout.pipeThrough(new TextDecoderStream()).getReader();
  const screen = await readScreen(reader);
  await use(/listens on (\S+)/.exec(screen)![1]!, screen);
  child.kill("SIGTERM");
  assertEquals((await child.status).success, true);
  await reader.cancel();
  return await errors;
}

async function tempDir(): Promise<AsyncDisposable & { readonly path: string }> {
  const path = await Deno.makeTempDir();
  return { path, [Symbol.asyncDispose]: () => Deno.remove(path, { recursive: true }) };
}

const draft = decodeURIComponent(new URL("models/decant-tiny-draft", root).pathname);

Deno.test("deno task serve prints one screen whose curl line works when pasted", async () => {
  await using child = await serveCommand(["--port", "0"]);
  const reader = child.stdout.pipeThrough(new TextDecoderStream()).getReader();
  const screen = await readScreen(reader);
  for (const part of ["http://127.0.0.1:", "backend", "decant-tiny", "greedy"]) {
    assertStringIncludes(screen, part);
  }
  const [, url, strategy, body] =
    /curl (\S+) -H 'Content-Type: application\/json' \\\n\s+-H 'X-Decoding-Strategy: ([^']+)' -d '(.+)'/
      .exec(screen)!;
  const response = await fetch(url!, {
    method: "POST",
    headers: { "Content-Type": "application/json", "X-Decoding-Strategy": strategy! },
    body: body!,
  });
  const answer = await response.json();
  assertEquals(response.status, 200, JSON.stringify(answer));
  assertEquals(response.headers.get("x-decoding-strategy"), "beam");
  assert(answer.usage.completion_tokens > 0);
  child.kill("SIGTERM");
  assertEquals((await child.status).success, true);
  await reader.cancel();
  await child.stderr.cancel();
});

Deno.test("a start that cannot work says why in one line", async () => {
  const cases: [string[], string][] = [
    [["--modle", "x"], "--model"],
    [["--model", "no-such-model"], 'Unknown model "no-such-model"'],
    [["--backend", "cuda"], 'Invalid "backend"'],
    [["--host", "0.0.0.0"], "without an API key"],
    [["--context", "999999"], "context"],
  ];
  for (const [args, expected] of cases) {
    await using child = await serveCommand(["--port", "0", ...args]);
    const { code, stderr, stdout } = await child.output();
    const text = new TextDecoder().decode(stderr);
    assertEquals(code, 1, new TextDecoder().decode(stdout));
    assertStringIncludes(text, expected);
    assertEquals(text.trim().split("\n").length, 1, text);
  }
});

Deno.test("a start with a damaged model file says which file in one line", async () => {
  await using dir = await tempDir();
  for await (const { name } of Deno.readDir(draft)) {
    await Deno.copyFile(`${draft}/${name}`, `${dir.path}/${name}`);
  }
  await Deno.truncate(`${dir.path}/model.safetensors`, 5000);
  await using child = await serveCommand(["--port", "0", "--model", dir.path]);
  const { code, stderr } = await child.output();
  const text = new TextDecoder().decode(stderr).trim();
  assertEquals(code, 1);
  assertStringIncludes(text, "decant: Cannot read model.safetensors");
  assertEquals(text.split("\n").length, 1, text);
});

Deno.test("--config sets what flags can and more; flags win; unknown keys are named", async () => {
  await using dir = await tempDir();
  const file = `${dir.path}/decant.json`;
  const alias = { model: "decant-tiny-draft", strategy: "beam", params: { num_beams: 3 } };
  const config = { models: ["decant-tiny-draft"], context: 256, aliases: { careful: alias } };
  await Deno.writeTextFile(file, JSON.stringify(config));
  await withServer(["--config", file, "--context", "128"], {}, async (url) => {
    const { data } = await (await fetch(`${url}/v1/models`)).json();
    assertEquals(data.map(({ id }: { id: string }) => id), ["decant-tiny-draft", "careful"]);
    assertEquals(data[0].max_model_len, 128);
    const response = await fetch(`${url}/v1/completions`, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ model: "careful", prompt: "Once", max_tokens: 4 }),
    });
    await response.body?.cancel();
    assertEquals(response.status, 200);
    assertEquals(response.headers.get("x-decoding-strategy"), "beam");
    assertEquals(response.headers.get("x-decoding-source"), "alias");
  });
  await Deno.writeTextFile(file, JSON.stringify({ modles: [] }));
  await using child = await serveCommand(["--config", file]);
  const text = new TextDecoder().decode((await child.output()).stderr);
  assertStringIncludes(text, 'decant: Unknown key "modles"');
  assertStringIncludes(text, '"models"');
});

Deno.test("--model hf: downloads with a bar, serves, and starts again without the hub", async () => {
  await using home = await tempDir();
  const files: Record<string, { content: Uint8Array<ArrayBuffer>; lfs?: boolean }> = {};
  for await (const { name } of Deno.readDir(draft)) {
    const content = await Deno.readFile(`${draft}/${name}`);
    files[name] = name.endsWith(".safetensors") ? { content, lfs: true } : { content };
  }
  const listed = async (url: string) => {
    const { data } = await (await fetch(`${url}/v1/models`)).json();
    assertEquals(data.map(({ id }: { id: string }) => id), ["org/model"]);
  };
  const args = ["--model", "hf:org/model"];
  let endpoint: string;
  {
    await using hub = fakeHub({ files, token: "secret" });
    endpoint = hub.endpoint;
    const env = { HOME: home.path, HF_ENDPOINT: endpoint, HF_TOKEN: "secret" };
    const errors = await withServer(args, env, listed);
    assertStringIncludes(errors, "model.safetensors");
    assertEquals(errors.includes("secret"), false, "the token is not shown");
  }
  const env = { HOME: home.path, HF_ENDPOINT: endpoint };
  assertStringIncludes(await withServer(args, env, listed), "hub_unreachable");
});

Deno.test("createGateway() answers without a port", async () => {
  await using gateway = await createGateway({ models: ["decant-tiny-draft"] });
  const response = await gateway.fetch(new Request("http://localhost/v1/models"));
  const { data } = await response.json();
  assertEquals(data.map((model: { id: string }) => model.id), ["decant-tiny-draft"]);
  gateway.drain();
  assertEquals((await gateway.fetch(new Request("http://localhost/ready"))).status, 503);
});

Deno.test("createGateway() checks keys of the configured environment variable", async () => {
  await using gateway = await createGateway(
    { models: ["decant-tiny-draft"], api_key_env: "DECANT_KEY", host: "0.0.0.0" },
    { env: (name) => name === "DECANT_KEY" ? "one, two" : undefined },
  );
  const models = (key?: string) =>
    gateway.fetch(
      new Request("http://localhost/v1/models", {
        headers: key === undefined ? {} : { Authorization: `Bearer ${key}` },
      }),
    );
  for (
    const [key, status] of [[undefined, 401], ["three", 401], ["one", 200], ["two", 200]] as const
  ) {
    const response = await models(key);
    await response.body?.cancel();
    assertEquals(response.status, status, key);
  }
});

Deno.test("createGateway() refuses what it cannot serve and names the key", async () => {
  const refused = async (input: Parameters<typeof createGateway>[0]) =>
    (await assertRejects(() => createGateway(input), ConfigError)).key;
  assertEquals(await refused({ host: "0.0.0.0" }), "host");
  assertEquals(await refused({ api_key_env: "DECANT_NO_SUCH" }), "api_key_env");
  assertEquals(await refused({ models: ["decant-tiny-draft", "decant-tiny-draft"] }), "models");
  assertEquals(await refused({ default_strategy: "smaple" }), "default_strategy");
  const alias = (rest: Record<string, unknown>) => ({
    models: ["decant-tiny-draft"],
    aliases: { a: { model: "decant-tiny-draft", ...rest } },
  });
  assertEquals(await refused(alias({ strategy: "beem" })), "aliases.a");
  assertEquals(await refused(alias({ strategy: "beam", params: { num_beems: 4 } })), "aliases.a");
  assertEquals(await refused(alias({ strategy: "beam", params: { num_beams: 0 } })), "aliases.a");
  assertEquals(
    await refused({ models: ["decant-tiny-draft"], aliases: { a: { model: "b" } } }),
    "aliases.a",
  );
});

Deno.test("isLoopback() knows addresses that only this machine reaches", () => {
  for (const host of ["localhost", "127.0.0.1", "127.1.2.3", "::1"]) assert(isLoopback(host), host);
  for (const host of ["0.0.0.0", "::", "192.168.0.1", "127.0.0.1.example"]) {
    assert(!isLoopback(host), host);
  }
});

Deno.test("banner() names URL, models, backend and strategies", () => {
  const text = banner({
    backend: "cpu",
    models: [{
      id: "m",
      created: 0,
      ownedBy: "local",
      fingerprint: "fp",
      servedBy: "cpu",
      contextLength: 128,
      parameters: 1_500_000,
    }],
  }, "http://127.0.0.1:1");
  for (const part of ["http://127.0.0.1:1", "cpu", "m  1.5 M parameters, context 128", "beam"]) {
    assertStringIncludes(text, part);
  }
});

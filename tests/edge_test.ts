// deno-lint-ignore-file camelcase no-console -- names as on the wire; the log is looked at
/** The edge bundle, made by its task's own command, under Deno and under workerd. */
import workerd from "npm:workerd@1.20261117.1";
import { assert, assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { createEdge, serveEdge } from "../edge.ts";
import { writeEdgeFiles } from "../models/bundle.ts";
import { ConfigError } from "../runtime/mod.ts";
import { chatModel, testGateway } from "./routes/_support.ts";

const root = new URL("../", import.meta.url);
const id = "decant-tiny-draft";
const ask = { model: id, messages: [{ role: "user", content: "What is 27 + 58?" }] };

/** The bundle beside a model, its kernels and the entries. */
async function bundle(): Promise<AsyncDisposable & { readonly folder: URL }> {
  const path = await Deno.makeTempDir();
  const folder = new URL(`file://${path}/`);
  const { tasks } = JSON.parse(await Deno.readTextFile(new URL("deno.json", root)));
  const command: string = tasks["edge:bundle"].command.split(" && ")[0];
  const [, ...args] = command.replace("dist/edge.js", `${path}/edge.js`).split(" ");
  const made = await new Deno.Command(Deno.execPath(), { args, cwd: root }).output();
  assert(made.success, new TextDecoder().decode(made.stderr));
  await writeEdgeFiles(id, folder);
  await Deno.writeTextFile(
    new URL("plain.js", folder),
    `import { serveEdge } from "./edge.js";\nimport { model } from "./${id}.js";\n` +
      "export default serveEdge({ models: [model] });\n",
  );
  return { folder, [Symbol.asyncDispose]: () => Deno.remove(path, { recursive: true }) };
}

/** Reads a stream until `found` gives something. */
async function readUntil<T>(
  stream: ReadableStream<Uint8Array>,
  found: (text: string) => T | undefined,
): Promise<T> {
  const decoder = new TextDecoder();
  let text = "";
  for await (const bytes of stream.values({ preventCancel: true })) {
    text += decoder.decode(bytes, { stream: true });
    const value = found(text);
    if (value !== undefined) return value;
  }
  throw new Error(`The server ended early: ${text}`);
}

const post = (url: string, body: unknown, init: RequestInit = {}) =>
  fetch(`${url}/v1/chat/completions`, {
    method: "POST",
    headers: { "content-type": "application/json", ...init.headers },
    body: JSON.stringify(body),
    ...init.signal ? { signal: init.signal } : {},
  });

async function metric(url: string, line: string): Promise<number> {
  const text = await (await fetch(`${url}/metrics`)).text();
  const found = text.split("\n").find((one) => one.startsWith(`decoding_gateway_${line} `));
  return found === undefined ? 0 : Number(found.slice(found.lastIndexOf(" ") + 1));
}

/** A gateway of our own on a port: for the edge it is an OpenAI-compatible server like any other. */
function serveUpstream() {
  const model = chatModel();
  const gateway = testGateway({ models: [model], allowedHosts: ["127.0.0.1"] });
  const server = Deno.serve(
    { hostname: "127.0.0.1", port: 0, onListen: () => {} },
    (request) => gateway.app.fetch(request),
  );
  const { port } = server.addr;
  const replicas = [{ url: `http://127.0.0.1:${port}/v1`, model: "hash" }];
  return {
    port,
    model,
    config: JSON.stringify({ insecure: true, upstreams: { far: { replicas } } }),
    [Symbol.asyncDispose]: () => server[Symbol.asyncDispose](),
  };
}

type TestUpstream = ReturnType<typeof serveUpstream>;

/** Passes an upstream's text on, whole and streamed, and hangs up on it when the client leaves. */
async function exerciseUpstream(url: string, { model }: TestUpstream): Promise<void> {
  const far = { model: "far", messages: ask.messages, seed: 3, max_tokens: 12 };
  const whole = await post(url, far);
  const answer = await whole.json();
  assertEquals(whole.headers.get("x-served-by"), "far", JSON.stringify(answer));
  const streamed = await (await post(url, { ...far, stream: true })).text();
  assertEquals(textOf(streamed), answer.choices[0].message.content);
  const client = new AbortController();
  const endless = { ...far, max_tokens: 900, stream: true };
  model.pause(); // or it might be done before the client can leave
  const stream = await post(url, endless, { signal: client.signal });
  await stream.body!.getReader().read();
  assertEquals(model.stats.openSessions, 1);
  client.abort();
  while (model.stats.openSessions > 0) await new Promise((resolve) => setImmediate(resolve));
  model.resume();
}

/** The text of a chat stream. */
function textOf(stream: string): string {
  return stream.split("\n\n").filter((frame) => frame.startsWith("data: {"))
    .map((frame) => JSON.parse(frame.slice(6)).choices[0].delta.content ?? "").join("");
}

/** Answers, searches, streams, and stops when a client leaves; other requests get in between. */
async function exercise(url: string, servedBy: string, upstream: TestUpstream): Promise<void> {
  await exerciseUpstream(url, upstream);
  const whole = await post(url, { ...ask, temperature: 0 });
  assertEquals(whole.headers.get("x-served-by"), servedBy);
  const answer = await whole.json();
  assertEquals(answer.choices?.[0].message.content, "85", JSON.stringify(answer));
  const beam = await post(url, ask, { headers: { "x-decoding-strategy": "beam;num_beams=4" } });
  assertEquals((await beam.json()).choices[0].message.content, "85");
  const long = { ...ask, max_tokens: 900, ignore_eos: true, seed: 1 };
  const [one, two] = [long, { ...long, stream: true }].map((body) =>
    post(url, { ...body, max_tokens: 60 })
  );
  const streamed = textOf(await (await two!).text());
  assertEquals(streamed, (await (await one!).json()).choices[0].message.content);
  const client = new AbortController();
  const stream = await post(url, { ...long, stream: true }, { signal: client.signal });
  const reader = stream.body!.getReader();
  await reader.read();
  assertEquals((await fetch(`${url}/health`)).status, 200); // while the stream runs in the same thread
  assertEquals(await metric(url, `requests_running{model="${id}"}`), 1);
  client.abort();
  await reader.read().catch(() => {});
  while (await metric(url, `requests_running{model="${id}"}`) > 0);
  assertEquals(await metric(url, 'cancelled_total{reason="client"}'), 2);
}

Deno.test("the edge bundle is one small file without native access", async (t) => {
  await using made = await bundle();
  await using upstream = serveUpstream();
  await t.step("less than 1 MiB, no imports, no Workers started", async () => {
    const text = await Deno.readTextFile(new URL("edge.js", made.folder));
    assert(text.length < 1024 * 1024, `${text.length} bytes`);
    assertEquals(/(?:^|[;}])import\b[^(]{0,200}/m.exec(text)?.[0], undefined);
    assertEquals(/["']node:\w+["']/.exec(text)?.[0], undefined);
    const native = [...new Set(text.match(/\bDeno\.\w+/g))];
    assertEquals(native, ["Deno.env"]);
  });
  await t.step(
    "runs under deno serve, with no permission but the port and its variable",
    () => underDeno(new URL("plain.js", made.folder), upstream),
  );
  await t.step(
    "runs under workerd, kernels compiled at build time",
    () => underWorkerd(made.folder, "worker.js", "wasm", upstream),
  );
  await t.step(
    "runs under workerd without kernels, on plain TypeScript",
    () => underWorkerd(made.folder, "plain.js", "cpu", upstream),
  );
});

async function underDeno(entry: URL, upstream: TestUpstream): Promise<void> {
  await using child = new Deno.Command(Deno.execPath(), {
    args: [
      "serve",
      "--no-prompt",
      "--no-config",
      "--allow-env=DECANT_CONFIG",
      `--allow-net=127.0.0.1:${upstream.port}`,
      ...["--host", "127.0.0.1", "--port", "0"],
      entry.pathname,
    ],
    env: { DECANT_CONFIG: upstream.config, NO_COLOR: "1" },
    stdout: "null",
    stderr: "piped",
  }).spawn();
  const url = await readUntil(
    child.stderr,
    (text) => /(http:\/\/127\.0\.0\.1:\d+)\//.exec(text)?.[1],
  );
  await exercise(url, "wasm", upstream);
  child.kill("SIGTERM");
  await child.stderr.cancel();
}

async function underWorkerd(
  folder: URL,
  entry: string,
  servedBy: string,
  upstream: TestUpstream,
): Promise<void> {
  const modules = [[entry, "esModule"], ["edge.js", "esModule"], [`${id}.js`, "esModule"], [
    "kernels.wasm",
    "wasm",
  ]].map(([name, kind]) => `( name = "${name}", ${kind} = embed "${name}" )`);
  const config = new URL(`${servedBy}.capnp`, folder);
  await Deno.writeTextFile(
    config,
    `using Workerd = import "/workerd/workerd.capnp";
const config :Workerd.Config = (
  services = [
    (name = "main", worker = .main),
    (name = "internet", network = (allow = ["private"])),
  ],
  sockets = [ (name = "http", address = "127.0.0.1:0", http = (), service = "main") ],
);
const main :Workerd.Worker = (
  modules = [ ${modules.join(", ")} ],
  bindings = [ (name = "DECANT_CONFIG", text = ${JSON.stringify(upstream.config)}) ],
  compatibilityDate = "2026-11-01",
);`,
  );
  const { default: binary } = workerd as unknown as { default: string };
  await using child = new Deno.Command(binary, {
    args: ["serve", config.pathname, "--control-fd=1"],
    stdout: "piped",
    stderr: "null",
  }).spawn();
  const port = await readUntil(child.stdout, (text) => /"port":(\d+)/.exec(text)?.[1]);
  await exercise(`http://127.0.0.1:${port}`, servedBy, upstream);
  child.kill("SIGKILL");
  await child.stdout.cancel();
}

Deno.test("createEdge() refuses to serve without a key, unless told so", () => {
  const error = assertThrows(() => createEdge(), ConfigError);
  assert(["api_key_env", "models"].includes((error as ConfigError).key));
  const config = { models: ["none"], insecure: true };
  assertStringIncludes(assertThrows(() => createEdge({ config }), ConfigError).message, '"none"');
});

Deno.test("serveEdge() tells strangers nothing about a broken configuration", async () => {
  const lines: string[] = [];
  const { error } = console;
  console.error = (line: string) => void lines.push(line);
  try {
    const bindings = { DECANT_CONFIG: '{"api_key_env":"SECRET_NAME"' };
    const response = await serveEdge().fetch(new Request("http://x.example/health"), bindings);
    assertEquals(response.status, 503);
    assertEquals((await response.text()).includes("SECRET_NAME"), false);
    assertStringIncludes(lines.join(), "DECANT_CONFIG is not JSON");
  } finally {
    console.error = error;
  }
});

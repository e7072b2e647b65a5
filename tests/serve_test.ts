// deno-lint-ignore-file camelcase -- names as on the wire
/** The server as a process: following its configuration file, ending by signals. */
import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import type { ConfigInput } from "../mod.ts";

const root = new URL("../", import.meta.url);
const draft = "decant-tiny-draft";
const megabyte = 1024 * 1024;

/** The start task's own command line, with a configuration file. */
async function serve(config: ConfigInput) {
  const { tasks } = JSON.parse(await Deno.readTextFile(new URL("deno.json", root)));
  const home = Deno.env.get("HOME") ?? ".";
  const [, ...args] = tasks.serve.command.replaceAll("$HOME", home).split(" ");
  const folder = await Deno.makeTempDir();
  const file = `${folder}/decant.json`;
  const write = (value: unknown) =>
    Deno.writeTextFile(file, typeof value === "string" ? value : JSON.stringify(value));
  await write(config);
  const child = new Deno.Command(Deno.execPath(), {
    args: [...args, "--port", "0", "--config", file],
    cwd: root,
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  const screen = child.stdout.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  while (!/listens on \S+[^]*\]\}'\n/.test(text)) text += (await screen.read()).value ?? "";
  const errors = child.stderr.pipeThrough(new TextDecoderStream()).getReader();
  let log = "";
  return {
    child,
    write,
    url: /listens on (\S+)/.exec(text)![1]!,
    /** Reads the log until it has this. */
    async logged(part: string): Promise<string> {
      while (!log.includes(part)) {
        const { value, done } = await errors.read();
        if (done) throw new Error(`The log ends without ${part}: ${log}`);
        log += value;
      }
      const found = log;
      log = "";
      return found;
    },
    async [Symbol.asyncDispose]() {
      try {
        child.kill("SIGKILL");
      } catch { /* it has ended */ }
      await child.status;
      await screen.cancel();
      await errors.cancel();
      await Deno.remove(folder, { recursive: true });
    },
  };
}

const ask = (extra: Readonly<Record<string, unknown>> = {}) => ({
  model: draft,
  max_tokens: 8,
  messages: [{ role: "user", content: "What is 27 + 58?" }],
  ...extra,
});
const post = (url: string, body: unknown) =>
  fetch(`${url}/v1/chat/completions`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body),
  });

Deno.test("deno task serve follows its configuration file, and says why it does not follow a bad one", async () => {
  const config = { models: [draft], kv_bytes: megabyte };
  await using served = await serve(config);
  const { url, write, logged } = served;
  const listed = async () => (await (await fetch(`${url}/v1/models`)).text()).includes('"fast"');
  assertEquals(await listed(), false);
  await write({ ...config, aliases: { fast: { model: draft, strategy: "greedy" } } });
  await logged("config_reloaded");
  assertEquals(await listed(), true);
  await write("{ not json");
  assertStringIncludes(await logged("config_refused"), "config file");
  await write({ ...config, limits: { choices: -1 } });
  assertStringIncludes(await logged("config_refused"), "limits.choices");
  assertEquals(await listed(), true);
  if (Deno.build.os === "windows") return;
  await write(config);
  served.child.kill("SIGHUP");
  await logged("config_reloaded");
  assertEquals(await listed(), false);
});

for (const signal of ["SIGTERM", "SIGINT"] as const) {
  Deno.test({
    name: `${signal}: running streams end by an error event within the limit, exit 0`,
    ignore: Deno.build.os === "windows",
    async fn() {
      const config = { models: [draft], kv_bytes: megabyte, limits: { drain_ms: 200 } };
      await using served = await serve(config);
      const long = ask({ stream: true, max_tokens: 900, ignore_eos: true, n: 16 });
      const streams = await Promise.all(Array.from({ length: 4 }, () => post(served.url, long)));
      const texts = streams.map((response) => response.text());
      served.child.kill(signal);
      for (const text of await Promise.all(texts)) {
        assertStringIncludes(text, '"code":"shutting_down"');
        assert(text.endsWith("data: [DONE]\n\n"));
      }
      assertEquals((await served.child.status).code, 0);
      await assertRejects(() => post(served.url, ask()));
    },
  });
}

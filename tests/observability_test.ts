/** What docs/ promises to those who watch: the console task and the dashboard. */
import { assert, assertStringIncludes } from "@std/assert";
import { createMetrics } from "../routes/metrics.ts";

const root = new URL("../", import.meta.url);

Deno.test("deno task serve:otel prints spans to the console, up to the last byte", async () => {
  const { tasks } = JSON.parse(await Deno.readTextFile(new URL("deno.json", root)));
  const words: string[] = tasks["serve:otel"].command.split(" ");
  const env = Object.fromEntries(
    words.filter((word) => /^OTEL_\w+=/.test(word)).map((word) =>
      word.split("=") as [string, string]
    ),
  );
  const args = words.slice(words.indexOf("deno") + 1).map((word) =>
    word.replace("$HOME", Deno.env.get("HOME") ?? ".")
  );
  await using child = new Deno.Command(Deno.execPath(), {
    args: [...args, "--port", "0", "--model", "decant-tiny-draft"],
    cwd: root,
    env: { ...env, NO_COLOR: "1" },
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  const errors = new Response(child.stderr).text();
  const reader = child.stdout.pipeThrough(new TextDecoderStream()).getReader();
  let screen = "";
  while (!/listens on \S+/.test(screen)) screen += (await reader.read()).value;
  const response = await fetch(`${/listens on (\S+)/.exec(screen)![1]}/v1/chat/completions`, {
    method: "POST",
    headers: { "content-type": "application/json", "x-decoding-strategy": "beam" },
    body: JSON.stringify({
      model: "decant-tiny-draft",
      stream: true,
      messages: [{ role: "user", content: "What is 27 + 58?" }],
    }),
  });
  assertStringIncludes(await response.text(), "[DONE]");
  child.kill("SIGTERM");
  let out = screen;
  for (let next = await reader.read(); !next.done; next = await reader.read()) out += next.value;
  out += await errors;
  assertStringIncludes(out, "chat decant-tiny-draft");
  assertStringIncludes(out, "beam beams");
  assertStringIncludes(out, "gen_ai.usage.output_tokens");
});

Deno.test("the dashboard asks for metrics that exist", async () => {
  const dashboard = await Deno.readTextFile(new URL("docs/grafana.json", root));
  const page = createMetrics().text({ kv_pages: 0, kv_pages_free: 0, kv_pages_cached: 0 });
  const known = new Set(page.matchAll(/# TYPE (\w+) /g).map(([, name]) => name));
  const asked = [...dashboard.matchAll(/decoding_gateway_\w+/g)].map(([name]) =>
    name.replace(/_bucket$/, "")
  );
  assert(asked.length > 20);
  for (const name of asked) assert(known.has(name), name);
});

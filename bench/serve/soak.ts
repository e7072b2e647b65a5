// deno-lint-ignore-file no-console -- a command
/**
 * `deno task soak`: many mixed requests with aborts against `main.ts` in a process of its own, a third
 * of them through an upstream. Resident memory rises and falls with the garbage collector, so it is
 * looked at often: its median over the last tenth must be within 10 % of that over the second, when
 * caches are full, and nothing may be left running.
 *
 * Flags: --requests N (20000), --concurrency N (16)
 */
import { parseArgs } from "node:util";
import { createRng, type Rng, seedFrom } from "../../runtime/mod.ts";

const { values } = parseArgs({
  options: {
    requests: { type: "string", default: "20000" },
    concurrency: { type: "string", default: "16" },
  },
});
const total = Number(values.requests);
const concurrency = Number(values.concurrency);
const model = "decant-tiny-draft";
const messages = [{ role: "user", content: "What is 27 + 58?" }];

/** An OpenAI-compatible server that streams words, and sometimes fails or breaks off. */
function serveUpstream() {
  let count = 0;
  return Deno.serve({ hostname: "127.0.0.1", port: 0, onListen: () => {} }, async (request) => {
    const { n = 1 } = request.method === "GET" ? {} : await request.json();
    if (request.method === "GET") return Response.json({ object: "list", data: [] });
    const turn = ++count;
    if (turn % 50 === 0) return Response.json({ error: { message: "busy" } }, { status: 503 });
    const words = ["one ", "two ", "three ", "four ", "five "];
    const head = { id: "x", object: "chat.completion.chunk", created: 1, model: "m" };
    const chunk = (index: number, delta: unknown, reason: string | null) => {
      const choices = [{ index, delta, finish_reason: reason }];
      return `data: ${JSON.stringify({ ...head, choices })}\n\n`;
    };
    const ofChoice = (index: number) => [
      chunk(index, { role: "assistant", content: "" }, null),
      ...words.map((content) => chunk(index, { content }, null)),
      ...turn % 40 === 0 ? [] : [chunk(index, {}, "stop")],
    ];
    const frames = Array.from({ length: n }, (_, index) => ofChoice(index)).flat();
    if (turn % 40 !== 0) frames.push("data: [DONE]\n\n");
    const body = ReadableStream.from(frames).pipeThrough(new TextEncoderStream());
    return new Response(body, { headers: { "content-type": "text/event-stream" } });
  });
}

/** V8 collects late where there is room; in a small heap what is left over shows. */
const smallHeap = "--v8-flags=--max-old-space-size=64,--max-semi-space-size=4";

async function startGateway(upstream: string) {
  const folder = await Deno.makeTempDir();
  const file = `${folder}/decant.json`;
  await Deno.writeTextFile(
    file,
    JSON.stringify({
      models: [model],
      kv_bytes: 16 * 1024 * 1024,
      limits: { running: concurrency, queued: 1000 },
      upstreams: { far: { engine: "openai", probe: false, replicas: [{ url: upstream }] } },
    }),
  );
  const child = new Deno.Command(Deno.execPath(), {
    args: ["run", "--frozen", "-A", smallHeap, "main.ts", "--port", "0", "--config", file],
    stdout: "piped",
    stderr: "null",
  }).spawn();
  const reader = child.stdout.pipeThrough(new TextDecoderStream()).getReader();
  let screen = "";
  while (!/listens on \S+\n/.test(screen)) screen += (await reader.read()).value ?? "";
  return { child, reader, url: /listens on (\S+)/.exec(screen)![1]!, folder };
}

/** Resident memory of a process, in MiB. */
async function memoryOf(pid: number): Promise<number> {
  const { stdout } = await new Deno.Command("ps", { args: ["-o", "rss=", "-p", `${pid}`] })
    .output();
  return Number(new TextDecoder().decode(stdout)) / 1024;
}

/** A whole number below `limit`. */
function below(rng: Rng, limit: number): number {
  return Math.floor(rng.next() * limit);
}

/** One request of the mix. */
interface Kind {
  readonly name: string;
  readonly path: string;
  body(rng: Rng): unknown;
  readonly headers?: Readonly<Record<string, string>>;
}

const chat = "/v1/chat/completions";
const sampled = (rng: Rng) => ({ model, messages, max_tokens: 8, seed: below(rng, 1000) });
const strategy = (value: string): Kind => ({
  name: value.split(";")[0]!,
  path: chat,
  body: sampled,
  headers: { "x-decoding-strategy": value },
});
const kinds: readonly Kind[] = [
  { name: "chat", path: chat, body: sampled },
  {
    name: "stream",
    path: chat,
    body: (rng) => ({ ...sampled(rng), stream: true, max_tokens: 24 }),
  },
  { name: "upstream", path: chat, body: () => ({ model: "far", messages, max_tokens: 8 }) },
  { name: "upstream stream", path: chat, body: () => ({ model: "far", messages, stream: true }) },
  { name: "upstream n", path: chat, body: () => ({ model: "far", messages, n: 2 }) },
  { name: "upstream stream", path: chat, body: () => ({ model: "far", messages, stream: true }) },
  strategy("beam;num_beams=3"),
  strategy("best-of-n;num_samples=3"),
  strategy("speculative;draft=prompt-lookup"),
  {
    name: "completions",
    path: "/v1/completions",
    body: (rng) => ({ model, prompt: ["a", `b${below(rng, 99)}`], max_tokens: 4 }),
  },
  {
    name: "tokenize",
    path: "/tokenize",
    body: (rng) => ({ model, prompt: "x ".repeat(below(rng, 200)) }),
  },
  { name: "bad value", path: chat, body: () => ({ model, messages, temperature: 99 }) },
  { name: "bad model", path: chat, body: () => ({ model: "none", messages }) },
];

/** Sends one request; one in four leaves before it is answered, or in the middle of the stream. */
async function once(url: string, kind: Kind, rng: Rng): Promise<string> {
  const client = new AbortController();
  const leaves = below(rng, 4) === 0;
  const timer = leaves ? setTimeout(() => client.abort(), below(rng, 30)) : undefined;
  try {
    const response = await fetch(url + kind.path, {
      method: "POST",
      headers: { "content-type": "application/json", ...kind.headers },
      body: JSON.stringify(kind.body(rng)),
      signal: client.signal,
    });
    await response.text();
    return String(response.status);
  } catch (error) {
    if (client.signal.aborted) return "left";
    throw error;
  } finally {
    clearTimeout(timer);
  }
}

async function leftovers(url: string): Promise<readonly string[]> {
  const text = await (await fetch(`${url}/metrics`)).text();
  return text.split("\n").filter((line) =>
    /^decoding_gateway_(requests_running|requests_waiting|sessions_open|asks_waiting)/.test(line) &&
    !line.endsWith(" 0")
  );
}

const upstream = serveUpstream();
const { child, reader, url, folder } = await startGateway(
  `http://127.0.0.1:${upstream.addr.port}/v1`,
);
const rng = createRng(seedFrom(20261124n));
const outcomes = new Map<string, number>();
/** Memory in each tenth of the run, in MiB. */
const tenths: number[][] = Array.from({ length: 10 }, () => []);
const every = Math.max(1, total / 500);
let sent = 0;
async function worker(): Promise<void> {
  while (sent < total) {
    const index = sent++;
    const kind = kinds[index % kinds.length]!;
    const outcome = `${kind.name}: ${await once(url, kind, rng)}`;
    outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1);
    if (index % every === 0) {
      tenths[Math.floor(index / total * 10)]!.push(await memoryOf(child.pid));
    }
  }
}
try {
  await Promise.all(Array.from({ length: concurrency }, worker));
} catch (error) {
  child.kill("SIGKILL");
  throw error;
}
for (let tries = 0; tries < 100 && (await leftovers(url)).length > 0; tries++) {
  await new Promise((resolve) => setTimeout(resolve, 50));
}
const left = await leftovers(url);
console.table(Object.fromEntries([...outcomes].sort()));
const medians = tenths.map((tenth) => tenth.sort((a, b) => a - b)[tenth.length >> 1]!);
console.table(tenths.map((tenth, i) => ({
  "requests up to": Math.round(total * (i + 1) / 10),
  "least MiB": Math.round(tenth[0]!),
  "median MiB": Math.round(medians[i]!),
  "most MiB": Math.round(tenth.at(-1)!),
})));
const first = medians[1]!, last = medians.at(-1)!;
const growth = (last / first - 1) * 100;
console.log(`memory: ${first.toFixed(1)} -> ${last.toFixed(1)} MiB, ${growth.toFixed(1)} %`);
console.log(left.length === 0 ? "nothing left running" : `left running:\n${left.join("\n")}`);
child.kill("SIGTERM");
const { code } = await child.status;
await reader.cancel();
await upstream.shutdown();
await Deno.remove(folder, { recursive: true });
if (growth > 10 || left.length > 0 || code !== 0) Deno.exit(1);

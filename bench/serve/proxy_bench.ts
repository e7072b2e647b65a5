/**
 * What the gateway adds to an upstream's stream: time to the first token with one stream, and time per
 * token with sixteen, against the same fake upstream asked directly. Each way is measured in turn, some
 * rounds over, so that a busy machine is busy for all.
 *
 * `deno task bench:proxy [--rounds N] [--portkey FOLDER]`
 *
 * FOLDER is where `npm install @portkey-ai/gateway` was run; without it the bench installs it into a
 * temporary folder, and goes on alone where that fails.
 */
import { parseArgs } from "node:util";
import { round, summary } from "../_report.ts";
import { readEnvironment, writeResult } from "../_environment.ts";
import type { Measured, StreamJob } from "./_client_worker.ts";

/** A way to the upstream. */
interface Way {
  readonly name: string;
  readonly port: number;
  readonly model: string;
  readonly headers: Readonly<Record<string, string>>;
  /** The proxy's process. */
  readonly pid?: number;
}

const streams = 16;
const tokens = 1000;
/** Rounds until compilers have settled. */
const warmUp = 5;
const portkey = "@portkey-ai/gateway@1.15.2";

async function startUpstream(): Promise<{ port: number; worker: Worker }> {
  const worker = new Worker(import.meta.resolve("./_upstream_worker.ts"), { type: "module" });
  const port = await new Promise<number>((resolve) =>
    worker.onmessage = ({ data }) => resolve(data)
  );
  return { port, worker };
}

/** A free port; somebody else may take it in between, but nobody does. */
function freePort(): number {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  return listener.addr.port;
}

async function untilUp(port: number, path: string): Promise<void> {
  for (let i = 0; i < 300; i++) {
    try {
      const response = await fetch(`http://127.0.0.1:${port}${path}`);
      await response.body?.cancel();
      return;
    } catch {
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  }
  throw new Error(`Nothing answers at ${path}`);
}

async function startDecant(upstream: number): Promise<{ way: Way; child: Deno.ChildProcess }> {
  const port = freePort();
  const config = await Deno.makeTempFile({ suffix: ".json" });
  await Deno.writeTextFile(
    config,
    JSON.stringify({
      models: [],
      port,
      upstreams: {
        up: {
          model: "m",
          engine: "openai",
          probe: false,
          replicas: [{ url: `http://127.0.0.1:${upstream}/v1` }],
        },
      },
      limits: { running: 64, key_running: 64 },
    }),
  );
  const child = new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--no-check", "main.ts", "--config", config],
    stdout: "null",
    stderr: "null",
  }).spawn();
  await untilUp(port, "/health");
  return { way: { name: "decant", port, model: "up", headers: {}, pid: child.pid }, child };
}

/**
 * Its 1.15.2 changes headers of the response that `fetch` gave it, which Node does not allow: handed a
 * copy, it works. The copy costs a few microseconds per request, nothing per token.
 */
const shim = "data:text/javascript,const f=globalThis.fetch;" +
  "globalThis.fetch=async(...a)=>{const r=await f(...a);return new Response(r.body,r)}";

/** Undefined where it does not install or start. */
async function startPortkey(
  upstream: number,
  folder: string | undefined,
): Promise<{ way: Way; child: Deno.ChildProcess } | undefined> {
  try {
    const home = folder ?? await install();
    const port = freePort();
    const child = new Deno.Command("node", {
      args: [
        `--import=${shim}`,
        `${home}/node_modules/@portkey-ai/gateway/build/start-server.js`,
        `--port=${port}`,
        "--headless",
      ],
      stdout: "null",
      stderr: "null",
    }).spawn();
    await untilUp(port, "/");
    const headers = {
      authorization: "Bearer none",
      "x-portkey-provider": "openai",
      "x-portkey-custom-host": `http://127.0.0.1:${upstream}/v1`,
    };
    return { way: { name: portkey, port, model: "m", headers, pid: child.pid }, child };
  } catch (error) {
    say(`${portkey} is left out: ${(error as Error).message}`);
    return undefined;
  }
}

async function install(): Promise<string> {
  const folder = await Deno.makeTempDir();
  const { success } = await new Deno.Command("npm", {
    args: ["install", "--no-audit", "--no-fund", "--prefix", folder, portkey],
    stdout: "null",
    stderr: "null",
  }).output();
  if (!success) throw new Error("npm does not install it");
  return folder;
}

/** One measurement on a client thread of its own. */
function measure(way: Way, streams: number, rounds: number, tokens: number): Promise<Measured> {
  const worker = new Worker(import.meta.resolve("./_client_worker.ts"), { type: "module" });
  const job: StreamJob = {
    kind: "streams",
    port: way.port,
    path: "/v1/chat/completions",
    headers: way.headers,
    body: JSON.stringify({
      model: way.model,
      messages: [{ role: "user", content: "hello" }],
      max_tokens: tokens,
      stream: true,
    }),
    streams,
    rounds,
  };
  return new Promise<Measured>((resolve, reject) => {
    worker.onmessage = ({ data }) =>
      "error" in data ? reject(new Error(data.error)) : resolve(data);
    worker.onerror = (event) => reject(event.error);
    worker.postMessage(job);
  }).finally(() => worker.terminate());
}

/** Time to the first token of each request, in ms. */
async function firstTokens(way: Way): Promise<number[]> {
  const { times } = await measure(way, 1, 60, 1);
  return times.map((one) => one[0]!);
}

/** Time per token, all streams together, in us: from the requests to the last token. */
async function perToken(way: Way): Promise<{ readonly us: number; readonly cpuUs: number }> {
  const before = await cpuMs(way.pid);
  const { times } = await measure(way, streams, 1, tokens);
  const last = Math.max(...times.map((one) => one.at(-1)!));
  const spent = await cpuMs(way.pid) - before;
  return { us: last * 1000 / (streams * tokens), cpuUs: spent * 1000 / (streams * tokens) };
}

/**
 * Processor time of a process in ms, which tells what a proxy costs also where other processes take
 * turns with it. Linux counts it in hundredths of a second; 0 elsewhere.
 */
async function cpuMs(pid: number | undefined): Promise<number> {
  if (pid === undefined || Deno.build.os !== "linux") return 0;
  const stat = await Deno.readTextFile(`/proc/${pid}/stat`);
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return 10 * (Number(fields[11]) + Number(fields[12]));
}

function say(text: string): void {
  Deno.stderr.writeSync(new TextEncoder().encode(`${text}\n`));
}

async function main(args: readonly string[]): Promise<void> {
  const { values } = parseArgs({
    args: [...args],
    options: { rounds: { type: "string", default: "8" }, portkey: { type: "string" } },
  });
  const rounds = Number(values.rounds);
  const upstream = await startUpstream();
  const decant = await startDecant(upstream.port);
  const other = await startPortkey(upstream.port, values.portkey);
  const direct: Way = { name: "direct", port: upstream.port, model: "m", headers: {} };
  const ways = [direct, decant.way, ...other ? [other.way] : []];
  const first = new Map(ways.map(({ name }) => [name, [] as number[]]));
  const each = new Map(ways.map(({ name }) => [name, [] as number[]]));
  const cpu = new Map(ways.map(({ name }) => [name, [] as number[]]));
  try {
    for (let i = 0; i < warmUp; i++) {
      for (const way of ways) {
        await firstTokens(way);
        await perToken(way);
      }
    }
    for (let i = 0; i < rounds; i++) {
      for (const way of ways) {
        first.get(way.name)!.push(...await firstTokens(way));
        const { us, cpuUs } = await perToken(way);
        each.get(way.name)!.push(us);
        cpu.get(way.name)!.push(cpuUs);
      }
    }
  } finally {
    upstream.worker.terminate();
    for (const child of [decant.child, other?.child]) child?.kill("SIGKILL");
  }
  const environment = await readEnvironment();
  const base = { first: summary(first.get("direct")!), each: summary(each.get("direct")!) };
  const lines = ways.map(({ name }) => {
    const [ms, us] = [summary(first.get(name)!), summary(each.get(name)!)];
    return {
      name: "serve/proxy",
      way: name,
      streams,
      tokens_per_stream: tokens,
      warm_up_rounds: warmUp,
      first_token_ms: ms,
      added_first_token_ms: round(ms.median - base.first.median),
      per_token_us: us,
      added_per_token_us: round(us.median - base.each.median),
      cpu_per_token_us: summary(cpu.get(name)!),
    };
  });
  const text = lines.map((line) => JSON.stringify({ ...line, ...environment })).join("\n") + "\n";
  Deno.stdout.writeSync(new TextEncoder().encode(
    lines.map((line) => JSON.stringify(line)).join("\n") + "\n",
  ));
  say(`written: ${await writeResult(environment, "proxy", "jsonl", text)}`);
}

if (import.meta.main) await main(Deno.args);

/**
 * What a request costs over HTTP: the gateway's own share with a model that costs nothing, then the
 * embedded model at 1, 4 and 16 streams. The client has a thread of its own and keeps its
 * connections.
 */
import { type Report, round, summary } from "../_report.ts";
import type { Measured, RequestJob, StreamJob } from "./_client_worker.ts";
import { type BenchServer, serveBare, serveEmbedded, serveInstant } from "./_server.ts";

/** Sends jobs to the client's thread, one at a time. */
interface Client extends Disposable {
  run(job: StreamJob | RequestJob): Promise<Measured>;
}

function startClient(): Client {
  const worker = new Worker(new URL("./_client_worker.ts", import.meta.url), { type: "module" });
  return {
    run: (job) =>
      new Promise((resolve, reject) => {
        worker.onmessage = ({ data }: MessageEvent<Measured | { readonly error: string }>) =>
          "error" in data ? reject(new Error(data.error)) : resolve(data);
        worker.postMessage(job);
      }),
    [Symbol.dispose]: () => worker.terminate(),
  };
}

function streamJob(
  { port, model }: BenchServer,
  { tokens, streams = 1, rounds = 1 }: {
    readonly tokens: number;
    readonly streams?: number;
    readonly rounds?: number;
  },
): StreamJob {
  const body = JSON.stringify({
    model,
    messages: [{ role: "user", content: "Tell me a story about a dog." }],
    max_tokens: tokens,
    ignore_eos: true,
    stream: true,
    seed: 1,
  });
  return { kind: "streams", port, path: "/v1/chat/completions", body, streams, rounds };
}

/** Gaps between pieces of text. */
function gaps(times: readonly number[]): number[] {
  return times.slice(1).map((time, i) => time - times[i]!);
}

async function benchRequests(
  report: Report,
  client: Client,
  server: BenchServer,
  { name, target }: { readonly name: string; readonly target?: string },
): Promise<void> {
  const connections = 4, warmup = 500, requests = 2000;
  const job = { kind: "requests", port: server.port, path: "/v1/models", connections } as const;
  await client.run({ ...job, requests: warmup });
  const rates: number[] = [];
  for (let i = 0; i < 5; i++) {
    const { elapsedMs } = await client.run({ ...job, requests });
    rates.push(requests / (elapsedMs / 1000));
  }
  report({ name, unit: "requests/s", target, connections, warmup, requests, ...summary(rates) });
}

async function benchOverhead(report: Report, client: Client, server: BenchServer): Promise<void> {
  const warmup = 50;
  await client.run(streamJob(server, { tokens: 64, rounds: warmup }));
  const { times } = await client.run(streamJob(server, { tokens: 4, rounds: 300 }));
  report({
    name: "serve/overhead/first_token",
    unit: "ms",
    target: "< 1 median",
    warmup,
    ...summary(times.map((one) => one[0]!)),
  });
  for (const streams of [1, 16]) {
    const tokens = 400;
    const perToken: number[] = [];
    for (let i = 0; i < 10; i++) {
      const { elapsedMs } = await client.run(streamJob(server, { tokens, streams }));
      perToken.push(elapsedMs * 1000 / (streams * tokens));
    }
    report({
      name: "serve/overhead/token",
      unit: "us",
      target: "< 50 median",
      streams,
      tokens,
      warmup,
      ...summary(perToken),
    });
  }
}

async function benchStreams(report: Report, client: Client, server: BenchServer): Promise<void> {
  const tokens = 128, warmup = 2, rounds = 3;
  await client.run(streamJob(server, { tokens, rounds: warmup }));
  let single = 0;
  for (const streams of [1, 4, 16]) {
    const { elapsedMs, times } = await client.run(streamJob(server, { tokens, streams, rounds }));
    const rate = rounds * streams * tokens / (elapsedMs / 1000);
    single ||= rate;
    const common = { model: server.model, streams, tokens, warmup };
    const first = summary(times.map((one) => one[0]!));
    report({ name: "serve/first_token", unit: "ms", ...common, ...first });
    report({
      name: "serve/between_tokens",
      unit: "ms",
      ...common,
      ...summary(times.flatMap(gaps)),
    });
    report({
      name: "serve/throughput",
      unit: "tokens/s",
      ...common,
      runs: rounds,
      value: round(rate),
      times_one_stream: round(rate / single),
    });
  }
}

/**
 * Measures the HTTP floor.
 *
 * @param start the server with a real model; by default the first embedded one
 */
export async function benchServe(
  report: Report,
  start: () => Promise<BenchServer> = serveEmbedded,
): Promise<void> {
  using client = startClient();
  {
    await using bare = serveBare();
    await benchRequests(report, client, bare, { name: "serve/requests/bare" });
    await using instant = serveInstant();
    await benchRequests(report, client, instant, {
      name: "serve/requests/models",
      target: "> 1000 median",
    });
    await benchOverhead(report, client, instant);
  }
  await using server = await start();
  await benchStreams(report, client, server);
}

/** The measuring client on a thread of its own, so that it waits for the network only. */
import { connect } from "./_client.ts";

/** Several kept connections, each sending the same streaming request some times. */
export interface StreamJob {
  readonly kind: "streams";
  readonly port: number;
  readonly path: string;
  readonly body: string;
  readonly streams: number;
  readonly rounds: number;
  /** Sent with every request. */
  readonly headers?: Readonly<Record<string, string>>;
}

/** Several kept connections that share a number of plain requests. */
export interface RequestJob {
  readonly kind: "requests";
  readonly port: number;
  readonly path: string;
  readonly connections: number;
  readonly requests: number;
}

/** What the worker measured. */
export interface Measured {
  readonly elapsedMs: number;
  /** Per stream and round: times of the pieces of text, in ms since the request was sent. */
  readonly times: readonly (readonly number[])[];
}

async function streams(
  { port, path, body, streams, rounds, headers = {} }: StreamJob,
): Promise<number[][]> {
  const all: number[][] = [];
  await Promise.all(Array.from({ length: streams }, async () => {
    using connection = await connect(port, headers);
    for (let round = 0; round < rounds; round++) {
      const times: number[] = [];
      const start = performance.now();
      await connection.stream(path, body, (data) => {
        if (data.includes('"delta":{"content":"')) times.push(performance.now() - start);
      });
      all.push(times);
    }
  }));
  return all;
}

async function requests({ port, path, connections, requests }: RequestJob): Promise<number[][]> {
  await Promise.all(Array.from({ length: connections }, async () => {
    using connection = await connect(port);
    for (let i = 0; i < requests / connections; i++) {
      const { status } = await connection.request("GET", path);
      if (status !== 200) throw new Error(`GET ${path} answers ${status}`);
    }
  }));
  return [];
}

/** The part of a worker's global scope used here; the compiler takes every file for the main thread. */
interface WorkerScope {
  onmessage: ((event: MessageEvent<StreamJob | RequestJob>) => void) | null;
  postMessage(message: Measured | { readonly error: string }): void;
}

// The module is run by the worker alone; the benchmark imports its types.
const scope = self as unknown as WorkerScope;
scope.onmessage = async ({ data: job }) => {
  const start = performance.now();
  try {
    const times = job.kind === "streams" ? await streams(job) : await requests(job);
    scope.postMessage({ elapsedMs: performance.now() - start, times });
  } catch (error) {
    scope.postMessage({ error: String(error) });
  }
};

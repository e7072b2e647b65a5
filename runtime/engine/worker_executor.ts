/**
 * An executor whose model computes in a Worker.
 *
 * While steps follow each other in the thread of HTTP, new requests wait for whole steps and longer
 * (the event loop looks at sockets only now and then between macrotasks); in a Worker they do not.
 * One message there and back per step, about 0.1 ms.
 */
import { ClosedError, EngineError } from "../errors.ts";
import type { ModelExecutor, ModelExecutorSpec } from "./model_executor.ts";
import { reviveError, type WorkerReply, type WorkerRequest } from "./worker_messages.ts";

/**
 * Starts a Worker and loads the model there.
 *
 * @throws {FormatError | NotFoundError | RangeError} as `createModelExecutor`; the Worker has ended
 */
export async function createWorkerExecutor(spec: ModelExecutorSpec): Promise<ModelExecutor> {
  const channel = openChannel();
  try {
    const loaded = await channel.ask({ type: "load", spec });
    if (loaded.type !== "loaded") throw new EngineError(`The Worker answered ${loaded.type}`);
    return {
      info: loaded.info,
      parameters: loaded.parameters,
      get isReady() {
        return channel.isReady();
      },
      async execute(batch) {
        const reply = await channel.ask({ type: "execute", batch });
        if (reply.type !== "result") throw new EngineError(`The Worker answered ${reply.type}`);
        return reply.result;
      },
      async [Symbol.asyncDispose]() {
        await channel.ask({ type: "close" }).catch(() => {}); // a dead Worker is closed as well
        channel.end(new ClosedError("The executor was closed"));
      },
    };
  } catch (error) {
    channel.end(error);
    throw error;
  }
}

interface Waiting {
  readonly resolve: (reply: WorkerReply) => void;
  readonly reject: (error: unknown) => void;
}

/** Requests and replies in order. A Worker that dies fails what waits and everything later. */
function openChannel() {
  const worker = new Worker(new URL("./worker.ts", import.meta.url), { type: "module" });
  const waiting: Waiting[] = [];
  let isReady = true;
  let ended: { readonly error: unknown } | undefined;
  const end = (error: unknown) => {
    ended ??= { error };
    worker.terminate();
    for (const { reject } of waiting.splice(0)) reject(ended.error);
  };
  worker.onmessage = ({ data }: MessageEvent<WorkerReply>) => {
    if (data.type === "state") {
      isReady = data.isReady;
      return;
    }
    const next = waiting.shift();
    if (data.type === "failed") next?.reject(reviveError(data.error));
    else next?.resolve(data);
  };
  worker.onerror = (event) => {
    event.preventDefault();
    end(new EngineError(`The model's Worker ended: ${event.message}`));
  };
  const ask = (request: WorkerRequest): Promise<WorkerReply> => {
    if (ended) return Promise.reject(ended.error);
    return new Promise((resolve, reject) => {
      waiting.push({ resolve, reject });
      worker.postMessage(request);
    });
  };
  return { ask, end, isReady: () => isReady && ended === undefined };
}

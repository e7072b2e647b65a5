/**
 * An executor whose model computes in a Worker.
 *
 * While steps follow each other in the thread of HTTP, new requests wait for whole steps and longer
 * (the event loop looks at sockets only now and then between macrotasks); in a Worker they do not.
 * One message there and back per step, about 0.1 ms.
 */
import { ClosedError, DeviceLostError, EngineError } from "../errors.ts";
import type { Batch } from "./executor.ts";
import type { ModelExecutor, ModelExecutorSpec } from "./model_executor.ts";
import { createRecoveringExecutor, type OpenedExecutor } from "./recovering_executor.ts";
import { reviveError, type WorkerReply, type WorkerRequest } from "./worker_messages.ts";

/**
 * Starts a Worker and loads the model there. A Worker that dies is replaced: the step that was running
 * fails with DeviceLostError, later ones wait for the new one.
 *
 * @param script what the Worker runs; tests pass one that dies
 * @throws {FormatError | NotFoundError | RangeError} as `createModelExecutor`; the Worker has ended
 */
export async function createWorkerExecutor(
  spec: ModelExecutorSpec,
  script: URL = new URL("./worker.ts", import.meta.url),
): Promise<ModelExecutor> {
  let channel = openChannel(script);
  let isFirst = true;
  const recovering = await createRecoveringExecutor(() => {
    if (!isFirst) channel = openChannel(script);
    isFirst = false;
    return open(spec, channel);
  });
  return Object.create(recovering, {
    isReady: { get: () => recovering.isReady && channel.isReady() },
  });
}

async function open(
  spec: ModelExecutorSpec,
  channel: ReturnType<typeof openChannel>,
): Promise<OpenedExecutor<Omit<ModelExecutor, "isReady">>> {
  try {
    const loaded = await channel.ask({ type: "load", spec });
    if (loaded.type !== "loaded") throw new EngineError(`The Worker answered ${loaded.type}`);
    const executor = {
      info: loaded.info,
      parameters: loaded.parameters,
      async execute(batch: Batch) {
        const reply = await channel.ask({ type: "execute", batch });
        if (reply.type !== "result") throw new EngineError(`The Worker answered ${reply.type}`);
        return reply.result;
      },
      async [Symbol.asyncDispose]() {
        await channel.ask({ type: "close" }).catch(() => {}); // a dead Worker is closed as well
        channel.end(new ClosedError("The executor was closed"));
      },
    };
    return { executor, lost: channel.lost };
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
function openChannel(script: URL) {
  const worker = new Worker(script, { type: "module" });
  const lost = Promise.withResolvers<string>();
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
    end(new DeviceLostError(`the model's Worker ended: ${event.message}`));
    lost.resolve(event.message);
  };
  const ask = (request: WorkerRequest): Promise<WorkerReply> => {
    if (ended) return Promise.reject(ended.error);
    return new Promise((resolve, reject) => {
      waiting.push({ resolve, reject });
      worker.postMessage(request);
    });
  };
  return { ask, end, lost: lost.promise, isReady: () => isReady && ended === undefined };
}

/** The gateway's side of the Worker that compiles constraints. */
import { EngineError } from "../errors.ts";
import type { CompileChannel } from "./compiler.ts";
import { type CompileReply, type CompileRequest, reviveFailure } from "./messages.ts";

interface Waiting {
  readonly resolve: (reply: CompileReply) => void;
  readonly reject: (error: unknown) => void;
}

/**
 * A Worker that compiles constraints. It starts with the first request. Requests and replies are in
 * order; a Worker that dies fails what waits, and the next request starts another.
 */
export function createCompileWorker(): CompileChannel {
  let worker: Worker | undefined;
  let closed: { readonly error: unknown } | undefined;
  const waiting: Waiting[] = [];

  function fail(error: unknown): void {
    worker?.terminate();
    worker = undefined;
    for (const { reject } of waiting.splice(0)) reject(error);
  }
  function start(): Worker {
    const started = new Worker(new URL("./worker.ts", import.meta.url), { type: "module" });
    started.onmessage = ({ data }: MessageEvent<CompileReply>) => {
      const next = waiting.shift();
      if (data.type === "failed") next?.reject(reviveFailure(data.error));
      else next?.resolve(data);
    };
    started.onerror = (event) => {
      event.preventDefault();
      fail(new EngineError(`The Worker for constraints ended: ${event.message}`));
    };
    return started;
  }
  return {
    ask(request: CompileRequest): Promise<CompileReply> {
      if (closed) return Promise.reject(closed.error);
      return new Promise((resolve, reject) => {
        waiting.push({ resolve, reject });
        (worker ??= start()).postMessage(request);
      });
    },
    end(error: unknown): void {
      closed ??= { error };
      fail(error);
    },
  };
}

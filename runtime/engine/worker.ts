/** The Worker's side: loads one model and runs its batches, one request after the other. */
import { createModelExecutor, type ModelExecutor } from "./model_executor.ts";
import { plainError, type WorkerReply, type WorkerRequest } from "./worker_messages.ts";

/** The part of the Worker's global scope that is used; the library types describe a page. */
interface WorkerScope {
  onmessage: ((event: MessageEvent<WorkerRequest>) => void) | null;
  postMessage(reply: WorkerReply): void;
  close(): void;
}
const scope = globalThis as unknown as WorkerScope;

let executor: ModelExecutor | undefined;

async function answer(request: WorkerRequest): Promise<WorkerReply> {
  switch (request.type) {
    case "load":
      executor = await createModelExecutor(
        request.spec,
        (isReady) => scope.postMessage({ type: "state", isReady }),
      );
      return { type: "loaded", info: executor.info, parameters: executor.parameters };
    case "execute":
      if (!executor) throw new TypeError("No model is loaded");
      return { type: "result", result: await executor.execute(request.batch) };
    case "close":
      await executor?.[Symbol.asyncDispose]();
      return { type: "closed" };
  }
}

scope.onmessage = async ({ data }) => {
  try {
    scope.postMessage(await answer(data));
  } catch (error) {
    scope.postMessage({ type: "failed", error: plainError(error) });
  }
};

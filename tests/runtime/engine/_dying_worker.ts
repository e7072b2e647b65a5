/** The model's Worker, but for one step that it does not survive. */
import "../../../runtime/engine/worker.ts";

/** Number of the step. */
const lastStep = 3;

const scope: { onmessage: ((event: MessageEvent) => void) | null } = globalThis as never;
const inner = scope.onmessage;
scope.onmessage = (event) => {
  if (event.data.type !== "execute" || event.data.batch.step !== lastStep) return inner?.(event);
  setTimeout(() => {
    throw new Error("the Worker dies here");
  });
};

/** One thread of a team, see team.ts. Started as a Worker, never imported. */
import { instantiate, kernelNames, type Kernels } from "./kernels/mod.ts";
import { argumentsOf, control, SPINS, type TeamMessage } from "./team.ts";

/** The part of the Worker's global scope that is used; the library types describe a page. */
interface WorkerScope {
  onmessage: ((event: MessageEvent<TeamMessage>) => void) | null;
  close(): void;
}
const scope = globalThis as unknown as WorkerScope;

scope.onmessage = ({ data }) => {
  scope.onmessage = null;
  work(instantiate(data.module, data.memory), data.block);
  scope.close();
};

/** Takes part in calls until the team ends. */
function work(kernels: Kernels, block: SharedArrayBuffer): void {
  const words = new Int32Array(block);
  // Read before joining: a call that counts on this thread comes later.
  let seen = Atomics.load(words, control.call);
  const index = Atomics.add(words, control.joined, 1);
  const slot = control.slots + control.slotWords * index;
  const given = argumentsOf(block, index);
  for (;;) {
    const call = next(words, seen);
    if (call < 0) return;
    seen = call;
    if (Atomics.load(words, slot) !== call) continue;
    kernels[kernelNames[Atomics.load(words, slot + 1)]!](...given);
    Atomics.add(words, control.done, 1);
    Atomics.notify(words, control.done);
  }
}

/** Waits for a call other than `seen`. */
function next(words: Int32Array, seen: number): number {
  for (let spins = 0;;) {
    const call = Atomics.load(words, control.call);
    if (call !== seen) return call;
    if (spins++ > SPINS) Atomics.wait(words, control.call, seen);
  }
}

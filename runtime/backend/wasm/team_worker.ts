/** One thread of a team, see team.ts. Started as a Worker, never imported. */
import { argumentsOf, SPINS, takePart, type TeamMessage, viewsOf, word } from "./team_control.ts";

/** The part of the Worker's global scope that is used; the library types describe a page. */
interface WorkerScope {
  onmessage: ((event: MessageEvent<TeamMessage>) => void) | null;
  close(): void;
}
const scope = globalThis as unknown as WorkerScope;

type NumberFunction = (...args: number[]) => void;

scope.onmessage = ({ data: { module, memory, block, names } }) => {
  scope.onmessage = null;
  const { exports } = new WebAssembly.Instance(module, { env: { memory } });
  work(names.map((name) => exports[name] as NumberFunction), block);
  scope.close();
};

/** Takes parts of calls until the team ends. */
function work(kernels: readonly NumberFunction[], block: SharedArrayBuffer): void {
  const { words, parts } = viewsOf(block);
  const thread = 1 + Atomics.add(words, word.joined, 1);
  for (;;) {
    const index = takePart(words);
    if (index < 0) {
      if (sleep(words)) continue;
      return;
    }
    try {
      const kernel = kernels[Atomics.load(words, word.kernel)]!;
      kernel(...argumentsOf(words, parts[index]!, thread));
    } catch {
      Atomics.store(words, word.failed, 1); // the caller says so
    }
    Atomics.add(words, word.done, 1);
    Atomics.notify(words, word.done);
  }
}

/** Waits until there may be a part; false at the end of the team. */
function sleep(words: Int32Array): boolean {
  for (let spins = 0;; spins++) {
    const ticket = Atomics.load(words, word.ticket);
    if (ticket < 0) return false;
    if ((ticket & 255) < ((ticket >> 8) & 255)) return true;
    if (spins >= SPINS) Atomics.wait(words, word.ticket, ticket);
  }
}

/**
 * Threads of one backend: Workers that run kernels on the same shared memory.
 *
 * A call is cut into parts that write different outputs, so that their number changes no result.
 * Workers join when they have started; until then, and where there are none, the caller does all of
 * the work. Waiting Workers spin for a moment, because the next call of a step is microseconds away,
 * and sleep then: a team without work takes no processor time.
 */
import { ClosedError } from "../../errors.ts";
import type { Heap } from "./heap.ts";
import { kernelNames, type Kernels } from "./kernels/mod.ts";

/** Layout of the control block, in 32-bit words; arguments follow as doubles. */
export const control = {
  /** Number of the latest call; -1 ends the team. */
  call: 0,
  /** Workers that have finished their part of it. */
  done: 1,
  /** Workers that have joined. */
  joined: 2,
  /** From here, per Worker: the call its arguments belong to, and the kernel's number. */
  slots: 16,
  slotWords: 2,
  /** Doubles per Worker, from the end of the slots. */
  most: 16,
} as const;

/** Most threads of a team, the caller included. */
export const MAX_THREADS = 16;

const ARGUMENTS_BYTES = 4 * (control.slots + control.slotWords * MAX_THREADS);
export const CONTROL_BYTES = ARGUMENTS_BYTES + 8 * control.most * MAX_THREADS;

/** The arguments of Worker `index`. */
export function argumentsOf(block: SharedArrayBuffer, index: number): Float64Array {
  return new Float64Array(block, ARGUMENTS_BYTES + 8 * control.most * index, control.most);
}

/** What a Worker is started with. */
export interface TeamMessage {
  readonly module: WebAssembly.Module;
  readonly memory: WebAssembly.Memory;
  readonly block: SharedArrayBuffer;
}

/** Whether this platform has what a team of more than one needs. */
export const canShare = (): boolean =>
  typeof SharedArrayBuffer !== "undefined" && typeof Worker !== "undefined";

/** Turns of a waiting loop before a thread sleeps: some tens of microseconds. */
export const SPINS = 20_000;

/** See file comment. */
export class Team implements Disposable {
  readonly #words: Int32Array;
  readonly #workers: Worker[];
  readonly #arguments: Float64Array[];
  #closed = false;

  /** @param threads the caller included */
  constructor(heap: Heap, module: WebAssembly.Module, readonly kernels: Kernels, threads: number) {
    if (!(Number.isInteger(threads) && threads >= 1 && threads <= MAX_THREADS)) {
      throw new RangeError(`Threads must be 1 to ${MAX_THREADS}, not ${threads}`);
    }
    // Alone, the caller needs nothing that is shared: some platforms have no such memory.
    if (threads === 1) {
      this.#words = new Int32Array(control.slots);
      this.#workers = [];
      this.#arguments = [];
      return;
    }
    const block = new SharedArrayBuffer(CONTROL_BYTES);
    this.#words = new Int32Array(block);
    const message: TeamMessage = { module, memory: heap.memory, block };
    this.#workers = Array.from({ length: threads - 1 }, () => {
      const worker = new Worker(new URL("./team_worker.ts", import.meta.url), { type: "module" });
      worker.postMessage(message);
      return worker;
    });
    this.#arguments = this.#workers.map((_, index) => argumentsOf(block, index));
  }

  /** Threads that would take part in a call now. */
  get size(): number {
    return 1 + Atomics.load(this.#words, control.joined);
  }

  /** Runs one kernel once per list of arguments, at most {@link size} of them, and waits for all. */
  run(kernel: keyof Kernels, parts: readonly (readonly number[])[]): void {
    if (this.#closed) throw new ClosedError("The backend was closed");
    const others = parts.length - 1;
    if (others > 0) this.#start(kernel, parts);
    if (parts.length > 0) this.kernels[kernel](...parts[0]!);
    if (others > 0) this.#finish(others);
  }

  [Symbol.dispose](): void {
    if (this.#closed) return;
    this.#closed = true;
    Atomics.store(this.#words, control.call, -1);
    Atomics.notify(this.#words, control.call);
    for (const worker of this.#workers) worker.terminate();
  }

  #start(kernel: keyof Kernels, parts: readonly (readonly number[])[]): void {
    const words = this.#words;
    const call = (Atomics.load(words, control.call) + 1) & 0x3fffffff;
    for (let i = 1; i < parts.length; i++) {
      this.#arguments[i - 1]!.set(parts[i]!);
      const slot = control.slots + control.slotWords * (i - 1);
      Atomics.store(words, slot + 1, kernelNames.indexOf(kernel));
      Atomics.store(words, slot, call);
    }
    Atomics.store(words, control.done, 0);
    Atomics.store(words, control.call, call);
    Atomics.notify(words, control.call);
  }

  #finish(others: number): void {
    const words = this.#words;
    for (let spins = 0;;) {
      const done = Atomics.load(words, control.done);
      if (done === others) return;
      if (spins++ > SPINS) Atomics.wait(words, control.done, done);
    }
  }
}

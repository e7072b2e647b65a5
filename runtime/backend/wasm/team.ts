/**
 * Threads of one backend: Workers that run kernels on the same shared memory.
 *
 * A call is a list of parts that write different outputs, so that who computes which changes no
 * result. Every thread, the caller's too, takes the next part that nobody has taken, so a thread that
 * sleeps, has not started or lost its processor holds nothing up. Waiting Workers spin for a moment,
 * because the next call of a step is microseconds away, and sleep then: a team without work takes no
 * processor time.
 */
import { ClosedError, EngineError } from "../../errors.ts";
import type { Heap } from "./heap.ts";
import { kernelNames, type Kernels, moduleNames } from "./kernels/mod.ts";
import {
  argumentsOf,
  CONTROL_BYTES,
  MAX_PARTS,
  SPINS,
  takePart,
  type TeamMessage,
  viewsOf,
  word,
} from "./team_control.ts";

/** Most threads of a team, the caller included. */
export const MAX_THREADS = 16;
/** Longest wait for a thread that has taken a part: parts take milliseconds. */
const PATIENCE_MS = 30_000;

/** Whether this platform has what a team of more than one needs. */
export const canShare = (): boolean =>
  typeof SharedArrayBuffer !== "undefined" && typeof Worker !== "undefined";

/** How a team is made. */
export interface TeamOptions {
  /** Threads, the caller included. */
  readonly threads: number;
  /**
   * One word that the teams of a process share: how many of them compute now. A team then leaves as
   * many of its threads asleep as other teams compute. @default teams do not know of each other
   */
  readonly running?: SharedArrayBuffer | undefined;
  /** @default 30 seconds */
  readonly patienceMs?: number;
}

/** Memory of which every thread gets its own piece. */
export interface PrivateMemory {
  /** Index of the argument that is the first thread's piece. */
  readonly argument: number;
  /** Bytes per thread. */
  readonly bytes: number;
}

/** See file comment. */
export class Team implements Disposable {
  readonly #words: Int32Array;
  readonly #parts: readonly Float64Array[];
  readonly #workers: readonly Worker[];
  readonly #running: Int32Array | undefined;
  readonly #patienceMs: number;
  #ended: { readonly error: Error } | undefined;

  constructor(
    heap: Heap,
    module: WebAssembly.Module,
    readonly kernels: Kernels,
    { threads, running, patienceMs = PATIENCE_MS }: TeamOptions,
  ) {
    if (!(Number.isInteger(threads) && threads >= 1 && threads <= MAX_THREADS)) {
      throw new RangeError(`Threads must be 1 to ${MAX_THREADS}, not ${threads}`);
    }
    this.#patienceMs = patienceMs;
    // Alone, the caller needs nothing that is shared: some platforms have no such memory.
    const block = threads > 1 ? new SharedArrayBuffer(CONTROL_BYTES) : undefined;
    const { words, parts } = viewsOf(block ?? new ArrayBuffer(CONTROL_BYTES));
    this.#words = words;
    this.#parts = parts;
    this.#running = running && block ? new Int32Array(running) : undefined;
    this.#workers = block === undefined ? [] : this.#start(threads - 1, {
      module,
      memory: heap.memory,
      block,
      names: moduleNames(module),
    });
  }

  /** Threads that would take part in a call now. */
  get size(): number {
    return 1 + Atomics.load(this.#words, word.joined);
  }

  /** Most threads that may ever take part. */
  get most(): number {
    return 1 + this.#workers.length;
  }

  /** Wakes the threads that sleep and tells how many did. */
  sleeping(): number {
    return Atomics.notify(this.#words, word.ticket);
  }

  /** Marks this team as computing while `build` runs; see {@link TeamOptions.running}. */
  computing<T>(build: () => T): T {
    if (this.#running === undefined) return build();
    Atomics.add(this.#running, 0, 1);
    try {
      return build();
    } finally {
      Atomics.sub(this.#running, 0, 1);
    }
  }

  /**
   * Runs one kernel once per list of arguments and waits for all.
   *
   * @param own an argument that differs by thread
   * @throws {EngineError} if a thread failed or does not answer; the team has ended then
   * @throws {ClosedError} after the team has ended otherwise
   */
  run(kernel: keyof Kernels, parts: readonly (readonly number[])[], own?: PrivateMemory): void {
    if (this.#ended) throw this.#ended.error;
    const helpers = this.#helpers();
    if (parts.length === 1 || helpers < 1) {
      for (const part of parts) this.kernels[kernel](...part);
      return;
    }
    for (let from = 0; from < parts.length; from += MAX_PARTS) {
      this.#share(kernel, parts.slice(from, from + MAX_PARTS), helpers, own);
    }
  }

  [Symbol.dispose](): void {
    this.#end(new ClosedError("The backend was closed"));
  }

  /** Workers to wake: those that joined, less the teams that compute beside this one. */
  #helpers(): number {
    const others = this.#running ? Math.max(0, Atomics.load(this.#running, 0) - 1) : 0;
    return Atomics.load(this.#words, word.joined) - others;
  }

  #share(
    kernel: keyof Kernels,
    parts: readonly (readonly number[])[],
    helpers: number,
    own: PrivateMemory | undefined,
  ): void {
    const words = this.#words;
    for (const [i, part] of parts.entries()) this.#parts[i]!.set(part);
    words[word.privateArgument] = own?.argument ?? -1;
    words[word.privateBytes] = own?.bytes ?? 0;
    Atomics.store(words, word.kernel, kernelNames.indexOf(kernel));
    Atomics.store(words, word.done, 0);
    const call = (Atomics.load(words, word.ticket) >> 16) + 1 & 0x7fff;
    Atomics.store(words, word.ticket, call << 16 | parts.length << 8);
    Atomics.notify(words, word.ticket, helpers);
    try {
      for (let index; (index = takePart(words)) >= 0; Atomics.add(words, word.done, 1)) {
        this.kernels[kernel](...argumentsOf(words, this.#parts[index]!, 0));
      }
    } catch (error) {
      Atomics.add(words, word.done, 1);
      // The other parts are not begun, and those that are have to end before memory is reused.
      while (takePart(words) >= 0) Atomics.add(words, word.done, 1);
      this.#finish(parts.length);
      throw error;
    }
    this.#finish(parts.length);
  }

  /** Waits until all parts are done. */
  #finish(count: number): void {
    const words = this.#words;
    for (let spins = 0;; spins++) {
      const done = Atomics.load(words, word.done);
      if (done === count) break;
      if (spins < SPINS) continue;
      if (Atomics.wait(words, word.done, done, this.#patienceMs) !== "timed-out") continue;
      throw this.#end(new EngineError("A thread of the backend does not answer any more"));
    }
    if (Atomics.load(words, word.failed) === 0) return;
    throw this.#end(new EngineError("A kernel failed in a thread of the backend"));
  }

  #start(count: number, message: TeamMessage): Worker[] {
    return Array.from({ length: count }, () => {
      const worker = new Worker(new URL("./team_worker.ts", import.meta.url), { type: "module" });
      worker.onerror = (event) => {
        event.preventDefault();
        this.#end(new EngineError(`A thread of the backend ended: ${event.message}`));
      };
      worker.postMessage(message);
      return worker;
    });
  }

  /** Ends all threads; later calls fail with the first reason. */
  #end(error: Error): Error {
    if (this.#ended) return this.#ended.error;
    this.#ended = { error };
    Atomics.store(this.#words, word.ticket, -1);
    if (this.#workers.length > 0) Atomics.notify(this.#words, word.ticket);
    for (const worker of this.#workers) worker.terminate();
    return error;
  }
}

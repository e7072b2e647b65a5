/**
 * Numbers that change from step to step (tokens, positions, page tables), in one buffer that is
 * written once per step. Each array gets room for the next power of two, so that the same kind of
 * step finds its arrays at the same words and its bind groups again.
 */
import type { GpuBuffer, Memory } from "./memory.ts";

const FIRST_WORDS = 1 << 14;
const LEAST_WORDS = 64;

/** See file comment. Offsets count 4-byte words; word 0 is never handed out, it stands for "none". */
export class StepData {
  readonly #memory: Memory;
  readonly #queue: GPUQueue;
  #host = new Uint32Array(FIRST_WORDS);
  #used = LEAST_WORDS;
  #buffer: GpuBuffer | undefined;
  readonly #known = new Map<object, number>();

  constructor(memory: Memory, queue: GPUQueue) {
    this.#memory = memory;
    this.#queue = queue;
  }

  /** Words of this step. */
  get words(): number {
    return this.#used;
  }

  /** The buffer that was sent last. */
  get buffer(): GpuBuffer | undefined {
    return this.#buffer;
  }

  /** Where an array of this step is, if it was put there. */
  find(values: object): number | undefined {
    return this.#known.get(values);
  }

  /** Forgets the last step's arrays. */
  reset(): void {
    this.#used = LEAST_WORDS;
    this.#known.clear();
  }

  /** Where an array is, which is the same for the same array throughout a step. */
  put(values: Uint32Array): number {
    return this.once(values, () => this.reserve(values.length, (words) => words.set(values)));
  }

  /** Runs `make` for the first of equal keys of a step. */
  once(key: object, make: () => number): number {
    let at = this.#known.get(key);
    if (at === undefined) this.#known.set(key, at = make());
    return at;
  }

  /** Room for some words, filled by `fill`. */
  reserve(words: number, fill: (words: Uint32Array, at: number) => void): number {
    const room = Math.max(LEAST_WORDS, 2 ** Math.ceil(Math.log2(Math.max(1, words))));
    const at = this.#used;
    this.#used += room;
    if (this.#used > this.#host.length) {
      const larger = new Uint32Array(Math.max(this.#used, 2 * this.#host.length));
      larger.set(this.#host.subarray(0, at));
      this.#host = larger;
    }
    fill(this.#host.subarray(at, at + words), at);
    return at;
  }

  /** Sends everything; called once before a step is submitted. */
  flush(): GpuBuffer {
    if (this.#buffer === undefined || this.#buffer.size < this.#host.byteLength) {
      if (this.#buffer !== undefined) this.#memory.retire(this.#buffer);
      const usage = GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_DST;
      this.#buffer = this.#memory.buffer("step data", this.#host.byteLength, usage);
    }
    if (this.#used > LEAST_WORDS) {
      this.#queue.writeBuffer(this.#buffer.raw, 0, this.#host, 0, this.#used);
    }
    return this.#buffer;
  }
}

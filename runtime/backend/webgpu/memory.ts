/**
 * Device memory: a budget, buffers that stay (weights, pools) and buffers that are lent to steps.
 *
 * Weights are cut out of large chunks, so that matrices used together can share one binding. Freed
 * buffers are destroyed at once: left to the garbage collector, about 1 GB would float.
 */
import { elements } from "../cpu/tensor.ts";

/** A buffer of the device. The number is for keys. */
export interface GpuBuffer {
  readonly id: number;
  readonly raw: GPUBuffer;
  readonly size: number;
}

/** A range of a buffer that stays until it is freed. */
export interface Range extends Disposable {
  readonly buffer: GpuBuffer;
  /** In bytes; a multiple of 256. */
  readonly offset: number;
  readonly size: number;
}

/** Offsets and sizes of bindings are multiples of it. */
export const ALIGN = 256;
/** Chunks of weights begin small, so that tests and small models stay small. */
const FIRST_CHUNK = 1 << 20;
/** Layers whose matrices lie in two chunks take some dispatches more, so chunks grow fast. */
const LARGEST_CHUNK = 256 << 20;
/** Bytes of idle step buffers that are kept. */
const KEEP_BYTES = 256 << 20;

/** Rounds bytes up to {@link ALIGN}; at least one unit. */
export function aligned(bytes: number): number {
  return Math.max(ALIGN, Math.ceil(bytes / ALIGN) * ALIGN);
}

interface Chunk {
  readonly buffer: GpuBuffer;
  used: number;
  live: number;
}

/** See file comment. */
export class Memory implements Disposable {
  readonly #device: GPUDevice;
  readonly #chunkBytes: number;
  readonly #onDestroy: (buffer: GpuBuffer) => void;
  readonly #all = new Set<GpuBuffer>();
  readonly #free = new Map<number, GpuBuffer[]>();
  readonly #surplus: GpuBuffer[] = [];
  #idleBytes = 0;
  #ids = 0;
  #used = 0;
  #open: Chunk | undefined;
  #nextChunk = FIRST_CHUNK;

  constructor(
    device: GPUDevice,
    readonly limit: number,
    bindingBytes: number,
    onDestroy: (buffer: GpuBuffer) => void,
  ) {
    this.#device = device;
    this.#chunkBytes = Math.min(bindingBytes, 1 << 30);
    this.#onDestroy = onDestroy;
  }

  /** Bytes of all buffers there are. */
  get used(): number {
    return this.#used;
  }

  /**
   * A buffer of its own.
   *
   * @throws {RangeError} if it does not fit the budget
   */
  buffer(label: string, bytes: number, usage: number): GpuBuffer {
    const size = aligned(bytes);
    if (this.#used + size > this.limit && this.#idleBytes > 0) this.#dropIdle();
    if (this.#used + size > this.limit) {
      const mib = (n: number) => Math.ceil(n / 2 ** 20);
      throw new RangeError(
        `Cannot hold ${label} on the GPU: it needs ${mib(size)} MiB, ` +
          `${mib(Math.max(0, this.limit - this.#used))} of ${mib(this.limit)} MiB are left`,
      );
    }
    const raw = this.#device.createBuffer({ label, size, usage });
    const buffer = { id: this.#ids++, raw, size };
    this.#all.add(buffer);
    this.#used += size;
    return buffer;
  }

  destroy(buffer: GpuBuffer): void {
    if (!this.#all.delete(buffer)) return;
    this.#used -= buffer.size;
    this.#onDestroy(buffer);
    buffer.raw.destroy();
  }

  /** A range for values that stay. @throws {RangeError} if it does not fit the budget */
  range(label: string, bytes: number): Range {
    const size = aligned(bytes);
    if (size > this.#chunkBytes / 4) {
      const buffer = this.buffer(label, size, STORAGE);
      return { buffer, offset: 0, size, [Symbol.dispose]: () => this.destroy(buffer) };
    }
    const chunk = this.#chunkFor(label, size);
    const offset = chunk.used;
    chunk.used += size;
    chunk.live++;
    let isFreed = false;
    return {
      buffer: chunk.buffer,
      offset,
      size,
      [Symbol.dispose]: () => {
        if (isFreed) return;
        isFreed = true;
        if (--chunk.live > 0) return;
        if (chunk === this.#open) chunk.used = 0;
        else this.destroy(chunk.buffer);
      },
    };
  }

  /** Lends a buffer for results of a step, of a size that is a power of two. */
  lend(bytes: number): GpuBuffer {
    const size = Math.max(ALIGN, 2 ** Math.ceil(Math.log2(bytes)));
    const idle = this.#free.get(size)?.pop();
    if (idle === undefined) return this.buffer("step", size, STORAGE);
    this.#idleBytes -= size;
    return idle;
  }

  /** Takes a lent buffer back. */
  give(buffer: GpuBuffer): void {
    if (!this.#all.has(buffer)) return;
    if (this.#idleBytes + buffer.size > KEEP_BYTES) return void this.#surplus.push(buffer);
    this.#idleBytes += buffer.size;
    const list = this.#free.get(buffer.size);
    if (list === undefined) this.#free.set(buffer.size, [buffer]);
    else list.push(buffer);
  }

  /** Destroys a buffer once recorded commands have been submitted. */
  retire(buffer: GpuBuffer): void {
    this.#surplus.push(buffer);
  }

  /** Destroys surplus step buffers; to be called when no recorded command waits to be submitted. */
  sweep(): void {
    for (const buffer of this.#surplus.splice(0)) this.destroy(buffer);
  }

  [Symbol.dispose](): void {
    for (const buffer of [...this.#all]) this.destroy(buffer);
    this.#free.clear();
    this.#open = undefined;
  }

  #chunkFor(label: string, size: number): Chunk {
    if (this.#open !== undefined && this.#open.used + size <= this.#open.buffer.size) {
      return this.#open;
    }
    if (this.#open !== undefined && this.#open.live === 0) this.destroy(this.#open.buffer);
    const wanted = Math.max(size, Math.min(this.#nextChunk, this.#chunkBytes));
    // Near the end of the budget chunks are small again, and leave room for others.
    const room = Math.max(size, Math.min(wanted, aligned((this.limit - this.#used) / 8)));
    this.#nextChunk = Math.min(this.#nextChunk * 16, this.#chunkBytes, LARGEST_CHUNK);
    return this.#open = { buffer: this.buffer(label, room, STORAGE), used: 0, live: 0 };
  }

  #dropIdle(): void {
    for (const list of this.#free.values()) for (const buffer of list) this.destroy(buffer);
    this.#free.clear();
    this.#idleBytes = 0;
  }
}

const STORAGE = 0x80 | 0x4 | 0x8; // GPUBufferUsage STORAGE | COPY_SRC | COPY_DST

/** Bytes of f32 values of a shape. */
export function f32Bytes(label: string, shape: readonly number[]): number {
  return 4 * elements(label, shape);
}

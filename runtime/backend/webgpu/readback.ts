/**
 * Readback: from GPU memory to arrays.
 *
 * - "await": `mapAsync`, awaited. Always right. In Deno it takes 11 ms, because the runtime sleeps
 *   10 ms before it looks whether the GPU is done.
 * - "ring": the same, but nobody waits before the next steps are submitted (run-ahead); see
 *   run_ahead.ts. A single read behaves as "await".
 * - "fast": relies on how Deno maps buffers: the data are there when the call returns. Only for
 *   versions and machines where `provesFastReadback` has shown it, because where it fails it ends
 *   the process.
 */
import { DeviceLostError } from "../../errors.ts";
import type { Gpu } from "./device.ts";

/** See file comment. */
export type ReadbackMode = "await" | "ring" | "fast";

/** One copy from the GPU that was encoded and waits to be read. */
export interface Copy {
  /** Call after the commands are submitted. */
  read(): Promise<Uint8Array<ArrayBuffer>>;
}

/** Staging buffers of one size that are not in use. */
interface Staging {
  readonly raw: GPUBuffer;
  readonly size: number;
}

/** Bytes of idle staging buffers that are kept. */
const KEEP_BYTES = 32 << 20;

/** See file comment. */
export class Readback implements Disposable {
  readonly #gpu: Gpu;
  readonly mode: ReadbackMode;
  readonly #idle = new Map<number, Staging[]>();
  readonly #all = new Set<Staging>();
  readonly #unsubscribe: () => void;
  readonly #waiting = new Set<(error: Error) => void>();
  #idleBytes = 0;
  #bytes = 0;

  constructor(gpu: Gpu, mode: ReadbackMode) {
    this.#gpu = gpu;
    this.mode = mode;
    this.#unsubscribe = gpu.onLost((reason) => {
      for (const reject of this.#waiting) reject(new DeviceLostError(reason));
    });
  }

  /** Bytes of staging buffers there are. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Encodes a copy of `bytes` bytes, a multiple of 4, from `offset` on. */
  copy(encoder: GPUCommandEncoder, source: GPUBuffer, offset: number, bytes: number): Copy {
    const staging = this.#take(bytes);
    encoder.copyBufferToBuffer(source, offset, staging.raw, 0, bytes);
    return { read: () => this.#read(staging, bytes) };
  }

  [Symbol.dispose](): void {
    this.#unsubscribe();
    for (const { raw } of this.#all) raw.destroy();
    this.#all.clear();
    this.#idle.clear();
  }

  async #read(staging: Staging, bytes: number): Promise<Uint8Array<ArrayBuffer>> {
    try {
      const mapped = staging.raw.mapAsync(GPUMapMode.READ, 0, bytes);
      if (this.mode === "fast") mapped.catch(() => {});
      else await this.#orLoss(mapped);
      const data = new Uint8Array(staging.raw.getMappedRange(0, bytes).slice(0));
      staging.raw.unmap();
      this.#give(staging);
      return data;
    } catch (error) {
      this.#drop(staging);
      throw await this.#gpu.explain(error);
    }
  }

  /** Maps of a device that is destroyed meanwhile may stay pending for ever. */
  async #orLoss(mapped: Promise<void>): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    this.#waiting.add(reject);
    mapped.then(resolve, reject);
    try {
      await promise;
    } finally {
      this.#waiting.delete(reject);
    }
  }

  #take(bytes: number): Staging {
    const size = Math.max(256, 2 ** Math.ceil(Math.log2(bytes)));
    const idle = this.#idle.get(size)?.pop();
    if (idle !== undefined) {
      this.#idleBytes -= size;
      return idle;
    }
    const raw = this.#gpu.device.createBuffer({
      label: "readback",
      size,
      usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST,
      // Without it, "fast" would end the process instead of failing.
      mappedAtCreation: true,
    });
    raw.unmap();
    const staging = { raw, size };
    this.#all.add(staging);
    this.#bytes += size;
    return staging;
  }

  #give(staging: Staging): void {
    if (this.#idleBytes + staging.size > KEEP_BYTES) return this.#drop(staging);
    this.#idleBytes += staging.size;
    const list = this.#idle.get(staging.size);
    if (list === undefined) this.#idle.set(staging.size, [staging]);
    else list.push(staging);
  }

  #drop(staging: Staging): void {
    if (!this.#all.delete(staging)) return;
    this.#bytes -= staging.size;
    staging.raw.destroy();
  }
}

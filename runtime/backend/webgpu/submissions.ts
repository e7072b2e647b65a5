/**
 * Submissions: what has been encoded and not yet handed to the GPU. A step is submitted two microtasks
 * after it was encoded, so that reads that follow at once add their copies to the same submission.
 */
import type { Gpu } from "./device.ts";
import type { Memory } from "./memory.ts";
import type { Copy, Readback } from "./readback.ts";
import type { Dispatch, Recorder } from "./recorder.ts";
import type { BufferRange } from "./tensor.ts";

/** See file comment. */
export class Submissions {
  readonly #gpu: Gpu;
  readonly #memory: Memory;
  readonly #recorder: Recorder;
  readonly #readback: Readback;
  #encoder: GPUCommandEncoder | undefined;
  #lastStep: readonly Dispatch[] = [];

  constructor(gpu: Gpu, memory: Memory, recorder: Recorder, readback: Readback) {
    this.#gpu = gpu;
    this.#memory = memory;
    this.#recorder = recorder;
    this.#readback = readback;
  }

  /** Dispatches of the step encoded last. */
  get lastStep(): readonly Dispatch[] {
    return this.#lastStep;
  }

  /** Encodes the step that was recorded; it is submitted by itself soon after. */
  encode(): void {
    const encoder = this.#gpu.device.createCommandEncoder({ label: "step" });
    this.#lastStep = this.#recorder.encode(encoder);
    this.#encoder = encoder;
    queueMicrotask(() => {
      if (this.#encoder === encoder) queueMicrotask(() => this.#submitIf(encoder));
    });
  }

  /** Submits what is waiting, and frees what only waited for that. */
  submit(): void {
    const encoder = this.#encoder;
    this.#encoder = undefined;
    if (encoder !== undefined) this.#gpu.device.queue.submit([encoder.finish()]);
    this.#memory.sweep();
  }

  /** Forgets what is waiting: it will never run. */
  drop(): void {
    this.#encoder = undefined;
  }

  /** Bytes of a buffer once everything encoded has run. */
  async read({ buffer, offset, bytes }: BufferRange): Promise<Uint8Array<ArrayBuffer>> {
    if (bytes === 0) return new Uint8Array(0);
    const encoder = this.#encoder ??= this.#gpu.device.createCommandEncoder({ label: "read" });
    const copy = this.#readback.copy(encoder, buffer.raw, offset, bytes);
    await Promise.resolve(); // other reads of this step join the same submission
    if (this.#encoder === encoder) this.submit();
    const data = await copy.read();
    this.#gpu.check();
    return data;
  }

  /**
   * Submits what is waiting, if anything is, then whatever `encode` adds and a copy of `range`, at once
   * and together.
   */
  submitWith(
    encode: (encoder: GPUCommandEncoder) => void,
    { buffer, offset, bytes }: BufferRange,
  ): Copy {
    const { device } = this.#gpu;
    const encoder = this.#encoder ?? device.createCommandEncoder({ label: "ahead" });
    this.#encoder = undefined;
    encode(encoder);
    const copy = this.#readback.copy(encoder, buffer.raw, offset, bytes);
    device.queue.submit([encoder.finish()]);
    return copy;
  }

  #submitIf(encoder: GPUCommandEncoder): void {
    if (this.#encoder === encoder) this.submit();
  }
}

/** Tensors on the GPU: weights in parts, and results of a step, some of them not yet computed. */
import { ClosedError, ShapeError } from "../../errors.ts";
import type { DType, Tensor } from "../backend.ts";
import type { GpuBuffer, Range } from "./memory.ts";
import { Result, type Target, target } from "./recorder.ts";

/** Consecutive rows of a tensor within one buffer. */
export interface Shard {
  readonly first: number;
  readonly rows: number;
  readonly range: Range;
  /** Bytes from the beginning of the range to the scales of quantised weights. */
  readonly scales: number;
}

/** A result within a step's memory. */
export interface Slice {
  readonly result: Result;
  /** In bytes, a multiple of 256. */
  readonly offset: number;
  readonly bytes: number;
}

/** Where a tensor's values are. */
export type Storage =
  | { readonly kind: "shards"; readonly shards: readonly Shard[] }
  | { readonly kind: "slice"; readonly slice: Slice }
  /** To be computed by an op that may be joined with others. */
  | { readonly kind: "pending"; compute(): Slice };

/** See file comment. */
export class GpuTensor implements Tensor {
  #storage: Storage | undefined;
  readonly #onFree: (storage: Storage) => void;

  constructor(
    /** The backend it belongs to. */
    readonly owner: object,
    readonly label: string,
    readonly shape: readonly number[],
    readonly dtype: DType,
    storage: Storage,
    onFree: (storage: Storage) => void,
  ) {
    this.#storage = storage;
    this.#onFree = onFree;
  }

  /** @throws {ClosedError} after disposal */
  get storage(): Storage {
    if (this.#storage === undefined) throw new ClosedError(`Tensor ${this.label} was freed`);
    return this.#storage;
  }

  get isFreed(): boolean {
    return this.#storage === undefined;
  }

  /** Computes it if that was put off. */
  compute(): void {
    const { storage } = this;
    if (storage.kind === "pending") this.#storage = { kind: "slice", slice: storage.compute() };
  }

  /** Says where the values are that another op has computed along with its own. */
  settle(slice: Slice): void {
    this.#storage = { kind: "slice", slice };
  }

  /** All values as one binding. @throws {ShapeError} if they lie in several buffers */
  get target(): Target {
    this.compute();
    const { storage } = this;
    if (storage.kind === "slice") {
      return target(storage.slice.result, storage.slice.offset, storage.slice.bytes);
    }
    if (storage.kind === "shards" && storage.shards.length === 1) {
      const { range } = storage.shards[0]!;
      return target(range.buffer, range.offset, range.size);
    }
    throw new ShapeError("tensor", `${this.label} is too large for this op`);
  }

  [Symbol.dispose](): void {
    const storage = this.#storage;
    this.#storage = undefined;
    if (storage !== undefined) this.#onFree(storage);
  }
}

/** The only check from "any tensor" to "a tensor of this backend". @throws {ClosedError} if it was freed */
export function gpuTensor(op: string, tensor: Tensor, owner: object): GpuTensor {
  if (!(tensor instanceof GpuTensor) || tensor.owner !== owner) {
    throw new ShapeError(op, `tensor ${tensor.label} belongs to another backend`);
  }
  void tensor.storage;
  return tensor;
}

/** The whole buffer of a shard as a binding, so that parts of several matrices share it. */
export function wholeBuffer(buffer: GpuBuffer): Target {
  return target(buffer, 0, buffer.size);
}

/** Tensors in a value made of plain objects, arrays and maps. */
export function collectTensors(value: unknown, found: Set<GpuTensor>, seen = new Set<unknown>()) {
  if (value === null || typeof value !== "object" || seen.has(value)) return;
  seen.add(value);
  if (value instanceof GpuTensor) found.add(value);
  else if (Array.isArray(value)) { for (const item of value) collectTensors(item, found, seen); }
  else if (value instanceof Map) {
    for (const item of value.values()) collectTensors(item, found, seen);
  } else if (Object.getPrototypeOf(value) === Object.prototype) {
    for (const item of Object.values(value)) collectTensors(item, found, seen);
  }
}

/** Some bytes of a buffer. */
export interface BufferRange {
  readonly buffer: GpuBuffer;
  readonly offset: number;
  readonly bytes: number;
}

/** Where a tensor's values are, in order. */
export function rangesOf(storage: Storage): readonly BufferRange[] {
  if (storage.kind === "pending") throw new ClosedError("The tensor was not computed");
  if (storage.kind === "slice") {
    const { result, offset, bytes } = storage.slice;
    return result.buffer === undefined ? [] : [{ buffer: result.buffer, offset, bytes }];
  }
  return storage.shards.map(({ range: { buffer, offset, size } }) => ({
    buffer,
    offset,
    bytes: size,
  }));
}

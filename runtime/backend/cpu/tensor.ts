/** Tensors of the CPU backend, and the arena that recycles their arrays. */
import { ClosedError, ShapeError } from "../../errors.ts";
import type { DType, Tensor } from "../backend.ts";

/** Values in row-major order, f32 whatever the weights were stored as. */
export class CpuTensor implements Tensor {
  readonly dtype: DType = "f32";
  #data: Float32Array<ArrayBuffer> | undefined;
  readonly #release: (data: Float32Array<ArrayBuffer>) => void;

  constructor(
    readonly label: string,
    readonly shape: readonly number[],
    data: Float32Array<ArrayBuffer>,
    release: (data: Float32Array<ArrayBuffer>) => void,
  ) {
    this.#data = data;
    this.#release = release;
  }

  /** The values themselves, not a copy. @throws {ClosedError} after disposal */
  get data(): Float32Array<ArrayBuffer> {
    if (this.#data === undefined) throw new ClosedError(`Tensor ${this.label} was freed`);
    return this.#data;
  }

  [Symbol.dispose](): void {
    const data = this.#data;
    if (data === undefined) return;
    this.#data = undefined;
    this.#release(data);
  }
}

/** The only check from "any tensor" to "a tensor of this backend". */
export function cpuTensor(op: string, tensor: Tensor): CpuTensor {
  if (tensor instanceof CpuTensor) return tensor;
  throw new ShapeError(op, `tensor ${tensor.label} belongs to another backend`);
}

/** Rows and columns of a matrix. @throws {ShapeError} if it is not one */
export function matrix(op: string, x: Tensor): readonly [rows: number, cols: number] {
  const [rows, cols] = x.shape;
  if (x.shape.length !== 2 || rows === undefined || cols === undefined) {
    throw new ShapeError(op, `${x.label} must be a matrix, is [${x.shape.join(", ")}]`);
  }
  return [rows, cols];
}

/** @throws {ShapeError} if the shapes differ */
export function sameShape(op: string, x: Tensor, y: Tensor): void {
  if (x.shape.length === y.shape.length && x.shape.every((size, i) => size === y.shape[i])) return;
  throw new ShapeError(op, `shapes [${x.shape.join(", ")}] and [${y.shape.join(", ")}] differ`);
}

/** Number of values. @throws {RangeError} if a size is not a whole number from 0 */
export function elements(label: string, shape: readonly number[]): number {
  let count = 1;
  for (const size of shape) {
    if (!Number.isSafeInteger(size) || size < 0) {
      throw new RangeError(`Tensor ${label} cannot have shape [${shape.join(", ")}]`);
    }
    count *= size;
  }
  return count;
}

/** Makes an output tensor. Its values are arbitrary: ops write every one of them. */
export type Alloc = (label: string, shape: readonly number[]) => CpuTensor;

/** Bytes of freed arrays that are kept for reuse. Above it, arrays go to the garbage collector. */
const KEEP_BYTES = 64 << 20;

/** Lends arrays to the tensors of one step and takes them back, so that steps make no garbage. */
export class Arena {
  readonly #free = new Map<number, Float32Array<ArrayBuffer>[]>();
  #freeBytes = 0;
  #made: CpuTensor[] | undefined;

  /** A tensor that lives until the end of the running {@link scope}. */
  readonly alloc: Alloc = (label, shape) => {
    if (this.#made === undefined) throw new ClosedError("Ops were used outside of record()");
    const size = elements(label, shape);
    const tensor = new CpuTensor(label, shape, this.#take(size), this.#give);
    this.#made.push(tensor);
    return tensor;
  };

  /** Runs `build` and frees what it allocated, except tensors within its result. */
  scope<T>(build: () => T): T {
    if (this.#made !== undefined) throw new ClosedError("record() cannot be nested");
    const made: CpuTensor[] = [];
    this.#made = made;
    const kept = new Set<unknown>();
    try {
      const result = build();
      collectTensors(result, kept);
      return result;
    } finally {
      this.#made = undefined;
      for (const tensor of made) if (!kept.has(tensor)) tensor[Symbol.dispose]();
    }
  }

  #take(size: number): Float32Array<ArrayBuffer> {
    const reused = this.#free.get(size)?.pop();
    if (reused === undefined) return new Float32Array(size);
    this.#freeBytes -= reused.byteLength;
    return reused;
  }

  readonly #give = (data: Float32Array<ArrayBuffer>): void => {
    if (this.#freeBytes + data.byteLength > KEEP_BYTES) return;
    this.#freeBytes += data.byteLength;
    const list = this.#free.get(data.length);
    if (list === undefined) this.#free.set(data.length, [data]);
    else list.push(data);
  };
}

/** Tensors in a value made of plain objects, arrays and maps. */
function collectTensors(value: unknown, found: Set<unknown>): void {
  if (value === null || typeof value !== "object" || found.has(value)) return;
  if (value instanceof CpuTensor) found.add(value);
  else if (Array.isArray(value)) { for (const item of value) collectTensors(item, found); }
  else if (value instanceof Map) { for (const item of value.values()) collectTensors(item, found); }
  else if (Object.getPrototypeOf(value) === Object.prototype) {
    for (const item of Object.values(value)) collectTensors(item, found);
  }
}

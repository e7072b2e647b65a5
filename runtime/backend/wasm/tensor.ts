/** Tensors of the WebAssembly backend, and the steps they live in. */
import { ClosedError, ShapeError } from "../../errors.ts";
import type { QuantizedDType, Tensor } from "../backend.ts";
import { elements } from "../cpu/tensor.ts";
import type { Heap } from "./heap.ts";

/**
 * How a matrix lies in memory: row by row, in groups of four rows with the four values of a column
 * side by side (kernels/interleave.ts), or in quantised blocks (blocks.ts).
 */
export type Layout = "rows" | "fours" | "blocks";

/**
 * A block of the heap. f32 tensors are made as "rows"; `linear` interleaves its weights on first
 * use.
 */
export class WasmTensor implements Tensor {
  layout: Layout;
  #address: number | undefined;

  constructor(
    readonly heap: Heap,
    readonly label: string,
    readonly shape: readonly number[],
    readonly dtype: "f32" | QuantizedDType,
    address: number,
    readonly bytes: number,
  ) {
    this.#address = address;
    this.layout = dtype === "f32" ? "rows" : "blocks";
  }

  /** @throws {ClosedError} after disposal */
  get address(): number {
    if (this.#address === undefined) throw new ClosedError(`Tensor ${this.label} was freed`);
    return this.#address;
  }

  [Symbol.dispose](): void {
    if (this.#address === undefined) return;
    this.heap.give(this.#address, this.bytes);
    this.#address = undefined;
  }
}

/** Bytes of an f32 tensor: matrices have room for whole groups of four rows. */
export function f32Bytes(shape: readonly number[], size: number): number {
  const [rows, cols] = shape;
  const padded = shape.length === 2 && rows !== undefined && cols !== undefined
    ? Math.ceil(rows / 4) * 4 * cols
    : Math.ceil(size / 4) * 4;
  return 4 * padded;
}

/** The only check from "any tensor" to "a tensor of this backend". */
export function wasmTensor(op: string, tensor: Tensor, heap: Heap): WasmTensor {
  if (tensor instanceof WasmTensor && tensor.heap === heap) return tensor;
  throw new ShapeError(op, `tensor ${tensor.label} belongs to another backend`);
}

/** What is allocated while a step is recorded, and freed at its end. */
export class Scope {
  /** What goes at the end of the step, and of the innermost part of it. */
  #step: Disposable[] | undefined;
  #open: Disposable[] | undefined;
  /** What ops of one step compute once and share, by what it was computed from. */
  readonly shared = new Map<string, Map<object, unknown>>();

  constructor(readonly heap: Heap) {}

  /** An output tensor with arbitrary values: ops write every one of them. */
  alloc(label: string, shape: readonly number[]): WasmTensor {
    const bytes = f32Bytes(shape, elements(label, shape));
    const address = this.heap.take(label, bytes);
    return this.#keep(new WasmTensor(this.heap, label, shape, "f32", address, bytes));
  }

  /** A block for intermediate results, freed with the tensors made beside it. */
  scratch(label: string, bytes: number): number {
    const address = this.heap.take(label, bytes);
    this.#keep({ [Symbol.dispose]: () => this.heap.give(address, bytes) });
    return address;
  }

  /** A block for tables, freed at the end of the step. */
  block(label: string, bytes: number): number {
    const open = this.#open;
    this.#open = this.#step;
    try {
      return this.scratch(label, bytes);
    } finally {
      this.#open = open;
    }
  }

  /** Frees `resource` at the end of the step. */
  #keep<T extends Disposable>(resource: T): T {
    if (this.#open === undefined) {
      resource[Symbol.dispose]();
      throw new ClosedError("Ops were used outside of record()");
    }
    this.#open.push(resource);
    return resource;
  }

  /** Runs `build` and frees what it allocated, except tensors within its result. */
  run<T>(build: () => T): T {
    if (this.#open !== undefined) throw new ClosedError("record() cannot be nested");
    const made: Disposable[] = [];
    this.#step = this.#open = made;
    const kept = new Set<unknown>();
    try {
      const result = build();
      collectTensors(result, kept);
      return result;
    } finally {
      this.#step = this.#open = undefined;
      this.shared.clear();
      for (const resource of made) if (!kept.has(resource)) resource[Symbol.dispose]();
    }
  }

  /** As {@link run} within a step: what `build` returns lives on in the part around it. */
  within<T>(build: () => T): T {
    const outer = this.#open;
    if (outer === undefined) throw new ClosedError("Ops were used outside of record()");
    const made: Disposable[] = [];
    this.#open = made;
    const kept = new Set<unknown>();
    try {
      const result = build();
      collectTensors(result, kept);
      return result;
    } finally {
      this.#open = outer;
      this.#forgetTensors();
      for (const resource of made) {
        if (kept.has(resource)) outer.push(resource);
        else resource[Symbol.dispose]();
      }
    }
  }

  /** Drops what was computed from tensors: it may have been made in the part that ends. */
  #forgetTensors(): void {
    for (const byKey of this.shared.values()) {
      for (const key of byKey.keys()) if (key instanceof WasmTensor) byKey.delete(key);
    }
  }
}

/** Tensors in a value made of plain objects, arrays and maps. */
function collectTensors(value: unknown, found: Set<unknown>): void {
  if (value === null || typeof value !== "object" || found.has(value)) return;
  if (value instanceof WasmTensor) found.add(value);
  else if (Array.isArray(value)) { for (const item of value) collectTensors(item, found); }
  else if (value instanceof Map) { for (const item of value.values()) collectTensors(item, found); }
  else if (Object.getPrototypeOf(value) === Object.prototype) {
    for (const item of Object.values(value)) collectTensors(item, found);
  }
}

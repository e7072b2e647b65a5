/**
 * The page pool in WebAssembly memory: as on the CPU backend, [kvHeads, slots, headDim] per layer
 * for K and for V, with each slot padded by zeros to whole vectors.
 */
import { ClosedError, ShapeError } from "../../errors.ts";
import type { KvLayout, KvSignal } from "../../kv/policy.ts";
import type { KvPool } from "../backend.ts";
import type { Heap } from "./heap.ts";

/** See file comment. Signals are recorded outside of WebAssembly memory: policies read them. */
export class WasmKvPool implements KvPool {
  readonly slots: number;
  readonly pageBytes: number;
  /** Bytes of one slot of one head. */
  readonly slotBytes: number;
  /** For the kernel: one padded query and one padded sum. */
  readonly scratch: number;
  #blocks: readonly number[];
  readonly #blockBytes: number;
  readonly #signals = new Map<KvSignal, readonly Float32Array[]>();

  constructor(readonly heap: Heap, readonly layout: KvLayout, readonly pages: number) {
    const { layers, kvHeads, headDim, pageSize } = layout;
    this.slots = pages * pageSize;
    this.slotBytes = Math.ceil(headDim / 4) * 16;
    this.pageBytes = 2 * layers * kvHeads * pageSize * this.slotBytes;
    this.#blockBytes = kvHeads * this.slots * this.slotBytes;
    const blocks: number[] = [];
    this.#blocks = blocks;
    const label = `the KV pool of ${pages} pages`;
    this.scratch = heap.takeZeroed(label, 2 * this.slotBytes);
    try {
      // Unused slots are never read, so only padding has to be zero. Large pools then take no
      // memory from the system before they are used.
      const take = headDim % 4 === 0 ? heap.take.bind(heap) : heap.takeZeroed.bind(heap);
      for (let i = 0; i < 2 * layers; i++) {
        blocks.push(take(label, this.#blockBytes));
        heap.poolBytes += this.#blockBytes;
      }
    } catch (error) {
      this[Symbol.dispose]();
      throw error;
    }
  }

  /** Address of K of one head's first slot. */
  keys(layer: number, kvHead: number): number {
    return this.#base(2 * layer) + kvHead * this.slots * this.slotBytes;
  }

  /** Address of V of one head's first slot. */
  values(layer: number, kvHead: number): number {
    return this.#base(2 * layer + 1) + kvHead * this.slots * this.slotBytes;
  }

  /** @throws {RangeError} if the layer is not in the pool */
  requireLayer(layer: number): void {
    if (layer < this.layout.layers) return;
    throw new RangeError(`Layer ${layer} is not in the pool`);
  }

  /** @throws {RangeError} if the slot is not in the pool */
  requireSlot(slot: number): void {
    if (slot >= this.slots) throw new RangeError(`Slot ${slot} is not below ${this.slots}`);
  }

  /** The record of one signal in one layer, [kvHeads, slots], made of zeros at first. */
  record(signal: KvSignal, layer: number): Float32Array {
    this.requireLayer(layer);
    let layers = this.#signals.get(signal);
    if (layers === undefined) {
      const size = this.layout.kvHeads * this.slots;
      layers = Array.from({ length: this.layout.layers }, () => new Float32Array(size));
      this.#signals.set(signal, layers);
    }
    return layers[layer]!;
  }

  /** All records that exist for a layer. */
  records(layer: number): readonly Float32Array[] {
    return [...this.#signals.values()].map((layers) => layers[layer]!);
  }

  /** A copy of a signal at some slots, for tests and policies. */
  readSignal(signal: KvSignal, layer: number, kvHead: number, slots: Uint32Array): Float32Array {
    const record = this.record(signal, layer);
    return Float32Array.from(slots, (slot) => record[kvHead * this.slots + slot]!);
  }

  [Symbol.dispose](): void {
    if (this.#blocks.length === 0) return;
    for (const block of this.#blocks) {
      this.heap.give(block, this.#blockBytes);
      this.heap.poolBytes -= this.#blockBytes;
    }
    this.heap.give(this.scratch, 2 * this.slotBytes);
    this.#blocks = [];
  }

  #base(index: number): number {
    const block = this.#blocks[index];
    if (block === undefined) throw new ClosedError("The KV pool was freed");
    return block;
  }
}

/** The only check from "any pool" to "a pool of this backend". */
export function wasmPool(op: string, pool: KvPool, heap: Heap): WasmKvPool {
  if (pool instanceof WasmKvPool && pool.heap === heap) return pool;
  throw new ShapeError(op, "the KV pool belongs to another backend");
}

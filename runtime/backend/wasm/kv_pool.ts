/**
 * The page pool in WebAssembly memory: as on the CPU backend, [units, pageSize, headDim] for K and for
 * V, with each f32 slot padded by zeros to whole vectors.
 */
import { ClosedError, ShapeError } from "../../errors.ts";
import {
  copySlot,
  type FormatMemory,
  type KvKind,
  loadSlots,
  slotsPerPage,
  storeGroup,
} from "../../kv/formats.ts";
import type { KvFormat, KvGranularity, KvLayout, KvSignal } from "../../kv/policy.ts";
import { unitBase } from "../../kv/units.ts";
import type { KvPool, SlotPlace } from "../backend.ts";
import { readSlots, type UnitSlot } from "../cpu/kv_pool.ts";
import { KvRecords } from "../cpu/kv_records.ts";
import type { Heap } from "./heap.ts";

/** See file comment. Signals are recorded outside of WebAssembly memory: policies read them. */
export class WasmKvPool implements KvPool {
  /** Slots of all sequence pages. */
  readonly slots: number;
  readonly pageBytes: number;
  /** Bytes of one f32 slot of one head. */
  readonly slotBytes: number;
  readonly records: KvRecords;
  /** Addresses of K and V. */
  #blocks: readonly number[];
  readonly #blockBytes: number;

  constructor(readonly heap: Heap, readonly layout: KvLayout, readonly pages: number) {
    const { layers, kvHeads, headDim, pageSize } = layout;
    this.slots = pages * pageSize;
    this.slotBytes = slotBytesOf(layout);
    this.pageBytes = pageBytesOf(layout);
    this.#blockBytes = layers * kvHeads * this.slots * this.slotBytes;
    this.records = new KvRecords(layers * kvHeads * pages, (format) => this.slotsPerPage(format));
    const blocks: number[] = [];
    this.#blocks = blocks;
    const label = `the KV pool of ${pages} pages`;
    try {
      // Unused slots are never read, so only padding has to be zero. Large pools then take no
      // memory from the system before they are used.
      const take = headDim % 4 === 0 ? heap.take.bind(heap) : heap.takeZeroed.bind(heap);
      for (let i = 0; i < 2; i++) {
        blocks.push(take(label, this.#blockBytes));
        heap.poolBytes += this.#blockBytes;
      }
    } catch (error) {
      this[Symbol.dispose]();
      throw error;
    }
  }

  /** Address of K of the first unit that page ids of a table count from; see kv/units.ts. */
  keys(granularity: KvGranularity, layer: number, kvHead: number): number {
    return this.#base(0) + this.#offset(granularity, layer, kvHead);
  }

  /** The same of V. */
  values(granularity: KvGranularity, layer: number, kvHead: number): number {
    return this.#base(1) + this.#offset(granularity, layer, kvHead);
  }

  slotsPerPage(format: KvFormat): number {
    return slotsPerPage(this.layout, format, this.slotBytes);
  }

  /** @throws {RangeError} if the layer is not in the pool */
  requireLayer(layer: number): void {
    if (layer < this.layout.layers) return;
    throw new RangeError(`Layer ${layer} is not in the pool`);
  }

  /** Where an f32 slot of a unit starts, in bytes from the first unit. */
  byteOf(unit: number, offset: number): number {
    return (unit * this.layout.pageSize + offset) * this.slotBytes;
  }

  /** K or V of a unit's slot into `to[at]`. */
  load(
    kind: KvKind,
    format: KvFormat,
    unit: number,
    offset: number,
    to: Float32Array,
    at: number,
  ): void {
    const { headDim } = this.layout, memory = this.#memory();
    const page = this.#block(kind) + this.byteOf(unit, 0);
    if (format !== "f32") {
      return loadSlots(kind, format, memory, page, offset, 1, headDim, to, at, 0);
    }
    const from = (page + offset * this.slotBytes) / 4;
    to.set(memory.floats.subarray(from, from + headDim), at);
  }

  /** K or V of `count` slots of a unit from `offset` on as f32 slots at `address`. */
  loadRun(
    kind: KvKind,
    format: KvFormat,
    unit: number,
    offset: number,
    count: number,
    address: number,
  ): void {
    const memory = this.#memory(), { headDim } = this.layout;
    const page = this.#block(kind) + this.byteOf(unit, 0);
    if (format === "f32") {
      const from = page + offset * this.slotBytes;
      memory.bytes.copyWithin(address, from, from + count * this.slotBytes);
      return;
    }
    const [at, stride] = [address / 4, this.slotBytes / 4];
    loadSlots(kind, format, memory, page, offset, count, headDim, memory.floats, at, stride);
  }

  /** Stores f32 slots in another format from slot `toOffset` on: a whole group of it. */
  encode(
    format: Exclude<KvFormat, "f32">,
    from: readonly UnitSlot[],
    [toUnit, toOffset]: UnitSlot,
  ): void {
    const memory = this.#memory(), { headDim } = this.layout;
    for (const kind of ["keys", "values"] as const) {
      const block = this.#block(kind), page = block + this.byteOf(toUnit, 0);
      const ats = from.map(([unit, offset]) => (block + this.byteOf(unit, offset)) / 4);
      storeGroup(kind, format, memory.floats, ats, headDim, memory, page, toOffset);
    }
  }

  /** Copies a slot's K and V bit for bit. */
  copy(format: KvFormat, [unit, offset]: UnitSlot, [toUnit, toOffset]: UnitSlot): void {
    const { bytes } = this.heap;
    for (const kind of ["keys", "values"] as const) {
      const block = this.#block(kind);
      if (format === "f32") {
        const from = block + this.byteOf(unit, offset);
        bytes.copyWithin(block + this.byteOf(toUnit, toOffset), from, from + this.slotBytes);
        continue;
      }
      const from = [block + this.byteOf(unit, 0), offset] as const;
      const to = [block + this.byteOf(toUnit, 0), toOffset] as const;
      copySlot(kind, format, bytes, from, to, this.layout.headDim);
    }
  }

  readSignal(
    signal: KvSignal,
    layer: number,
    kvHead: number,
    slots: Uint32Array,
    place: SlotPlace = { granularity: "sequence", format: "f32" },
  ): Float32Array {
    this.requireLayer(layer);
    return readSlots(this, signal, layer, kvHead, slots, place);
  }

  [Symbol.dispose](): void {
    if (this.#blocks.length === 0) return;
    for (const block of this.#blocks) {
      this.heap.give(block, this.#blockBytes);
      this.heap.poolBytes -= this.#blockBytes;
    }
    this.#blocks = [];
  }

  #block(kind: KvKind): number {
    return this.#base(kind === "keys" ? 0 : 1);
  }

  #memory(): FormatMemory {
    return { bytes: this.heap.bytes, floats: this.heap.floats };
  }

  #offset(granularity: KvGranularity, layer: number, kvHead: number): number {
    const unit = unitBase(this.layout, this.pages, granularity, layer, kvHead);
    return unit * this.layout.pageSize * this.slotBytes;
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

/** One head's K or V of one token, padded to whole vectors. */
function slotBytesOf({ headDim }: KvLayout): number {
  return Math.ceil(headDim / 4) * 16;
}

/** See `KvPool.pageBytes`. */
export function pageBytesOf(layout: KvLayout): number {
  return 2 * layout.layers * layout.kvHeads * layout.pageSize * slotBytesOf(layout);
}

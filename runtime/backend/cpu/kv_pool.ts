/**
 * The page pool of one model: K and V of every slot, and the signals recorded for policies.
 *
 * One array for K and one for V, laid out [units, pageSize, headDim]; kv/units.ts says which unit a
 * page id stands for. In tables of whole sequences that is [layers, kvHeads, pages, pageSize, headDim],
 * so that a page is one contiguous run per head.
 */
import { ShapeError } from "../../errors.ts";
import {
  decodeVector,
  encodeVector,
  type FormatMemory,
  slotsPerPage,
  vectorBytes,
} from "../../kv/formats.ts";
import type { KvFormat, KvGranularity, KvLayout, KvSignal } from "../../kv/policy.ts";
import { unitBase, unitOffset } from "../../kv/units.ts";
import type { KvPool, SlotPlace } from "../backend.ts";
import { KvRecords } from "./kv_records.ts";

/** See file comment. */
export class CpuKvPool implements KvPool {
  /** Slots of all sequence pages. */
  readonly slots: number;
  readonly pageBytes: number;
  /** [units, pageSize, headDim] */
  readonly keys: Float32Array;
  readonly values: Float32Array;
  readonly records: KvRecords;
  readonly #bytes: { readonly keys: FormatMemory; readonly values: FormatMemory };

  constructor(readonly layout: KvLayout, readonly pages: number) {
    const { layers, kvHeads, headDim, pageSize } = layout;
    this.slots = pages * pageSize;
    this.pageBytes = 2 * 4 * layers * kvHeads * headDim * pageSize;
    const size = layers * kvHeads * this.slots * headDim;
    this.keys = new Float32Array(size);
    this.values = new Float32Array(size);
    const memory = (floats: Float32Array) => ({ floats, bytes: new Uint8Array(floats.buffer) });
    this.#bytes = { keys: memory(this.keys), values: memory(this.values) };
    this.records = new KvRecords(layers * kvHeads * pages, (format) => this.slotsPerPage(format));
  }

  slotsPerPage(format: KvFormat): number {
    return slotsPerPage(this.layout, format);
  }

  /** @throws {RangeError} if the layer is not in the pool */
  requireLayer(layer: number): void {
    if (layer < this.layout.layers) return;
    throw new RangeError(`Layer ${layer} is not in the pool`);
  }

  /** Bytes of a stored vector in pages of `format`, and where slot `slot` of a unit starts. */
  byteOf(format: KvFormat, unit: number, offset: number): number {
    const { pageSize, headDim } = this.layout;
    return 4 * unit * pageSize * headDim + offset * vectorBytes(format, headDim);
  }

  /** K or V of a unit's slot into `to[at]`. */
  load(
    kind: "keys" | "values",
    format: KvFormat,
    unit: number,
    offset: number,
    to: Float32Array,
    at: number,
  ): void {
    const { headDim } = this.layout;
    const byte = this.byteOf(format, unit, offset);
    if (format !== "f32") return decodeVector(format, this.#bytes[kind], byte, headDim, to, at);
    to.set(this[kind].subarray(byte / 4, byte / 4 + headDim), at);
  }

  /** Stores an f32 slot in another format elsewhere. */
  encode(
    format: Exclude<KvFormat, "f32">,
    unit: number,
    offset: number,
    toUnit: number,
    toOffset: number,
  ): void {
    const { headDim } = this.layout;
    const to = this.byteOf(format, toUnit, toOffset);
    for (const kind of ["keys", "values"] as const) {
      const from = this.byteOf("f32", unit, offset) / 4;
      encodeVector(format, this[kind], from, headDim, this.#bytes[kind], to);
    }
  }

  /** Copies a slot's K and V bit for bit. */
  copy(format: KvFormat, unit: number, offset: number, toUnit: number, toOffset: number): void {
    const from = this.byteOf(format, unit, offset), to = this.byteOf(format, toUnit, toOffset);
    const length = vectorBytes(format, this.layout.headDim);
    this.#bytes.keys.bytes.copyWithin(to, from, from + length);
    this.#bytes.values.bytes.copyWithin(to, from, from + length);
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

  [Symbol.dispose](): void {}
}

/** What {@link readSlots} and {@link eachUnitSlot} need of a pool. */
export interface SlotPool {
  readonly layout: KvLayout;
  readonly pages: number;
  readonly records: KvRecords;
  slotsPerPage(format: KvFormat): number;
  load(
    kind: "keys" | "values",
    format: KvFormat,
    unit: number,
    offset: number,
    to: Float32Array,
    at: number,
  ): void;
}

/** `readSignal` of pools in this process's memory. */
export function readSlots(
  pool: SlotPool,
  signal: KvSignal,
  layer: number,
  kvHead: number,
  slots: Uint32Array,
  { granularity, format }: SlotPlace,
): Float32Array {
  const { headDim } = pool.layout;
  const perPage = pool.slotsPerPage(format);
  const base = unitBase(pool.layout, pool.pages, granularity, layer, kvHead);
  const isVector = signal === "key" || signal === "value";
  const width = isVector ? headDim : pool.records.widthOf(signal);
  const out = new Float32Array(slots.length * width);
  slots.forEach((slot, i) => {
    const id = Math.floor(slot / perPage), offset = slot % perPage;
    requireUnit(pool, granularity, id);
    const unit = base + unitOffset(pool.layout, pool.pages, granularity, id);
    if (!isVector) pool.records.read(signal, format, unit, offset, out, i * width);
    else pool.load(signal === "key" ? "keys" : "values", format, unit, offset, out, i * width);
  });
  return out;
}

/** @throws {RangeError} if the pool has no such page */
export function requireUnit(
  { layout, pages }: Pick<SlotPool, "layout" | "pages">,
  granularity: KvGranularity,
  id: number,
): void {
  const parts = { sequence: 1, layer: layout.layers, "kv-head": layout.layers * layout.kvHeads };
  const limit = pages * parts[granularity];
  if (!(id < limit)) throw new RangeError(`Page ${id} is not below ${limit}`);
}

/** The only check from "any pool" to "a pool of this backend". */
export function cpuPool(op: string, pool: KvPool): CpuKvPool {
  if (pool instanceof CpuKvPool) return pool;
  throw new ShapeError(op, "the KV pool belongs to another backend");
}

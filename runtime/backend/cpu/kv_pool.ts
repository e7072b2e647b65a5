/**
 * The page pool of one model: K and V of every slot, and the signals recorded for policies.
 *
 * One array for K and one for V, laid out [units, pageSize, headDim]; kv/units.ts says which unit a
 * page id stands for. In tables of whole sequences that is [layers, kvHeads, pages, pageSize, headDim],
 * so that a page is one contiguous run per head.
 */
import { ShapeError } from "../../errors.ts";
import {
  copySlot,
  type FormatMemory,
  type KvKind,
  loadSlots,
  slotsPerPage,
  storeGroup,
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

  /** Index of an f32 slot's first number. */
  indexOf(unit: number, offset: number): number {
    const { pageSize, headDim } = this.layout;
    return (unit * pageSize + offset) * headDim;
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
    const { headDim } = this.layout;
    if (format !== "f32") {
      const memory = this.#bytes[kind], page = this.#pageAt(unit);
      return loadSlots(kind, format, memory, page, offset, 1, headDim, to, at, 0);
    }
    const from = this.indexOf(unit, offset);
    to.set(this[kind].subarray(from, from + headDim), at);
  }

  /** Stores f32 slots in another format from slot `toOffset` on: a whole group of it. */
  encode(
    format: Exclude<KvFormat, "f32">,
    from: readonly UnitSlot[],
    [toUnit, toOffset]: UnitSlot,
  ): void {
    const { headDim } = this.layout, page = this.#pageAt(toUnit);
    const ats = from.map(([unit, offset]) => this.indexOf(unit, offset));
    for (const kind of ["keys", "values"] as const) {
      storeGroup(kind, format, this[kind], ats, headDim, this.#bytes[kind], page, toOffset);
    }
  }

  /** Copies a slot's K and V bit for bit. */
  copy(format: KvFormat, [unit, offset]: UnitSlot, [toUnit, toOffset]: UnitSlot): void {
    const { headDim } = this.layout;
    for (const kind of ["keys", "values"] as const) {
      if (format === "f32") {
        const from = this.indexOf(unit, offset);
        this[kind].copyWithin(this.indexOf(toUnit, toOffset), from, from + headDim);
        continue;
      }
      const from = [this.#pageAt(unit), offset] as const;
      const to = [this.#pageAt(toUnit), toOffset] as const;
      copySlot(kind, format, this.#bytes[kind].bytes, from, to, headDim);
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

  [Symbol.dispose](): void {}

  /** Byte at which a unit's page begins. */
  #pageAt(unit: number): number {
    return 4 * this.indexOf(unit, 0);
  }
}

/** A unit, and a slot's number within its page. */
export type UnitSlot = readonly [unit: number, offset: number];

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

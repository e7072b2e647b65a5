/**
 * The page pool on the GPU, [units, pageSize, headDim rounded up to 4] for K and for V, so that a page
 * is one run per head and loads are vectors; and what attention and adapters recorded for policies,
 * [units, slots per page, width] per signal and format, made when first asked for. kv/units.ts says
 * what units are.
 *
 * Where all K fit one binding there is one buffer of each kind, and a unit may serve any layer and
 * head. Larger pools have buffers per layer; then tables are those of whole sequences only.
 */
import { inHalf, type KernelSpec } from "../../../shaders/mod.ts";
import { ClosedError, ShapeError } from "../../errors.ts";
import { slotsPerPage } from "../../kv/formats.ts";
import type { KvFormat, KvGranularity, KvLayout, KvSignal } from "../../kv/policy.ts";
import { unitOffset, unitsOf } from "../../kv/units.ts";
import type { KvPool, SlotPlace } from "../backend.ts";
import { requireUnit } from "../cpu/kv_pool.ts";
import type { PoolHost } from "./kv_host.ts";
import { readSlots } from "./kv_read.ts";
import { aligned, type GpuBuffer } from "./memory.ts";

/** Buffers of some consecutive layers. */
export interface PoolPart {
  readonly layers: number;
  readonly keys: GpuBuffer;
  readonly values: GpuBuffer;
  /** Records that exist. */
  records(): Iterable<KvRecord>;
}

/** What is known about slots of one format: `width` numbers each. */
export interface KvRecord {
  readonly signal: KvSignal;
  readonly format: KvFormat;
  readonly width: number;
  readonly buffer: GpuBuffer;
}

/** Smallest and largest keys of units, [units, 2, padded], and of which units they are there: 1. */
export interface KvBounds {
  readonly buffer: GpuBuffer;
  readonly known: Uint8Array;
}

type Part = PoolPart & { readonly signals: Map<string, KvRecord>; bounds?: KvBounds };

/** See file comment. */
export class GpuKvPool implements KvPool {
  /** Slots of all sequence pages. */
  readonly slots: number;
  readonly pageBytes: number;
  /** Values per slot. */
  readonly padded: number;
  readonly host: PoolHost;
  #parts: Part[] = [];
  readonly #widths = new Map<KvSignal, number>();
  readonly #layersPerPart: number;
  #isFreed = false;

  /** @throws {RangeError} if a layer's keys exceed one binding or the pool does not fit the budget */
  constructor(host: PoolHost, readonly layout: KvLayout, readonly pages: number) {
    this.host = host;
    const { layers, kvHeads, headDim, pageSize } = layout;
    this.slots = pages * pageSize;
    this.padded = Math.ceil(headDim / 4) * 4;
    this.pageBytes = pageBytesOf(layout, host.isHalf);
    const layerBytes = (host.isHalf ? 2 : 4) * kvHeads * this.slots * this.padded;
    if (layerBytes > host.bindingBytes) {
      const most = Math.floor(pages * host.bindingBytes / layerBytes);
      throw new RangeError(
        `Cannot hold ${pages} KV pages on the GPU: at most ${most} fit one binding`,
      );
    }
    this.#layersPerPart = layerBytes * layers <= host.bindingBytes ? layers : 1;
    try {
      for (let first = 0; first < layers; first += this.#layersPerPart) {
        this.#parts.push(this.#makePart(first, layerBytes * this.#layersPerPart));
      }
    } catch (error) {
      this[Symbol.dispose]();
      throw error;
    }
  }

  get parts(): readonly PoolPart[] {
    return this.#parts;
  }

  /** Words of K (or V) of a unit. */
  get unitWords(): number {
    return this.layout.pageSize * this.padded / (this.host.isHalf ? 2 : 1);
  }

  /** The variant of a kernel that fits how K and V are stored. */
  kernel(spec: KernelSpec): KernelSpec {
    return this.host.isHalf ? inHalf(spec) : spec;
  }

  slotsPerPage(format: KvFormat): number {
    return slotsPerPage(this.layout, format, 4 * this.padded);
  }

  keys(layer: number): GpuBuffer {
    return this.#part(layer).keys;
  }

  values(layer: number): GpuBuffer {
    return this.#part(layer).values;
  }

  /** Number of a layer within its buffers. */
  home(layer: number): number {
    return layer % this.#layersPerPart;
  }

  /** Numbers per slot of a signal. */
  widthOf(signal: KvSignal): number {
    return this.#widths.get(signal) ?? 1;
  }

  /** Says how wide a signal is; what was recorded in another width is forgotten. */
  setWidth(signal: KvSignal, width: number): void {
    if (this.widthOf(signal) === width) return;
    this.#widths.set(signal, width);
    for (const { signals } of this.#parts) {
      for (const [key, record] of signals) {
        if (record.signal !== signal) continue;
        this.host.retire(record.buffer);
        signals.delete(key);
      }
    }
  }

  /**
   * The record of one signal in the buffers of one layer, made of zeros at first.
   *
   * @throws {RangeError} if it exceeds one binding or does not fit the budget
   */
  record(signal: KvSignal, layer: number, format: KvFormat = "f32"): GpuBuffer {
    const part = this.#part(layer), key = `${signal} ${format}`;
    const known = part.signals.get(key);
    if (known !== undefined) return known.buffer;
    const width = this.widthOf(signal), label = `layer${layer}.kv.${signal}`;
    const buffer = this.#bindable(label, this.#slotBytes(width, format));
    part.signals.set(key, { signal, format, width, buffer });
    return buffer;
  }

  /**
   * Where bounds of a layer's units are, see page_bounds.ts.
   *
   * @throws {RangeError} if they exceed one binding or do not fit the budget
   */
  bounds(layer: number): KvBounds {
    const part = this.#part(layer), units = part.layers * this.layout.kvHeads * this.pages;
    return part.bounds ??= {
      buffer: this.#bindable(`layer${layer}.kv.bounds`, this.#boundBytes()),
      known: new Uint8Array(units),
    };
  }

  readonly recordBytes = {
    slots: (width: number, format: KvFormat) => this.#inAllParts(this.#slotBytes(width, format)),
    bounds: () => this.#inAllParts(this.#boundBytes()),
  };

  /** Slots are written: bounds of their pages no longer hold. */
  forgetBounds(granularity: KvGranularity, slots: Uint32Array, format: KvFormat = "f32"): void {
    if (this.#parts.every(({ bounds }) => bounds === undefined)) return;
    const perPage = this.slotsPerPage(format);
    for (const id of new Set(slots.map((slot) => Math.floor(slot / perPage)))) {
      for (const unit of unitsOf(this.layout, this.pages, granularity, id)) {
        const perPart = this.#layersPerPart * this.layout.kvHeads * this.pages;
        this.#parts[Math.floor(unit / perPart)]!.bounds?.known.fill(
          0,
          unit % perPart,
          unit % perPart + 1,
        );
      }
    }
  }

  /** All records that exist in the buffers of a layer. */
  records(layer: number): readonly KvRecord[] {
    return [...this.#part(layer).signals.values()];
  }

  readSignal(
    signal: KvSignal,
    layer: number,
    kvHead: number,
    slots: Uint32Array,
    place: SlotPlace = { granularity: "sequence", format: "f32" },
  ): Promise<Float32Array> {
    return readSlots(this, signal, layer, kvHead, slots, place);
  }

  /** @throws {RangeError} if the page is not in the pool, or is none of whole sequences in a large pool */
  requirePage(granularity: KvGranularity, id: number): void {
    if (granularity !== "sequence" && this.#parts.length > 1) {
      throw new RangeError("A KV pool this large has page tables of whole sequences only");
    }
    requireUnit(this, granularity, id);
  }

  /** @throws {RangeError} if the slot is not in the pool */
  requireSlot(granularity: KvGranularity, slot: number, format: KvFormat = "f32"): void {
    this.requirePage(granularity, Math.floor(slot / this.slotsPerPage(format)));
  }

  /** Distance of a page's unit from the first one of its layer and head. */
  unitOffset(granularity: KvGranularity, id: number): number {
    return unitOffset(this.layout, this.pages, granularity, id);
  }

  /** The same for a slot, in slots. */
  slotOffset(granularity: KvGranularity, slot: number, format: KvFormat = "f32"): number {
    const perPage = this.slotsPerPage(format), offset = slot % perPage;
    return this.unitOffset(granularity, (slot - offset) / perPage) * perPage + offset;
  }

  [Symbol.dispose](): void {
    if (this.#isFreed) return;
    this.#isFreed = true;
    for (const { keys, values, signals, bounds } of this.#parts.splice(0)) {
      for (const buffer of [keys, values]) this.host.free(buffer);
      if (bounds !== undefined) this.host.free(bounds.buffer);
      for (const { buffer } of signals.values()) this.host.free(buffer);
    }
  }

  /** Bytes of a record in one part. */
  #slotBytes(width: number, format: KvFormat): number {
    const units = this.#layersPerPart * this.layout.kvHeads * this.pages;
    return 4 * units * this.slotsPerPage(format) * width;
  }

  #boundBytes(): number {
    return 4 * this.#layersPerPart * this.layout.kvHeads * this.pages * 2 * this.padded;
  }

  #inAllParts(bytes: number): number {
    const isBindable = bytes <= this.host.bindingBytes;
    return isBindable ? aligned(bytes) * this.#parts.length : Infinity;
  }

  #bindable(label: string, bytes: number): GpuBuffer {
    if (bytes <= this.host.bindingBytes) return this.host.buffer(label, bytes);
    throw new RangeError(`Cannot hold ${label} on the GPU: it exceeds one binding`);
  }

  #makePart(first: number, bytes: number): Part {
    const keys = this.host.buffer(`layer${first}.kv.keys`, bytes);
    try {
      const values = this.host.buffer(`layer${first}.kv.values`, bytes);
      const signals = new Map<string, KvRecord>();
      return {
        layers: this.#layersPerPart,
        keys,
        values,
        signals,
        records: () => signals.values(),
      };
    } catch (error) {
      this.host.free(keys);
      throw error;
    }
  }

  #part(layer: number): Part {
    if (this.#isFreed) throw new ClosedError("The KV pool was freed");
    const part = this.#parts[Math.floor(layer / this.#layersPerPart)];
    if (part === undefined) throw new RangeError(`Layer ${layer} is not in the pool`);
    return part;
  }
}

/** Bytes of one page of a sequence, K and V of all layers and heads. */
export function pageBytesOf(
  { layers, kvHeads, headDim, pageSize }: KvLayout,
  isHalf: boolean,
): number {
  return 2 * (isHalf ? 8 : 16) * Math.ceil(headDim / 4) * layers * kvHeads * pageSize;
}

/** The only check from "any pool" to "a pool of this backend". */
export function gpuPool(op: string, pool: KvPool, host: PoolHost): GpuKvPool {
  if (pool instanceof GpuKvPool && pool.host === host) return pool;
  throw new ShapeError(op, "the KV pool belongs to another backend");
}

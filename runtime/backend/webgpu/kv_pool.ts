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
import {
  boundBytesOf,
  type KvBounds,
  type KvRecord,
  type PartSize,
  PoolPart,
  recordBytesOf,
} from "./kv_part.ts";
import { readSlots } from "./kv_read.ts";
import { aligned, type GpuBuffer } from "./memory.ts";

/** See file comment. */
export class GpuKvPool implements KvPool {
  /** Slots of all sequence pages. */
  readonly slots: number;
  readonly pageBytes: number;
  /** Values per slot. */
  readonly padded: number;
  readonly host: PoolHost;
  #parts: PoolPart[] = [];
  readonly #widths = new Map<KvSignal, number>();
  readonly #size: PartSize;
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
    const layersPerPart = layerBytes * layers <= host.bindingBytes ? layers : 1;
    this.#size = {
      layers: layersPerPart,
      units: layersPerPart * kvHeads * pages,
      padded: this.padded,
      bytes: layersPerPart * layerBytes,
      slotsPerPage: (format) => this.slotsPerPage(format),
    };
    try {
      for (let first = 0; first < layers; first += layersPerPart) {
        this.#parts.push(new PoolPart(host, first, this.#size));
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
    return layer % this.#size.layers;
  }

  /** Numbers per slot of a signal. */
  widthOf(signal: KvSignal): number {
    return this.#widths.get(signal) ?? 1;
  }

  /** Says how wide a signal is; what was recorded in another width is forgotten. */
  setWidth(signal: KvSignal, width: number): void {
    if (this.widthOf(signal) === width) return;
    this.#widths.set(signal, width);
    for (const part of this.#parts) part.forget(signal);
  }

  /**
   * The record of one signal in the buffers of one layer, made of zeros at first.
   *
   * @throws {RangeError} if it exceeds one binding or does not fit the budget
   */
  record(signal: KvSignal, layer: number, format: KvFormat = "f32"): GpuBuffer {
    return this.#part(layer).record(signal, layer, this.widthOf(signal), format);
  }

  /**
   * Where bounds of a layer's units are, see page_bounds.ts.
   *
   * @throws {RangeError} if they exceed one binding or do not fit the budget
   */
  bounds(layer: number): KvBounds {
    return this.#part(layer).bounds(layer);
  }

  readonly recordBytes = {
    slots: (width: number, format: KvFormat) =>
      this.#inAllParts(recordBytesOf(this.#size, width, format)),
    bounds: () => this.#inAllParts(boundBytesOf(this.#size)),
  };

  /** Slots are written: bounds of their pages no longer hold. */
  forgetBounds(granularity: KvGranularity, slots: Uint32Array, format: KvFormat = "f32"): void {
    if (!this.#parts.some(({ hasBounds }) => hasBounds)) return;
    const perPage = this.slotsPerPage(format), { units } = this.#size;
    for (const id of new Set(slots.map((slot) => Math.floor(slot / perPage)))) {
      for (const unit of unitsOf(this.layout, this.pages, granularity, id)) {
        this.#parts[Math.floor(unit / units)]!.forgetBounds(unit % units);
      }
    }
  }

  /** All records that exist in the buffers of a layer. */
  records(layer: number): readonly KvRecord[] {
    return [...this.#part(layer).records()];
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
    for (const part of this.#parts.splice(0)) part.free();
  }

  #inAllParts(bytes: number): number {
    const isBindable = bytes <= this.host.bindingBytes;
    return isBindable ? aligned(bytes) * this.#parts.length : Infinity;
  }

  #part(layer: number): PoolPart {
    if (this.#isFreed) throw new ClosedError("The KV pool was freed");
    const part = this.#parts[Math.floor(layer / this.#size.layers)];
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

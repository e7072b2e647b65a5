/** Buffers of some consecutive layers of a pool: K, V, and what was recorded about their slots. */
import type { KvFormat, KvSignal } from "../../kv/policy.ts";
import type { PoolHost } from "./kv_host.ts";
import type { GpuBuffer } from "./memory.ts";

/** What all parts of a pool have in common. */
export interface PartSize {
  readonly layers: number;
  /** How many units it has, see kv/units.ts. */
  readonly units: number;
  /** Values per slot. */
  readonly padded: number;
  /** Bytes of K, and of V. */
  readonly bytes: number;
  slotsPerPage(format: KvFormat): number;
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

/** Bytes of what is recorded about slots of one format in one part. */
export function recordBytesOf(size: PartSize, width: number, format: KvFormat): number {
  return 4 * size.units * size.slotsPerPage(format) * width;
}

/** Bytes of the bounds of one part. */
export function boundBytesOf({ units, padded }: PartSize): number {
  return 4 * units * 2 * padded;
}

/** See file comment. */
export class PoolPart {
  readonly layers: number;
  readonly keys: GpuBuffer;
  readonly values: GpuBuffer;
  readonly #host: PoolHost;
  readonly #size: PartSize;
  readonly #records = new Map<string, KvRecord>();
  #bounds: KvBounds | undefined;

  /**
   * @param first its first layer
   * @throws {RangeError} if K and V do not fit the budget
   */
  constructor(host: PoolHost, first: number, size: PartSize) {
    this.#host = host;
    this.#size = size;
    this.layers = size.layers;
    this.keys = host.buffer(`layer${first}.kv.keys`, size.bytes);
    try {
      this.values = host.buffer(`layer${first}.kv.values`, size.bytes);
    } catch (error) {
      host.free(this.keys);
      throw error;
    }
  }

  /** Records that exist. */
  records(): Iterable<KvRecord> {
    return this.#records.values();
  }

  /**
   * The record of a signal, made of zeros at first.
   *
   * @param layer names the buffer
   * @throws {RangeError} if it exceeds one binding or does not fit the budget
   */
  record(signal: KvSignal, layer: number, width: number, format: KvFormat): GpuBuffer {
    const key = `${signal} ${format}`, known = this.#records.get(key);
    if (known !== undefined) return known.buffer;
    const bytes = recordBytesOf(this.#size, width, format);
    const buffer = this.#bindable(`layer${layer}.kv.${signal}`, bytes);
    this.#records.set(key, { signal, format, width, buffer });
    return buffer;
  }

  /** Forgets what was recorded of a signal. */
  forget(signal: KvSignal): void {
    for (const [key, record] of this.#records) {
      if (record.signal !== signal) continue;
      this.#host.retire(record.buffer);
      this.#records.delete(key);
    }
  }

  /**
   * Where bounds of its units are, made of zeros at first.
   *
   * @param layer names the buffer
   * @throws {RangeError} if they exceed one binding or do not fit the budget
   */
  bounds(layer: number): KvBounds {
    return this.#bounds ??= {
      buffer: this.#bindable(`layer${layer}.kv.bounds`, boundBytesOf(this.#size)),
      known: new Uint8Array(this.#size.units),
    };
  }

  get hasBounds(): boolean {
    return this.#bounds !== undefined;
  }

  /** The bounds of a unit no longer hold. */
  forgetBounds(unit: number): void {
    this.#bounds?.known.fill(0, unit, unit + 1);
  }

  free(): void {
    for (const buffer of [this.keys, this.values]) this.#host.free(buffer);
    if (this.#bounds !== undefined) this.#host.free(this.#bounds.buffer);
    for (const { buffer } of this.#records.values()) this.#host.free(buffer);
  }

  #bindable(label: string, bytes: number): GpuBuffer {
    if (bytes <= this.#host.bindingBytes) return this.#host.buffer(label, bytes);
    throw new RangeError(`Cannot hold ${label} on the GPU: it exceeds one binding`);
  }
}

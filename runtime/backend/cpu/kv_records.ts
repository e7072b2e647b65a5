/**
 * What is recorded about slots for KV policies, per unit (layer and head) and format:
 *
 * - attention-sum: weight the slot received, added over query heads of its kv head and over tokens
 * - attention-last: the same of the latest token only (unchanged where it did not look)
 * - attention-max: the largest single weight so far
 * - key-norm: Euclidean length of the key
 * - query: the rotated queries of the slot's own token, [heads per kv head, headDim]
 * - adapter:<name>: what that adapter computed for the slot's token
 *
 * Records are f32, made of zeros when a signal is first needed, and start from 0 when a token is
 * written into a slot. Backends whose memory is in this process share this file.
 */
import type { KvFormat, KvSignal } from "../../kv/policy.ts";

/** Signals that are recorded, unlike "key" and "value", which are read. */
export type Recorded = Exclude<KvSignal, "key" | "value">;

/** See file comment. */
export class KvRecords {
  readonly #units: number;
  readonly #slotsPerPage: (format: KvFormat) => number;
  /** `signal format` -> [units, slots per page, width] */
  readonly #data = new Map<string, Float32Array>();
  readonly #widths = new Map<KvSignal, number>();
  /** Minima and maxima of keys by unit, and how many slots they cover; see read_rule.ts. */
  readonly bounds = new Map<number, { readonly values: Float32Array; slots: number }>();

  constructor(units: number, slotsPerPage: (format: KvFormat) => number) {
    this.#units = units;
    this.#slotsPerPage = slotsPerPage;
  }

  /** Whether nothing was ever recorded, so that writes have nothing to forget. */
  get isEmpty(): boolean {
    return this.#data.size === 0 && this.bounds.size === 0;
  }

  /** Numbers per slot. */
  widthOf(signal: KvSignal): number {
    return this.#widths.get(signal) ?? 1;
  }

  /** Says how wide a signal is; what was recorded in another width is forgotten. */
  setWidth(signal: Recorded, width: number): void {
    if (this.widthOf(signal) === width) return;
    this.#widths.set(signal, width);
    for (const key of this.#data.keys()) if (key.startsWith(`${signal} `)) this.#data.delete(key);
  }

  /** The record of one signal, [units * slots per page * width]. */
  of(signal: KvSignal, format: KvFormat = "f32"): Float32Array {
    const key = `${signal} ${format}`;
    let data = this.#data.get(key);
    if (data === undefined) {
      data = new Float32Array(this.#units * this.#slotsPerPage(format) * this.widthOf(signal));
      this.#data.set(key, data);
    }
    return data;
  }

  read(
    signal: KvSignal,
    format: KvFormat,
    unit: number,
    offset: number,
    to: Float32Array,
    at: number,
  ): void {
    const width = this.widthOf(signal);
    const from = (unit * this.#slotsPerPage(format) + offset) * width;
    to.set(this.of(signal, format).subarray(from, from + width), at);
  }

  /** A token was written into an f32 slot. */
  forget(unit: number, offset: number): void {
    if (this.isEmpty) return;
    this.bounds.delete(unit);
    const slot = unit * this.#slotsPerPage("f32") + offset;
    for (const [key, data] of this.#data) {
      const [signal, format] = key.split(" ") as [KvSignal, KvFormat];
      if (format !== "f32") continue;
      const width = this.widthOf(signal);
      data.fill(0, slot * width, (slot + 1) * width);
    }
  }

  /** What is known about a slot goes with it to another one. */
  move(
    [format, unit, offset]: readonly [KvFormat, number, number],
    [toFormat, toUnit, toOffset]: readonly [KvFormat, number, number],
  ): void {
    if (this.isEmpty) return;
    this.bounds.delete(toUnit);
    const signals = new Set([...this.#data.keys()].map((key) => key.split(" ")[0] as KvSignal));
    for (const signal of signals) {
      const width = this.widthOf(signal);
      const from = (unit * this.#slotsPerPage(format) + offset) * width;
      const to = (toUnit * this.#slotsPerPage(toFormat) + toOffset) * width;
      const source = this.of(signal, format).subarray(from, from + width);
      this.of(signal, toFormat).set(source, to);
    }
  }
}

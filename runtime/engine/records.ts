/**
 * Memory of what is recorded for policies: signals per slot and format, and bounds of pages. Records
 * are as large as the pool and are made at first use, long after the model was loaded, so room for
 * them is set aside when the first request under a policy is admitted; a request whose policy
 * finds no room is refused, and no step ever fails for it.
 */
import { OutOfMemoryError } from "../errors.ts";
import type { KvFormat, KvPolicy, KvSignal } from "../kv/policy.ts";

/** What there is for records, and what each takes; Infinity: it cannot be had. In bytes. */
export interface RecordRoom {
  readonly bytes: number;
  /** Of the score "bounds". */
  readonly bounds: number;
  /** By {@link recordKey}. */
  readonly signals: Readonly<Record<string, number>>;
}

/** Name of the record of a signal about slots in a format. */
export function recordKey(signal: KvSignal, format: KvFormat): string {
  return `${signal} ${format}`;
}

interface Reserved {
  readonly signals: ReadonlySet<KvSignal>;
  readonly formats: ReadonlySet<KvFormat>;
  readonly bounds: boolean;
}

/** What is set aside on one backend. Records are kept for good, so nothing is given back. */
export class RecordLedger {
  readonly #room: RecordRoom | undefined;
  #reserved: Reserved = { signals: new Set(), formats: new Set(["f32"]), bounds: false };

  /** @param room undefined: there is no limit */
  constructor(room: RecordRoom | undefined) {
    this.#room = room;
  }

  /**
   * Sets aside what a policy needs, unless it was before.
   *
   * @param params validated
   * @throws {OutOfMemoryError} if it does not fit beside the others'; then nothing is set aside
   */
  reserve(policy: KvPolicy, params: unknown): void {
    if (this.#room === undefined) return;
    const { signals, formats, bounds } = this.#reserved;
    const wanted: Reserved = {
      signals: signals.union(new Set(recordedBy(policy))),
      formats: formats.union(new Set([policy.format?.(params) ?? "f32"])),
      bounds: bounds || policy.reads?.(params)?.score === "bounds",
    };
    const before = bytesOf(this.#room, this.#reserved), after = bytesOf(this.#room, wanted);
    if (after > before && after > this.#room.bytes) {
      const what = `what KV policy ${JSON.stringify(policy.name)} records about the cache`;
      throw new OutOfMemoryError(what, after - before, Math.max(0, this.#room.bytes - before));
    }
    this.#reserved = wanted;
  }
}

/** "key" and "value" are in the cache already. */
function recordedBy({ signals, adapter }: KvPolicy): KvSignal[] {
  const own = signals.filter((name) => name !== "key" && name !== "value");
  return adapter === undefined ? own : [...own, `adapter:${adapter}`];
}

/** Slots take all that is recorded about any slot with them into another format. */
function bytesOf(room: RecordRoom, { signals, formats, bounds }: Reserved): number {
  let bytes = bounds ? room.bounds : 0;
  for (const signal of signals) {
    for (const format of formats) bytes += room.signals[recordKey(signal, format)] ?? 0;
  }
  return bytes;
}

/**
 * Memory of what is recorded for policies: signals per slot and format, and bounds of pages. Records
 * are as large as the pool and are made at first use, long after the model was loaded, so room for
 * them is set aside when the first request under a policy is admitted; a request whose policy
 * finds no room is refused, and no step ever fails for it.
 */
import { OutOfMemoryError } from "../errors.ts";
import { type KvFormat, type KvPolicy, type KvSignal, recordedBy } from "../kv/policy.ts";

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

/** What is set aside on one backend. Records are kept for good, so nothing is given back. */
export class RecordLedger {
  readonly #room: RecordRoom | undefined;
  /** Keys of records, and "bounds". */
  #reserved: ReadonlySet<string> = new Set();

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
    const wanted = this.#reserved.union(new Set(neededBy(policy, params)));
    const before = bytesOf(this.#room, this.#reserved), after = bytesOf(this.#room, wanted);
    if (after > before && after > this.#room.bytes) {
      const what = `what KV policy ${JSON.stringify(policy.name)} records about the cache`;
      throw new OutOfMemoryError(what, after - before, Math.max(0, this.#room.bytes - before));
    }
    this.#reserved = wanted;
  }
}

/** Slots that are stored in another format take along what the policy records about them. */
function neededBy(policy: KvPolicy, params: unknown): string[] {
  const formats = new Set<KvFormat>(["f32", policy.format?.(params) ?? "f32"]);
  const keys = recordedBy(policy)
    .flatMap((signal) => [...formats].map((format) => recordKey(signal, format)));
  return policy.reads?.(params)?.score === "bounds" ? [...keys, "bounds"] : keys;
}

function bytesOf(room: RecordRoom, keys: ReadonlySet<string>): number {
  return [...keys].reduce(
    (sum, key) => sum + (key === "bounds" ? room.bounds : room.signals[key] ?? 0),
    0,
  );
}

/** A backend's side of the KV cache: the pool, what rows read of it, and which wishes of policies it serves. */
import type { KvFormat, KvGranularity, KvLayout, KvSignal, ReadRule } from "../kv/policy.ts";

/** The KV page pool of one model on a backend. */
export interface KvPool extends Disposable {
  readonly layout: KvLayout;
  readonly pages: number;
  /** Bytes of one page: K and V of all layers and heads. */
  readonly pageBytes: number;
  /** Slots that a page holds in a format. */
  slotsPerPage(format: KvFormat): number;
  /**
   * Device memory of what is recorded about slots, taken when it is first recorded; Infinity: more than
   * can be bound. Missing where it is not taken from {@link Backend.capacity}.
   */
  readonly recordBytes?: {
    /** `width` numbers for each slot of pages in a format. */
    slots(width: number, format: KvFormat): number;
    /** For rules of the score "bounds". */
    bounds(): number;
  };
  /**
   * What attention recorded about physical slots since they were written; see {@link Ops.attention}.
   * "key" and "value" are the vectors themselves, whatever their format.
   *
   * @param place what the slots' page ids mean. @default sequence, f32
   * @returns as many numbers per slot as the signal is wide
   * @throws {RangeError} if layer, head or a slot does not exist
   */
  readSignal(
    name: KvSignal,
    layer: number,
    kvHead: number,
    slots: Uint32Array,
    place?: SlotPlace,
  ): Float32Array | Promise<Float32Array>;
}

/** What physical slots count: `id * slotsPerPage(format) + offset`, see kv/units.ts for the ids. */
export interface SlotPlace {
  readonly granularity: KvGranularity;
  readonly format: KvFormat;
}

/** Which of the policies' wishes a backend can serve. */
export interface KvSupport {
  readonly granularities: readonly KvGranularity[];
  /** Formats besides f32. */
  readonly formats: readonly KvFormat[];
  /** Besides those of adapters. */
  readonly signals: readonly KvSignal[];
  /** Whether {@link Ops.kvRecord} is there. */
  readonly adapters: boolean;
  /** Scores of {@link ReadRule}s. */
  readonly reads: readonly ReadRule["score"][];
  /** Whether {@link AttentionRow.read} works. */
  readonly readSlots: boolean;
  /**
   * Whether {@link AttentionRow.sight} works. Where it does not, rows of which something is hidden have
   * one token, and the deeper nodes of a token tree see what its first one sees. @default false
   */
  readonly sight?: boolean;
  /** Whether {@link Ops.kvCopy} can turn keys. */
  readonly turns: boolean;
}

/** What backends without a word about it serve: one table per sequence, nothing else. */
export const leastKvSupport: KvSupport = {
  granularities: ["sequence"],
  formats: [],
  signals: [],
  adapters: false,
  reads: [],
  readSlots: false,
  turns: false,
};

/** All there is, for backends in this process's memory. */
export const fullKvSupport: KvSupport = {
  granularities: ["sequence", "layer", "kv-head"],
  formats: ["int8", "int4", "kivi4"],
  signals: [
    "attention-sum",
    "attention-last",
    "attention-max",
    "key-norm",
    "query",
    "key",
    "value",
  ],
  adapters: true,
  reads: ["oracle", "bounds", "adapter"],
  readSlots: true,
  sight: true,
  turns: true,
};

/**
 * Slots that are still in memory though new tokens no longer see them. Token t of a row sees slot s only
 * if `until[s]` > `places[t]`.
 */
export interface Sight {
  /** Per slot, counted from the first one whatever its format; 2^32 - 1: for good. */
  readonly until: Uint32Array;
  /** Place in the sequence of each new token. */
  readonly places: Uint32Array;
}

/** Older slots of a row in another format; they stand before those of `AttentionRow.pages`. */
export interface EncodedSlots {
  readonly format: Exclude<KvFormat, "f32">;
  /** Per group, page ids of the row's granularity. */
  readonly pages: readonly Uint32Array[];
  readonly counts: Uint32Array;
}

/** One row's view of the pool, see `engine/executor.ts`. */
export interface AttentionRow {
  /** First token of the row in the step's flattened tokens. */
  readonly start: number;
  readonly length: number;
  readonly granularity: KvGranularity;
  /** Per group, page ids; see kv/units.ts for what they mean. */
  readonly pages: readonly Uint32Array[];
  readonly counts: Uint32Array;
  readonly encoded?: EncodedSlots;
  /**
   * Per group, the slots to read, ascending, counted from the first one whatever its format. Slots from
   * `readFrom` on are always read. Undefined entries: all slots.
   */
  readonly read?: readonly (Uint32Array | undefined)[];
  readonly readFrom?: Uint32Array;
  /** Hides slots from some tokens; tables of whole sequences only. */
  readonly sight?: Sight;
  /** Chooses what each token reads, instead of `read`. */
  readonly rule?: ReadRule;
  /** First token of the row that does; those before read everything. @default 0 */
  readonly ruleFrom?: number;
  /** Signals to record about what this row's tokens look at and write. @default none */
  readonly signals?: readonly KvSignal[];
  /** See `Row.treeMask`. */
  readonly treeMask?: Uint32Array;
}

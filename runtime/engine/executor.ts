/**
 * Executor: runs one batch. Everything that crosses is plain data, so it may live in a Worker.
 */
import type { Candidate, TokenId } from "../model.ts";
import type { SamplingParams } from "../sampling.ts";
import type { AttentionRow, KvSupport, Rope, SlotPlace, StepSize } from "../backend/backend.ts";
import type { KvAdapterData, KvFormat, KvLayout, KvSignal, ReadRule } from "../kv/policy.ts";
import type { RecordRoom } from "./records.ts";

/** What the engine has to know about the model behind an executor. */
export interface ExecutorInfo {
  readonly backend: string;
  /** See `Backend.details`. */
  readonly details?: Readonly<Record<string, string | number | boolean>>;
  readonly vocab: number;
  readonly contextLength: number;
  readonly layers: number;
  readonly hidden: number;
  readonly kv: KvLayout;
  /** Pages in the pool. */
  readonly pages: number;
  /** Bytes of one page (K and V of all layers and heads of one page group). */
  readonly pageBytes: number;
  /** What KV policies may ask for. @default one table per sequence and nothing else */
  readonly support?: KvSupport;
  /** Slots of a page in each format the backend supports. @default f32 alone */
  readonly slotsPerPage?: Readonly<Partial<Record<KvFormat, number>>>;
  /** Query heads per layer. @default as many as KV heads */
  readonly heads?: number;
  /** Tokens to compute together. @default the engine's */
  readonly steps?: StepSize;
  readonly rope?: Rope;
  /** What records for KV policies may take. @default there is no limit */
  readonly records?: RecordRoom;
  /** Learned weights for KV policies that came with the model, by name. */
  readonly adapters?: readonly string[];
  /** What policies may know of them. */
  readonly adapterData?: Readonly<Record<string, KvAdapterData>>;
}

/** Runs batches, one at a time. */
export interface Executor extends AsyncDisposable {
  readonly info: ExecutorInfo;
  /** @throws {EngineError | DeviceLostError} the whole batch failed */
  execute(batch: Batch): Promise<BatchResult>;
}

/** One step's work. */
export interface Batch {
  readonly step: number;
  /** Applied in order before the rows. */
  readonly edits: readonly PageEdit[];
  readonly rows: readonly Row[];
  /** What attention records about slots in this step, for KV policies. @default nothing */
  readonly signals?: readonly KvSignal[];
}

/** Moves slots between pages: copy-on-write, gathers after eviction, other formats. */
export type PageEdit =
  | {
    readonly op: "copy";
    /** Physical slots (page * slots per page + offset), same length. */
    readonly from: Uint32Array;
    readonly to: Uint32Array;
    /** What the pages' ids mean. @default sequence, f32 */
    readonly place?: SlotPlace;
    /** Positions by which each copied key is turned on. */
    readonly shifts?: Int32Array;
  }
  | {
    readonly op: "encode";
    /** f32 slots. */
    readonly from: Uint32Array;
    /** Slots of pages of `place.format`. */
    readonly to: Uint32Array;
    readonly place: SlotPlace & { readonly format: Exclude<KvFormat, "f32"> };
    /** What is recorded about the slots and has to go along. */
    readonly signals: readonly KvSignal[];
  };

/**
 * Which pages a row attends to, per group at the given granularity: 1, layers, or layers * kvHeads lists.
 * Counts include the row's new tokens.
 */
export type PageTables = Pick<
  AttentionRow,
  "granularity" | "pages" | "counts" | "encoded" | "read" | "readFrom" | "sight"
>;

/** One sequence's part of a batch. */
export interface Row {
  /** Not yet computed tokens, at least one. */
  readonly tokens: Uint32Array;
  /** Places in the sequence, for RoPE. Same length as `tokens`. */
  readonly positions: Uint32Array;
  /** Place in the sequence of the token after the row, where `positions` are other ones. */
  readonly next?: number;
  /** Physical slots (page * pageSize + offset) of the new K and V, per group, each as long as `tokens`. */
  readonly slots: readonly Uint32Array[];
  /** New tokens are the last `tokens.length` of the counted slots, in order. */
  readonly tables: PageTables;
  /**
   * For trees: one bit set per new token over the row's new tokens, least significant first,
   * [tokens.length * ceil(tokens.length / 32)] words. Absent: causal order.
   */
  readonly treeMask?: Uint32Array;
  /** What attention records about what this row looks at. @default nothing */
  readonly signals?: readonly KvSignal[];
  /** How each token from the `ruleFrom`-th on chooses what it reads. */
  readonly rule?: ReadRule;
  readonly ruleFrom?: number;
  /** Whose records and queries the row's policy needs. */
  readonly adapter?: string;
  readonly wants: readonly Want[];
}

/** What one ask needs from a row. `last` counts from the row's end. */
export type Want =
  | {
    readonly kind: "sample";
    readonly sampling: SamplingParams;
    readonly mask?: Uint32Array;
    readonly topLogprobs: number;
    /** Whether the answer tells what the mask allows. @default false */
    readonly mass?: boolean;
    /** Tokens before and in the completion, for penalties; empty when no penalty is on. */
    readonly promptTokens: readonly TokenId[];
    readonly completionTokens: readonly TokenId[];
  }
  | { readonly kind: "topk"; readonly k: number; readonly last: number }
  | { readonly kind: "logits"; readonly last: number }
  | { readonly kind: "entropy"; readonly last: number }
  /** `targets[i]` is scored at the i-th of the last `targets.length` positions. */
  | { readonly kind: "score"; readonly targets: Uint32Array }
  | { readonly kind: "hidden"; readonly layer: number; readonly last: number }
  /** What was recorded about physical slots, this step included. */
  | {
    readonly kind: "signal";
    readonly name: KvSignal;
    readonly layer: number;
    readonly kvHead: number;
    readonly slots: Uint32Array;
    /** @default sequence, f32 */
    readonly place?: SlotPlace;
  };

/** The answer to a {@link Want}, same order. */
export type Answer =
  | {
    readonly kind: "sample";
    readonly token: TokenId;
    readonly logprob: number;
    readonly top: readonly Candidate[];
    readonly entropy: number;
    /** Probability of what the mask allows. */
    readonly mass?: number;
  }
  | {
    readonly kind: "topk";
    readonly rows: readonly { readonly candidates: readonly Candidate[]; readonly rest: number }[];
  }
  | { readonly kind: "logits" | "hidden"; readonly rows: readonly Float32Array[] }
  | { readonly kind: "score" | "entropy" | "signal"; readonly values: Float32Array }
  /**
   * This ask alone cannot be answered: its mask leaves no token, a token id is unknown
   * ("RangeError"), or its logits are not numbers ("EngineError").
   */
  | { readonly kind: "failed"; readonly name: string; readonly message: string };

/** Answers by row. */
export interface BatchResult {
  readonly answers: readonly (readonly Answer[])[];
}

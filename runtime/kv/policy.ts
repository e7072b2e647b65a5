/**
 * KvPolicy: decides what the KV cache keeps and in which format. Policies return edits; only the
 * page store writes.
 *
 * A position is where a token stands in the sequence; a slot is where its K and V lie. A policy sees
 * committed tokens only and is consulted at points fixed by the sequence: by default when `committed`
 * crosses a page boundary, and at the end of the prompt.
 */

/**
 * Per-slot numbers for policies, all per KV head. The first four are one number per slot and are
 * recorded by attention; "adapter:<name>" is recorded when a slot is written, as wide as that adapter
 * says; "query" is recorded too, with `heads / kvHeads` rotated queries of `headDim` numbers per slot. "key"
 * and "value" are `headDim` numbers per slot and are read from the cache itself.
 */
export type KvSignal =
  | "attention-sum"
  | "attention-last"
  | "attention-max"
  | "key-norm"
  | "query"
  | "key"
  | "value"
  | `adapter:${string}`;

/** Storage format of a page, see formats.ts. */
export type KvFormat = "f32" | "int8" | "int4" | "kivi4";

/** How finely kept sets may differ. Page tables are shared at the coarsest level a policy allows. */
export type KvGranularity = "sequence" | "layer" | "kv-head";

/** Shape of a model's cache. */
export interface KvLayout {
  readonly layers: number;
  readonly kvHeads: number;
  readonly headDim: number;
  /** Slots per page. */
  readonly pageSize: number;
}

/** What a policy may know about the model besides the cache's shape. */
export interface KvModel {
  readonly layout: KvLayout;
  /** Query heads per layer. */
  readonly heads: number;
  readonly contextLength: number;
  /** The rotary embedding, for policies that undo it: pairs as in `Rope.layout`, radians per position. */
  readonly rope?: { readonly layout: "half" | "pairs"; readonly frequencies: readonly number[] };
  /** Committed token ids that end a segment of text, see separators.ts. */
  readonly separators?: ReadonlySet<number>;
  /** Learned weights that came with the model, by name. */
  readonly adapters?: Readonly<Record<string, KvAdapterData>>;
}

/** What a policy may know of learned weights, see models/adapters/mod.ts. */
export interface KvAdapterData {
  readonly metadata: Readonly<Record<string, string>>;
  /** Weights that the policy itself computes with; empty where the forward pass does. */
  readonly tensors: Readonly<Record<string, Float32Array>>;
}

/** One group of layers (or layer and head) that share a page table. */
export interface KvGroup {
  readonly layers: readonly [from: number, to: number];
  readonly kvHeads: readonly [from: number, to: number];
  /** slot -> position, ascending */
  readonly positions: Uint32Array;
  /** So many first slots are stored in few bits. */
  readonly encoded: number;
  /**
   * One value per slot: added up over the layers and heads of the group ("attention-max": the largest).
   * For wide signals, of groups of one head, the slots' numbers one after the other.
   *
   * @throws {RangeError} if the policy did not declare the signal
   */
  signal(name: KvSignal): Float32Array;
  /** The same for one layer and head of the group. */
  signalOf(name: KvSignal, layer: number, kvHead: number): Float32Array;
}

/** What a policy may look at. */
export interface KvView {
  /** The policy may act on positions below this. */
  readonly committed: number;
  readonly promptLength: number;
  /** Committed token ids, for rules that look at text (separators). */
  readonly tokens: readonly number[];
  readonly groups: readonly KvGroup[];
}

/** One change to the cache. Edits are applied in order; slots are those left by the edits before. */
export type KvEdit =
  /**
   * Only these slots stay. All slots not yet committed must be among them; of encoded slots that are
   * stored in groups (formats.ts), all of a group or none.
   */
  | { readonly op: "keep"; readonly group: number; readonly slots: Uint32Array }
  /**
   * The first `slots` slots are stored in `format` from now on: whole groups of it. A sequence has one
   * such format.
   */
  | {
    readonly op: "encode";
    readonly group: number;
    readonly slots: number;
    readonly format: Exclude<KvFormat, "f32">;
  }
  /**
   * Until the next consultation attention reads only these slots and newer ones; nothing is dropped.
   * Undefined: all slots.
   */
  | { readonly op: "read"; readonly group: number; readonly slots: Uint32Array | undefined };

/** When a policy is consulted. The end of the prompt is always a point. */
export interface KvSchedule {
  /** At multiples of this many committed tokens within the prompt; Infinity: only at its end. */
  readonly prompt: number;
  /** At multiples of this many committed tokens after the prompt. */
  readonly decode: number;
  /** From this position on attention records signals. @default 0 */
  readonly recordFrom?: number;
  /** From this one on no longer, and policies consulted later get no signals. @default Infinity */
  readonly recordTo?: number;
}

/**
 * Query-aware reading, chosen by kernels for each new token, layer and KV head: the `sinks` first
 * slots, the `window` newest ones (the token itself included) and the best of the rest up to `budget`
 * slots in all. At most `budget` visible slots: all are read. Ties go to the newer slot.
 */
export interface ReadRule {
  /**
   * oracle   the largest q . k of the KV head's query heads
   * bounds   Quest: pages by an upper bound of q . k from their keys' minima and maxima
   * adapter  the largest product of a query of the adapter with its record of the slot
   */
  readonly score: "oracle" | "bounds" | "adapter";
  /** Which adapter, for that score. */
  readonly adapter?: string;
  readonly budget: number;
  readonly sinks: number;
  readonly window: number;
  /** Layers below this read everything. */
  readonly denseLayers: number;
  /** Tokens of the prompt read everything. */
  readonly densePrefill: boolean;
}

/** What a policy saves, for readers of `/v1/kv-policies`. */
export type KvFamily = "full" | "eviction" | "quantisation" | "read-sparsity";

/** A KV compression method. */
export interface KvPolicy<S = unknown, P = unknown> {
  readonly name: string;
  /** Paper or specification. */
  readonly source: string;
  /** One sentence for people who choose. */
  readonly summary?: string;
  /** @default "eviction" */
  readonly family?: KvFamily;
  /** True if attention over the result equals attention over the full cache. */
  readonly lossless: boolean;
  readonly granularity: KvGranularity;
  /** What has to be recorded or read for this policy; empty means nothing extra runs. */
  readonly signals: readonly KvSignal[];
  /** Name of the adapter of learned weights that the model must have. */
  readonly adapter?: string;
  /** Format of older slots, for checks; the policy's "encode" edits change them. @default "f32" */
  format?(params: P): KvFormat;
  /** @default at page boundaries, all signals recorded */
  schedule?(params: P, layout: KvLayout, promptLength: number): KvSchedule;
  /**
   * "original": keys keep the rotation of their place in the sequence. "cache": after each "keep"
   * keys are turned to the number of their slot, and a new token's position is its slot; sequences
   * may then be longer than the model's context as long as slots are not. @default "original"
   */
  positions?(params: P): "original" | "cache";
  reads?(params: P): ReadRule | undefined;
  /**
   * Whether the prompt's tokens see everything before them and the policy is not consulted before its
   * end. Its K and V are then those of the full cache, and pages of prompts are shared with requests
   * under `full` and under other policies of this kind ("sequence" granularity without signals).
   * @default false
   */
  densePrompt?(params: P): boolean;
  /**
   * For rules that follow from tokens alone, under tables of whole sequences: the first position whose
   * token no longer sees this one; Infinity: all do. Attention then follows the rule token by token,
   * in rows of any length and before anything is committed; "keep" edits only free memory, later.
   */
  lifetime?(state: S, position: number, token: number, promptLength: number): number;
  /**
   * For policies that know when they act next: the settled length, above `settled`, at which to be
   * consulted, instead of the schedule's.
   */
  next?(state: S, settled: number, promptLength: number): number;
  /** Validates and completes parameters; anything with parse(), we use zod. */
  readonly params: { parse(value: unknown): P };
  /** @throws {RangeError} naming the parameter that does not fit this model */
  check?(params: P, model: KvModel): void;
  /** Checked parameters with those that the model settles, to be told. @default as they are */
  complete?(params: P, model: KvModel): P;
  init(layout: KvLayout, params: P, model?: KvModel): S;
  fork(state: S): S;
  /** Pure: reads the view, returns the next state and what should change. */
  plan(state: S, view: KvView): { readonly state: S; readonly edits: readonly KvEdit[] };
}

/** Signals about slots that are kept beside the cache; "key" and "value" are in it already. */
export function recordedBy(
  { signals, adapter }: Pick<KvPolicy, "signals" | "adapter">,
): KvSignal[] {
  const own = signals.filter((name) => name !== "key" && name !== "value");
  return adapter === undefined ? own : [...own, `adapter:${adapter}`];
}

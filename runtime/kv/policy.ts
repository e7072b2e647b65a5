/**
 * KvPolicy: decides what the KV cache keeps and in which format. Policies return edits; only the
 * page store writes.
 *
 * A position is where a token stands in the sequence; a slot is where its K and V lie. A policy sees
 * committed tokens only and is consulted at points fixed by the sequence: when `committed` crosses a
 * page boundary, and at the end of the prompt.
 */

/** Per-slot numbers that attention kernels can record for policies. */
export type KvSignal = "attention-sum" | "attention-last" | "attention-max" | "key-norm";

/** Storage format of a page. */
export type KvFormat = "f32" | "f16" | "int8" | "int4";

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

/** One group of layers (or layer and head) that share a page table. */
export interface KvGroup {
  readonly layers: readonly [from: number, to: number];
  readonly kvHeads: readonly [from: number, to: number];
  /** slot -> position, ascending */
  readonly positions: Uint32Array;
  /** One value per slot. @throws {RangeError} if the policy did not declare the signal */
  signal(name: KvSignal): Float32Array;
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

/** One change to the cache. */
export type KvEdit =
  | { readonly op: "keep"; readonly group: number; readonly slots: Uint32Array }
  | {
    readonly op: "encode";
    readonly group: number;
    readonly pages: Uint32Array;
    readonly format: KvFormat;
  }
  | {
    readonly op: "merge";
    readonly group: number;
    readonly into: Uint32Array;
    readonly from: Uint32Array;
    readonly weights: Float32Array;
  };

/** A KV compression method. */
export interface KvPolicy<S = unknown, P = unknown> {
  readonly name: string;
  /** Paper or specification. */
  readonly source: string;
  /** True if attention over the result equals attention over the full cache. */
  readonly lossless: boolean;
  readonly granularity: KvGranularity;
  /** What kernels have to record for this policy; empty means nothing extra runs. */
  readonly signals: readonly KvSignal[];
  /** Validates and completes parameters; anything with parse(), we use zod. */
  readonly params: { parse(value: unknown): P };
  init(layout: KvLayout, params: P): S;
  fork(state: S): S;
  /** Pure: reads the view, returns the next state and what should change. */
  plan(state: S, view: KvView): { readonly state: S; readonly edits: readonly KvEdit[] };
}

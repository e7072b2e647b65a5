/** Decoder: a model's forward pass, ready to run on one backend. */
import type { AttentionRow, KvPool, Ops, Rope, Tensor } from "../backend/backend.ts";
import type { KvSignal } from "../kv/policy.ts";
import type { KvAdapter } from "./adapter.ts";
import type { ModelConfig } from "./config.ts";

/** The new tokens of a step, flattened over its rows, and what is wanted of them. */
export interface DecoderStep {
  readonly tokens: Uint32Array;
  /** Places in their sequences, as long as `tokens`. */
  readonly positions: Uint32Array;
  readonly pool: KvPool;
  readonly rows: readonly AttentionRow[];
  /** Per row and group, see `Row.slots`. */
  readonly slots: readonly (readonly Uint32Array[])[];
  /** Attention signals to record, usually none. */
  readonly signals: readonly KvSignal[];
  /** Adapters of KV policies in use, and which rows use them. */
  readonly adapters: readonly { readonly adapter: KvAdapter; readonly rows: readonly number[] }[];
  /** Tokens (indices into `tokens`) whose logits are wanted. */
  readonly logitTokens: Uint32Array;
  /** Layer -> tokens whose hidden state is wanted; 0 = embedding, `layers` = before the final norm. */
  readonly hiddenTokens: ReadonlyMap<number, Uint32Array>;
}

/** What a step computed, besides K and V in the pool. */
export interface DecoderOutput {
  /** [logitTokens, vocab]; undefined if none are wanted. */
  readonly logits: Tensor | undefined;
  /** Layer -> [tokens wanted, hidden]. */
  readonly hidden: ReadonlyMap<number, Tensor>;
}

/** A loaded decoder-only transformer. Disposing frees its weights. */
export interface Decoder extends Disposable {
  readonly config: ModelConfig;
  /** Number of weights; tied tables count once. */
  readonly parameters: number;
  /** How q and k are rotated. */
  readonly rope: Rope;
  forward(ops: Ops, step: DecoderStep): DecoderOutput;
}

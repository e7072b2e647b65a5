/**
 * KvAdapter: learned weights of a KV policy that run inside the forward pass, beside the model's own.
 *
 * Before the attention of each layer an adapter sees what the model computed and may give
 *
 * - a record: numbers per new token and KV head that stay with the token's slot, as the signal
 *   "adapter:<name>" (types of a router, scores, projected keys). They move, fork and are dropped
 *   with it.
 * - queries: what a {@link ReadRule} with score "adapter" multiplies with the records of all visible
 *   slots to choose what the new token reads.
 */
import type { Ops, Tensor } from "../backend/backend.ts";

/** What an adapter sees of a layer. All [tokens of the step, width]. */
export interface AdapterInput {
  /** The normed hidden state that q, k and v are made from, [tokens, hidden]. */
  readonly hidden: Tensor;
  /** After rotation, [tokens, heads * headDim] and [tokens, kvHeads * headDim]. */
  readonly q: Tensor;
  readonly k: Tensor;
  readonly v: Tensor;
  /** For what one layer computes for later ones of the same step; empty when a step begins. */
  readonly memory: Map<string, Tensor>;
}

/** See file comment. Disposing frees its weights. */
export interface KvAdapter extends Disposable {
  readonly name: string;
  /** Numbers per slot of its record. @default it records nothing */
  readonly recordWidth?: number;
  /** [tokens, kvHeads * width], the same width in all layers; undefined = nothing in this layer. */
  record?(ops: Ops, layer: number, input: AdapterInput): Tensor | undefined;
  /** [tokens, heads * width of the record]; undefined = this layer reads everything. */
  queries?(ops: Ops, layer: number, input: AdapterInput): Tensor | undefined;
}

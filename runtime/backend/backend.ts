/**
 * Backend and Ops: the arithmetic of a forward pass. A model file is written once against {@link Ops}
 * and runs on every backend. Matrices are row-major; a weight is [outputs, inputs].
 */
import type { KvGranularity, KvLayout, KvSignal } from "../kv/policy.ts";

/** Element type of a tensor. */
export type DType = "f32" | "f16" | "u32" | "q8" | "q4";

/** Weights as integers in blocks of 32 columns with one scale each, in 8 or 4 bits. */
export type QuantizedDType = "q8" | "q4";

/** A block of device memory. Disposing frees it at once. */
export interface Tensor extends Disposable {
  readonly label: string;
  readonly shape: readonly number[];
  readonly dtype: DType;
}

/** The KV page pool of one model on a backend. */
export interface KvPool extends Disposable {
  readonly layout: KvLayout;
  readonly pages: number;
  readonly pageBytes: number;
  /**
   * What attention recorded about physical slots since they were written; see {@link Ops.attention}.
   *
   * @throws {RangeError} if layer, head or a slot does not exist
   */
  readSignal(name: KvSignal, layer: number, kvHead: number, slots: Uint32Array): Float32Array;
}

/** One row's view of the pool, see `engine/executor.ts`. */
export interface AttentionRow {
  /** First token of the row in the step's flattened tokens. */
  readonly start: number;
  readonly length: number;
  readonly granularity: KvGranularity;
  readonly pages: readonly Uint32Array[];
  readonly counts: Uint32Array;
  /** See `Row.treeMask`. */
  readonly treeMask?: Uint32Array;
}

/** Rotary embedding: which pairs, how fast. */
export interface Rope {
  readonly headDim: number;
  /** "half": pairs (i, i + headDim/2), as in Hugging Face Llama. "pairs": (2i, 2i + 1), as in llama2.c. */
  readonly layout: "half" | "pairs";
  /** Radians per position, [headDim / 2]; scaling rules are already applied. */
  readonly frequencies: Float64Array;
}

/** What a forward pass may do. All outputs are new tensors that live until the step ends. */
export interface Ops {
  /** Rows of `table` [vocab, hidden] -> [tokens, hidden]. */
  embed(table: Tensor, tokens: Uint32Array): Tensor;
  /**
   * y[r, c] = x[r, c] / sqrt(mean(x[r]^2) + eps) * weight[c]. Rows of x that are n times as long as
   * `weight` are n rows to it: per-head norms.
   */
  rmsNorm(x: Tensor, weight: Tensor, eps: number): Tensor;
  /** x [rows, K], weight [N, K], bias [N] -> [rows, N]. */
  linear(x: Tensor, weight: Tensor, bias?: Tensor): Tensor;
  /** Element-wise sum. */
  add(x: Tensor, y: Tensor): Tensor;
  /** silu(gate) * up, element-wise. */
  swiglu(gate: Tensor, up: Tensor): Tensor;
  /** Rotates each head of x [tokens, heads * headDim] by its position. */
  rope(x: Tensor, positions: Uint32Array, rope: Rope): Tensor;
  /** Stores k, v [tokens, kvHeads * headDim]; `slots` as in `Row.slots`, flattened over rows. */
  kvWrite(
    pool: KvPool,
    layer: number,
    k: Tensor,
    v: Tensor,
    rows: readonly AttentionRow[],
    slots: readonly (readonly Uint32Array[])[],
  ): void;
  /**
   * Causal grouped-query attention over the rows' pages; q [tokens, heads * headDim] -> same shape.
   * Token t of a row sees all counted slots but those of later tokens of the row.
   * `signals` adds each wanted signal per slot to the pool's record.
   */
  attention(
    q: Tensor,
    pool: KvPool,
    layer: number,
    rows: readonly AttentionRow[],
    options: { readonly scale: number; readonly signals: readonly KvSignal[] },
  ): Tensor;
  /** Picks rows of x by index. */
  gatherRows(x: Tensor, rows: Uint32Array): Tensor;
  /**
   * Copies K and V (and recorded signals) of all layers between physical slots. Slots in `to` are
   * distinct and none is in `from`, so that copies may run in any order.
   */
  kvCopy(pool: KvPool, from: Uint32Array, to: Uint32Array): void;
}

/** A place where tensors live and ops run. */
export interface Backend extends Disposable {
  readonly name: string;
  readonly limits: {
    readonly maxBindingBytes: number;
    readonly f16: boolean;
    readonly subgroups: boolean;
  };
  /** Uploads `data` (f32 values; other types are converted), or zeros. */
  tensor(label: string, shape: readonly number[], dtype: DType, data?: Float32Array): Tensor;
  /**
   * A weight matrix for `embed` and `linear` from the blocks of a GGUF file, Q8_0 for "q8" and Q4_0
   * for "q4", whose integers and scales are kept. Missing where the backend has no such kernels; it
   * then has no tensors of these types either.
   */
  readonly quantized?: (
    label: string,
    shape: readonly number[],
    dtype: QuantizedDType,
    blocks: Uint8Array,
  ) => Tensor;
  kvPool(layout: KvLayout, pages: number): KvPool;
  /** Runs `build`; tensors it made are freed afterwards, except those it returns. */
  record<T>(build: (ops: Ops) => T): T;
  /** The tensor's values as f32. */
  read(tensor: Tensor): Promise<Float32Array>;
}

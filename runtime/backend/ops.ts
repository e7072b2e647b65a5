/** Ops: the arithmetic of a forward pass. A model file is written once against {@link Ops}. */
import type { KvFormat, KvGranularity, KvSignal } from "../kv/policy.ts";
import type { DrawSpec, LogitsAsk, Told } from "./draws.ts";
import type { AttentionRow, KvPool, SlotPlace } from "./kv_pool.ts";
import type { Tensor } from "./tensor.ts";

/** What a forward pass may do. All outputs are new tensors that live until the step ends. */
export interface Ops {
  /**
   * Runs `build`, a part of the step, and frees what it made except tensors within its result, which
   * live on until the step ends. Missing where memory is reused without it.
   */
  readonly scoped?: <T>(build: () => T) => T;
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
  /** x * Phi(x), element-wise, for adapters. Missing where the backend has no kernel for it. */
  gelu?(x: Tensor): Tensor;
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
   * `signals` adds each wanted signal per slot to the pool's record, for all rows; a row's own come
   * on top. Reading less (`read`, `rule`) makes the softmax run over what is read. `queries` are those
   * of adapters by name, [tokens, heads * width of the record], for rules that score by "adapter".
   */
  attention(
    q: Tensor,
    pool: KvPool,
    layer: number,
    rows: readonly AttentionRow[],
    options: {
      readonly scale: number;
      readonly signals: readonly KvSignal[];
      readonly queries?: ReadonlyMap<string, Tensor>;
    },
  ): Tensor;
  /** Picks rows of x by index. */
  gatherRows(x: Tensor, rows: Uint32Array): Tensor;
  /**
   * Draws from the first `vocab` columns of rows of logits; the result is for {@link Backend.drawn}.
   * Missing where logits are on the host anyway.
   */
  draw?(logits: Tensor, vocab: number, draws: readonly DrawSpec[]): Tensor;
  /**
   * Reads off rows of logits what {@link Backend.summarise} says, on the device; for those that
   * {@link Backend.canTell}. Sums are the device's.
   */
  tell?(logits: Tensor, vocab: number, asks: readonly LogitsAsk[]): Told;
  /**
   * Copies K and V (and recorded signals) of all units behind physical slots. Slots in `to` are
   * distinct and none is in `from`, so that copies may run in any order. "kivi4": whole groups of 32.
   */
  kvCopy(pool: KvPool, from: Uint32Array, to: Uint32Array, options?: CopyOptions): void;
  /**
   * Stores f32 slots `from` in another format at slots `to` of pages of that format, with what is
   * recorded about them: at least `signals`, all that there is by default.
   * "kivi4": whole groups of 32, whose targets follow each other from a multiple of 32 on.
   */
  kvEncode?(
    pool: KvPool,
    from: Uint32Array,
    to: Uint32Array,
    place: {
      readonly granularity: KvGranularity;
      readonly format: Exclude<KvFormat, "f32">;
      readonly signals?: readonly KvSignal[];
    },
  ): void;
  /** Records `values` [tokens, kvHeads * width] as `signal` of the rows' new slots. */
  kvRecord?(
    pool: KvPool,
    layer: number,
    signal: `adapter:${string}`,
    values: Tensor,
    rows: readonly AttentionRow[],
    slots: readonly (readonly Uint32Array[])[],
  ): void;
}

/** Rotary embedding: which pairs, how fast. */
export interface Rope {
  readonly headDim: number;
  /** "half": pairs (i, i + headDim/2), as in Hugging Face Llama. "pairs": (2i, 2i + 1), as in llama2.c. */
  readonly layout: "half" | "pairs";
  /** Radians per position, [headDim / 2]; scaling rules are already applied. */
  readonly frequencies: Float64Array;
}

/** Which slots {@link Ops.kvCopy} copies. */
export interface CopyOptions extends Partial<SlotPlace> {
  /** Positions by which each copied key is turned further; may be negative. f32 slots only. */
  readonly turn?: { readonly shifts: Int32Array; readonly rope: Rope };
}

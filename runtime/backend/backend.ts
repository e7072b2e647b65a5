/**
 * Backend and Ops: the arithmetic of a forward pass. A model file is written once against {@link Ops}
 * and runs on every backend. Matrices are row-major; a weight is [outputs, inputs].
 */
import type { KvFormat, KvGranularity, KvLayout, KvSignal, ReadRule } from "../kv/policy.ts";
import type { Candidate } from "../model.ts";
import type { SamplingParams } from "../sampling.ts";

/** Element type of a tensor. */
export type DType = "f32" | "f16" | "u32" | "q8" | "q4";

/** Weights as integers in blocks of 32 columns with one scale each, in 8 or 4 bits. */
export type QuantizedDType = "q8" | "q4";

/**
 * Rows of a matrix, asked for a few at a time from the first to the last: f32 values, or the blocks of
 * a GGUF file. What is returned may be overwritten by the next call.
 */
export type RowSource =
  | { readonly kind: "f32"; readonly rows: (first: number, count: number) => Float32Array }
  | { readonly kind: "gguf"; readonly rows: (first: number, count: number) => Uint8Array };

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

/** Rotary embedding: which pairs, how fast. */
export interface Rope {
  readonly headDim: number;
  /** "half": pairs (i, i + headDim/2), as in Hugging Face Llama. "pairs": (2i, 2i + 1), as in llama2.c. */
  readonly layout: "half" | "pairs";
  /** Radians per position, [headDim / 2]; scaling rules are already applied. */
  readonly frequencies: Float64Array;
}

/** One draw from a row of logits on the device; see sampling/draw.ts for what it means. */
export interface DrawSpec {
  /** Row of the logits. */
  readonly row: number;
  /** Place in the sequence the token would take. */
  readonly position: number;
  readonly sampling: SamplingParams;
  readonly mask?: Uint32Array | undefined;
  readonly promptTokens: readonly number[];
  readonly completionTokens: readonly number[];
  /** How many most likely tokens to name; asked only of backends with a {@link Backend.view}. @default 0 */
  readonly topLogprobs?: number;
  /** Whether to tell the probability of what the mask allows, see sampling/mass.ts. @default false */
  readonly mass?: boolean;
}

/** A step of one token and one draw per row, in one order; the arrays it was recorded with. */
export interface AheadStep {
  readonly tokens: Uint32Array;
  readonly positions: Uint32Array;
  readonly rows: readonly AttentionRow[];
  /** What {@link Ops.draw} returned. */
  readonly result: Tensor;
}

/** What a draw came to. */
export interface Drawn {
  readonly token: number;
  readonly logprob: number;
  readonly entropy: number;
  /** The most likely tokens where they were asked for, best first. */
  readonly top?: readonly Candidate[];
  /** Where it was asked for and the backend tells it. */
  readonly mass?: number;
}

/** What a row of logits says; the numbers are those of sampling/rows.ts and sampling/top_k.ts. */
export interface LogitsSummary {
  readonly best: number;
  readonly logNormalizer: number;
  /** In nats. */
  readonly entropy: number;
  /** The most likely tokens with their raw log-probabilities, best first; ties by lower id. */
  readonly top: readonly Candidate[];
  /** The logit of {@link LogitsAsk.target}, where the backend was asked for one. */
  readonly target?: number;
}

/** What is asked about a row of logits. */
export interface LogitsAsk {
  readonly row: number;
  /** How many most likely tokens to name. */
  readonly top: number;
  /** A token whose logit is wanted. */
  readonly target?: number;
}

/** What {@link Ops.tell} returns, for {@link Backend.told}. */
export interface Told {
  readonly stats: Tensor;
  readonly top?: Tensor;
  readonly ids?: Tensor;
  readonly targets?: Tensor;
}

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

/** Which slots {@link Ops.kvCopy} copies. */
export interface CopyOptions extends Partial<SlotPlace> {
  /** Positions by which each copied key is turned further; may be negative. f32 slots only. */
  readonly turn?: { readonly shifts: Int32Array; readonly rope: Rope };
}

/** How many tokens are computed together. */
export interface StepSize {
  /** Most tokens of one step, over all rows. */
  readonly stepTokens: number;
  /** Most tokens of one row and step. */
  readonly chunkTokens: number;
}

/** A place where tensors live and ops run. */
export interface Backend extends Disposable {
  readonly name: string;
  readonly limits: {
    readonly maxBindingBytes: number;
    readonly f16: boolean;
    readonly subgroups: boolean;
  };
  /** What suits it. @default the engine's small steps */
  readonly steps?: StepSize | undefined;
  /** @default {@link leastKvSupport} */
  readonly kv?: KvSupport;
  /** What is behind it, for people: adapter, memory, modes. */
  readonly details?: Readonly<Record<string, string | number | boolean>>;
  /** Resolves with the reason when the device is lost, with everything on it. */
  readonly lost?: Promise<string>;
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
  /**
   * As {@link tensor} and {@link quantized} for a matrix that is never in memory as a whole. Missing
   * where those two do as well.
   */
  readonly streamed?: (
    label: string,
    shape: readonly [rows: number, cols: number],
    dtype: "f32" | "f16" | QuantizedDType,
    source: RowSource,
  ) => Tensor;
  kvPool(layout: KvLayout, pages: number): KvPool;
  /** Runs `build`; tensors it made are freed afterwards, except those it returns. */
  record<T>(build: (ops: Ops) => T): T;
  /** The tensor's values as f32. */
  read(tensor: Tensor): Promise<Float32Array>;
  /** Whether {@link Ops.draw} can try, with masks and tokens that fit `vocab` tokens. */
  readonly canDraw?: (draw: DrawSpec, vocab: number) => boolean;
  /**
   * Reads what {@link Ops.draw} returned; undefined for draws that the host has to make from the logits,
   * because they hold no distribution or rounding might decide.
   */
  readonly drawn?: (
    result: Tensor,
    draws: readonly DrawSpec[],
  ) => Promise<readonly (Drawn | undefined)[]>;
  /** Whether {@link Ops.tell} can answer an ask. */
  readonly canTell?: (ask: LogitsAsk, vocab: number) => boolean;
  /** Reads what {@link Ops.tell} returned; undefined for rows that the host has to look at. */
  readonly told?: (
    result: Told,
    asks: readonly LogitsAsk[],
  ) => Promise<readonly (LogitsSummary | undefined)[]>;
  /**
   * Runs the step that was recorded last again, each time with the tokens drawn the time before, at the
   * next positions and slots. The host hears of tokens later, and of steps it did not want drops them.
   * Memory of the recorded step is written anew: read nothing of it afterwards.
   *
   * @returns what the recorded step drew, then the others
   */
  readonly runAhead?:
    | ((
      step: AheadStep,
      draws: readonly DrawSpec[],
      times: number,
    ) => readonly Promise<readonly (Drawn | undefined)[]>[])
    | undefined;
  /** What a model has to fit into. Missing where it is not known before. */
  readonly capacity?: {
    /** For weights, KV, what is recorded about it, and the tensors of a step together. */
    readonly bytes: number;
    /** Taken so far. Missing where it is not counted. */
    readonly used?: number;
    tensorBytes(shape: readonly number[], dtype: DType): number;
    kvBytes(layout: KvLayout, pages: number): number;
  };
  /**
   * The values of an op's result without a copy, valid until the backend is used again. Missing where
   * device memory cannot be looked at.
   */
  readonly view?: (tensor: Tensor) => Float32Array;
  /**
   * Reads off the first `vocab` columns of rows of logits what they say, `top` most likely tokens
   * included; undefined for rows that hold no distribution. Missing where the host computes it from
   * {@link read} or {@link view}.
   */
  readonly summarise?: (
    logits: Tensor,
    vocab: number,
    asks: readonly { readonly row: number; readonly top: number }[],
  ) => readonly (LogitsSummary | undefined)[];
}

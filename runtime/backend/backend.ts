/**
 * Backend: a place where tensors live and {@link Ops} run. The interface is these files, whose types are
 * all to be had here; every backend implements it in a folder of its own.
 */
import type { KvLayout } from "../kv/policy.ts";
import type { AheadStep, Drawn, DrawSpec, LogitsAsk, LogitsSummary, Told } from "./draws.ts";
import type { KvPool, KvSupport } from "./kv_pool.ts";
import type { Ops } from "./ops.ts";
import type { DType, QuantizedDType, RowSource, Tensor } from "./tensor.ts";

export type * from "./draws.ts";
export * from "./kv_pool.ts";
export type * from "./ops.ts";
export type * from "./tensor.ts";

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

/** Tensors, and where weights come from. Matrices are row-major; a weight is [outputs, inputs]. */

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

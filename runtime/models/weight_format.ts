/** How a model's weights are held in memory, whatever its file holds. */
import type { Backend, QuantizedDType } from "../backend/backend.ts";
import type { WeightSource } from "../formats/weights.ts";
import { namesOf } from "./weight_names.ts";

/** See {@link WeightFormat}. */
export const weightFormats = ["auto", "file", "f32", "f16", "q8", "q4"] as const;

/**
 * How weight matrices are held.
 *
 * - "file": Q8_0 and Q4_0 matrices of a GGUF file keep their integers where the backend multiplies
 *   with them; everything else is f32
 * - "auto": as "file", but what would grow in memory is rounded to 8 bits instead: matrices of all other
 *   quantised types, and those of float files that take more than {@link FLOAT_BYTES} in f32
 * - "f32": dequantised
 * - "f16": rounded at load, on backends that have it; matrices whose rows are no multiple of 4 stay f32
 * - "q8", "q4": quantised at load in blocks of 32 columns. The embedding table and the output layer
 *   take 8 bits in both, because every token passes through them. Matrices whose rows are no
 *   multiple of 32 stay f32
 *
 * Activations meet quantised weights as 8-bit integers. Vectors are always f32.
 */
export type WeightFormat = typeof weightFormats[number];

/** Float files up to it are held in f32: exact, and fast enough at that size. */
export const FLOAT_BYTES = 256 << 20;

/** How one tensor is held. */
export interface WeightType {
  readonly type: "f32" | "f16" | QuantizedDType;
  /** Whether the file's blocks are kept as they are. */
  readonly keeps: boolean;
}

/** Says of each tensor of a file how it is held on `backend`. */
export function weightTypes(
  weights: WeightSource,
  backend: Backend,
  format: WeightFormat,
): (name: string) => WeightType {
  const nameOf = namesOf(weights);
  const ends = new Set([nameOf("embedding"), nameOf("output")]);
  const asFile = format === "file" || format === "auto";
  let large: boolean | undefined;
  const rounded = (name: string): QuantizedDType | undefined => {
    if (format === "q8" || format === "q4") return ends.has(name) ? "q8" : format;
    if (format !== "auto" || backend.quantized === undefined) return undefined;
    if (!isFloat(weights.dtype(name))) return "q8";
    large ??= floatBytes(weights) > FLOAT_BYTES;
    return large ? "q8" : undefined;
  };
  return (name) => {
    const shape = weights.shape(name);
    const stored = asFile && backend.quantized ? storedType(weights.dtype(name)) : undefined;
    if (stored !== undefined) return { type: stored, keeps: true };
    if (format === "f16") {
      return { type: shape.length === 2 && shape[1]! % 4 === 0 ? "f16" : "f32", keeps: false };
    }
    const fits = shape.length === 2 && shape[1]! % 32 === 0;
    return { type: fits ? rounded(name) ?? "f32" : "f32", keeps: false };
  };
}

/** The type that keeps a file's integers. */
function storedType(fileType: string): QuantizedDType | undefined {
  if (fileType === "Q8_0") return "q8";
  return fileType === "Q4_0" ? "q4" : undefined;
}

function isFloat(fileType: string): boolean {
  return fileType === "F32" || fileType === "F16" || fileType === "BF16";
}

/** Bytes of all matrices in f32. */
function floatBytes(weights: WeightSource): number {
  let bytes = 0;
  for (const name of weights.names()) {
    const shape = weights.shape(name);
    if (shape.length === 2) bytes += 4 * shape[0]! * shape[1]!;
  }
  return bytes;
}

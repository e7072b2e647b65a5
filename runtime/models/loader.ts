/** Moves a decoder's weights to a backend and checks every shape on the way. */
import type { Backend, QuantizedDType, Rope, RowSource, Tensor } from "../backend/backend.ts";
import { FormatError } from "../errors.ts";
import { createRowReaders } from "../formats/rows.ts";
import type { WeightSource } from "../formats/weights.ts";
import type { ModelConfig } from "./config.ts";
import { ropeFrequencies } from "./rope.ts";
import { isIgnorable, namesOf, ropeFactorsName, type WeightRole } from "./weight_names.ts";

/**
 * How weight matrices are held.
 *
 * - "file": Q8_0 and Q4_0 matrices of a GGUF file keep their integers where the backend multiplies
 *   with them; everything else is f32
 * - "f32": dequantised
 * - "q8", "q4": quantised at load in blocks of 32 columns. The embedding table and the output layer
 *   take 8 bits in both, because every token passes through them. Matrices whose rows are no
 *   multiple of 32 stay f32
 *
 * Activations meet quantised weights as 8-bit integers. Vectors are always f32.
 */
export type WeightFormat = "file" | "f32" | "q8" | "q4";

/** Hands a model file its weights. */
export interface Loader {
  readonly config: ModelConfig;
  readonly rope: Rope;
  /** @throws {FormatError} if the tensor is missing or its shape is not `shape` */
  tensor(role: WeightRole, shape: readonly number[], layer?: number): Tensor;
  /** Values loaded so far. */
  readonly parameters: number;
  /** @throws {FormatError} if the file holds weights that were not asked for */
  requireAllUsed(): void;
  dispose(): void;
}

/** @param weights stays open; the caller closes it once the decoder is built */
export function createLoader(
  config: ModelConfig,
  weights: WeightSource,
  backend: Backend,
  format: WeightFormat,
): Loader {
  const source = "model weights";
  const nameOf = namesOf(weights);
  const readerOf = createRowReaders(weights);
  const used = new Set<string>();
  const tensors: Tensor[] = [];
  let parameters = 0;
  const check = (name: string, shape: readonly number[]): void => {
    if (!weights.has(name)) {
      throw new FormatError(
        `tensor ${JSON.stringify(name)} of shape [${shape.join(", ")}] is missing`,
        { source },
      );
    }
    const found = weights.shape(name);
    if (found.length !== shape.length || found.some((size, i) => size !== shape[i])) {
      throw new FormatError(
        `tensor ${JSON.stringify(name)} has shape [${found.join(", ")}], ` +
          `should have [${shape.join(", ")}]`,
        { source },
      );
    }
    used.add(name);
  };
  const read = (name: string, shape: readonly number[]): Float32Array => {
    check(name, shape);
    return weights.f32(name);
  };
  const upload = (role: WeightRole, name: string, shape: readonly number[]): Tensor => {
    check(name, shape);
    const stored = backend.quantized && storedType(weights.dtype(name));
    const keeps = format === "file" && stored !== undefined;
    const type = keeps ? stored : typeOf(role, shape, format);
    const [rows, cols] = shape;
    if (backend.streamed !== undefined && rows !== undefined && cols !== undefined) {
      const reader = readerOf(name, [rows, cols]);
      const source: RowSource = keeps
        ? { kind: "gguf", rows: reader.stored }
        : { kind: "f32", rows: reader.f32 };
      return backend.streamed(name, [rows, cols], type, source);
    }
    if (keeps) return backend.quantized!(name, shape, stored, weights.raw(name));
    return backend.tensor(name, shape, type, weights.f32(name));
  };
  return {
    config,
    rope: loadRope(config, weights, read),
    tensor(role, shape, layer) {
      const name = nameOf(role, layer);
      const tensor = upload(role, name, shape);
      tensors.push(tensor);
      parameters += shape.reduce((a, b) => a * b, 1);
      return tensor;
    },
    get parameters() {
      return parameters;
    },
    requireAllUsed() {
      if (config.tieEmbeddings) used.add(nameOf("output"));
      for (const name of weights.names()) {
        if (used.has(name) || isIgnorable(name)) continue;
        throw new FormatError(
          `tensor ${JSON.stringify(name)} has no place in ${config.architecture}`,
          { source },
        );
      }
    },
    dispose() {
      for (const tensor of tensors.splice(0)) tensor[Symbol.dispose]();
    },
  };
}

/** The type that keeps a file's integers. */
function storedType(fileType: string): QuantizedDType | undefined {
  if (fileType === "Q8_0") return "q8";
  return fileType === "Q4_0" ? "q4" : undefined;
}

function typeOf(
  role: WeightRole,
  shape: readonly number[],
  format: WeightFormat,
): "f32" | QuantizedDType {
  const isQuantized = format === "q8" || format === "q4";
  if (!isQuantized || shape.length !== 2 || shape[1]! % 32 !== 0) return "f32";
  return role === "embedding" || role === "output" ? "q8" : format;
}

function loadRope(
  config: ModelConfig,
  weights: WeightSource,
  read: (name: string, shape: readonly number[]) => Float32Array,
): Rope {
  const frequencies = ropeFrequencies(config.headDim, config.rope);
  if (weights.has(ropeFactorsName)) {
    const factors = read(ropeFactorsName, [frequencies.length]);
    for (let i = 0; i < frequencies.length; i++) frequencies[i]! /= factors[i]!;
  }
  return { headDim: config.headDim, layout: config.rope.layout, frequencies };
}

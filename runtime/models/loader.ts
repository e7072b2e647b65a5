/** Moves a decoder's weights to a backend and checks every shape on the way. */
import type { Backend, Rope, RowSource, Tensor } from "../backend/backend.ts";
import { FormatError } from "../errors.ts";
import { createRowReaders } from "../formats/rows.ts";
import type { WeightSource } from "../formats/weights.ts";
import type { ModelConfig } from "./config.ts";
import { ropeFrequencies } from "./rope.ts";
import { type WeightFormat, weightTypes } from "./weight_format.ts";
import { isIgnorable, namesOf, ropeFactorsName, type WeightRole } from "./weight_names.ts";

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
  const typeOf = weightTypes(weights, backend, format);
  const upload = (name: string, shape: readonly number[]): Tensor => {
    check(name, shape);
    const { type, keeps } = typeOf(name);
    const [rows, cols] = shape;
    if (backend.streamed !== undefined && rows !== undefined && cols !== undefined) {
      const reader = readerOf(name, [rows, cols]);
      const source: RowSource = keeps
        ? { kind: "gguf", rows: reader.stored }
        : { kind: "f32", rows: reader.f32 };
      return backend.streamed(name, [rows, cols], type, source);
    }
    if (keeps && (type === "q8" || type === "q4")) {
      return backend.quantized!(name, shape, type, weights.raw(name));
    }
    return backend.tensor(name, shape, type, weights.f32(name));
  };
  return {
    config,
    rope: loadRope(config, weights, read),
    tensor(role, shape, layer) {
      const name = nameOf(role, layer);
      const tensor = upload(name, shape);
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

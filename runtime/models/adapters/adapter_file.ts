/**
 * Files of learned weights for KV policies: one safetensors file per adapter, its method and settings
 * in the header's `__metadata__`. Every method checks shapes against the model it is loaded for.
 */
import type { Backend, Tensor } from "../../backend/backend.ts";
import { FormatError } from "../../errors.ts";
import type { Safetensors } from "../../formats/safetensors.ts";
import type { ModelConfig } from "../config.ts";

/** What a method builds its adapter from. */
export interface AdapterLoader {
  readonly config: ModelConfig;
  readonly metadata: ReadonlyMap<string, string>;
  /** Whether the backend computes GELU. */
  readonly hasGelu: boolean;
  has(name: string): boolean;
  names(): Iterable<string>;
  /** @throws {FormatError} if it is missing */
  shape(name: string): readonly number[];
  /** @throws {FormatError} if it is missing or has another shape */
  values(name: string, shape: readonly number[]): Float32Array<ArrayBuffer>;
  /** The same on the backend, or `data` of that shape under that name. Freed by {@link dispose}. */
  tensor(name: string, shape: readonly number[], data?: Float32Array): Tensor;
  /** A whole number >= 1 of the metadata. @throws {FormatError} */
  integer(key: string): number;
  dispose(): void;
}

/** The adapter's weights stay in `file` until asked for. */
export function createAdapterLoader(
  file: Pick<Safetensors, "metadata" | "has" | "names" | "shape" | "f32">,
  config: ModelConfig,
  backend: Backend,
): AdapterLoader {
  const source = "KV adapter";
  const tensors: Tensor[] = [];
  const shapeOf = (name: string) => {
    if (file.has(name)) return file.shape(name);
    throw new FormatError(`tensor ${JSON.stringify(name)} is missing`, { source });
  };
  const values: AdapterLoader["values"] = (name, shape) => {
    const found = shapeOf(name);
    if (found.join() !== shape.join()) {
      throw new FormatError(
        `tensor ${JSON.stringify(name)} has shape [${found.join(", ")}], ` +
          `this model needs [${shape.join(", ")}]`,
        { source },
      );
    }
    return file.f32(name);
  };
  return {
    config,
    metadata: file.metadata,
    hasGelu: backend.record((ops) => ops.gelu !== undefined),
    has: (name) => file.has(name),
    names: () => file.names(),
    shape: shapeOf,
    values,
    tensor(name, shape, data = values(name, shape)) {
      const tensor = backend.tensor(name, shape, "f32", data);
      tensors.push(tensor);
      return tensor;
    },
    integer(key) {
      const value = Number(file.metadata.get(key));
      if (Number.isSafeInteger(value) && value >= 1) return value;
      throw new FormatError(`metadata ${key} is not a whole number >= 1`, { source });
    },
    dispose() {
      for (const tensor of tensors.splice(0)) tensor[Symbol.dispose]();
    },
  };
}

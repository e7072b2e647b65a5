/** Random weights that are made on the way to the GPU, so that 8 B parameters load in seconds. */
import type { Tensor } from "../../runtime/backend/backend.ts";
import type { GpuBackend } from "../../runtime/backend/webgpu/mod.ts";
import { GpuTensor } from "../../runtime/backend/webgpu/tensor.ts";
import type { WeightSource } from "../../runtime/formats/weights.ts";
import type { ModelConfig } from "../../runtime/models/mod.ts";
import { createRng, seedFrom } from "../../runtime/rng.ts";
import { llamaShapes } from "../../tests/fakes/hashed_weights.ts";

/** Matrix types the benchmark knows. */
export type MatrixType = "f16" | "q8" | "q4";

const PIECE_WORDS = 1 << 20;
const words = randomWords();
/** Random bits that are small numbers in each type. */
const patterns: Readonly<Record<MatrixType, Uint32Array<ArrayBuffer>>> = {
  f16: words.map((word) => word & 0xa7ff_a7ff), // at most 2^-6
  q8: words,
  q4: words,
};
const scales = new Float32Array(PIECE_WORDS).fill(2 ** -10);

function randomWords(): Uint32Array<ArrayBuffer> {
  const rng = createRng(seedFrom(1));
  return Uint32Array.from({ length: PIECE_WORDS }, () => rng.next() * 2 ** 32);
}

/** A matrix of random values. */
export function randomMatrix(
  backend: GpuBackend,
  label: string,
  shape: readonly [rows: number, cols: number],
  dtype: MatrixType,
): GpuTensor {
  const tensor = backend.tensor(label, shape, dtype);
  if (!(tensor instanceof GpuTensor) || tensor.storage.kind !== "shards") {
    throw new TypeError(label);
  }
  const { queue } = backend.gpu.device;
  for (const { range, scales: at } of tensor.storage.shards) {
    const fill = (
      data: Uint32Array<ArrayBuffer> | Float32Array<ArrayBuffer>,
      from: number,
      to: number,
    ) => {
      for (let offset = from; offset < to; offset += data.byteLength) {
        const count = Math.min(data.length, Math.floor((to - offset) / 4));
        queue.writeBuffer(range.buffer.raw, range.offset + offset, data, 0, count);
        queue.submit([]);
      }
    };
    fill(patterns[dtype], 0, at === 0 ? range.size : at);
    if (at > 0) fill(scales, at, range.size);
  }
  return tensor;
}

/** Lets a loader fill the backend with random matrices, whatever the source holds. */
export function streamRandom(backend: GpuBackend, type: MatrixType): GpuBackend {
  const streamed = (
    label: string,
    shape: readonly [rows: number, cols: number],
    dtype: string,
  ): Tensor => randomMatrix(backend, label, shape, dtype === "q8" || dtype === "q4" ? dtype : type);
  return Object.assign(backend, { streamed });
}

/** Names and shapes of a model; vectors are ones, biases zeros, matrices are not there. */
export function hollowSource(config: ModelConfig): WeightSource {
  const shapes = { ...llamaShapes(config) };
  if (config.bias.qkv) {
    const sizes = { q: config.heads, k: config.kvHeads, v: config.kvHeads };
    for (let layer = 0; layer < config.layers; layer++) {
      for (const [part, heads] of Object.entries(sizes)) {
        shapes[`model.layers.${layer}.self_attn.${part}_proj.bias`] = [heads * config.headDim];
      }
    }
  }
  const size = (name: string) => shapes[name]!.reduce((a, b) => a * b, 1);
  return {
    names: () => Object.keys(shapes),
    has: (name) => Object.hasOwn(shapes, name),
    shape: (name) => shapes[name]!,
    dtype: () => "F32",
    f32: (name) => new Float32Array(size(name)).fill(name.endsWith("norm.weight") ? 1 : 0),
    raw: () => new Uint8Array(0),
    [Symbol.dispose]() {},
  };
}

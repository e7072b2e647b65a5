/** Shapes of well-known small models, and weight files of random blocks for them. */
import type { WeightSource } from "../../runtime/formats/weights.ts";
import type { ModelConfig } from "../../runtime/models/mod.ts";
import { llamaShapes } from "../../tests/fakes/hashed_weights.ts";

const common = {
  architecture: "LlamaForCausalLM",
  normEps: 1e-5,
  contextLength: 2048,
  slidingWindow: undefined,
  tieEmbeddings: true,
  bias: { qkv: false, output: false, ffn: false },
  rope: { layout: "half", theta: 10_000, scaling: { kind: "none" } },
} as const;

/** Name -> shape, smallest first. */
export const shapes: Readonly<Record<string, ModelConfig>> = {
  "SmolLM2-135M": {
    ...common,
    vocab: 49_152,
    hidden: 576,
    ffn: 1536,
    layers: 30,
    heads: 9,
    kvHeads: 3,
    headDim: 64,
  },
  "Qwen2.5-0.5B": {
    ...common,
    architecture: "Qwen2ForCausalLM",
    bias: { qkv: true, output: false, ffn: false },
    vocab: 151_936,
    hidden: 896,
    ffn: 4864,
    layers: 24,
    heads: 14,
    kvHeads: 2,
    headDim: 64,
  },
  "Llama-3.2-1B": {
    ...common,
    vocab: 128_256,
    hidden: 2048,
    ffn: 8192,
    layers: 16,
    heads: 32,
    kvHeads: 8,
    headDim: 64,
  },
};

/** A model with the vocabulary of another and hardly any weights, to measure what else a process holds. */
export function hollow({ vocab, contextLength }: ModelConfig): ModelConfig {
  const sizes = { vocab, contextLength, hidden: 64, ffn: 64, layers: 1 };
  return { ...common, ...sizes, heads: 1, kvHeads: 1, headDim: 64 };
}

/** Bytes of a block of 32 weights. */
const blockBytes = { Q4_0: 18, Q8_0: 34 } as const;

/** Storage type of matrices. */
export type BlockType = keyof typeof blockBytes;

/**
 * A weight file whose matrices are random blocks of one type, the embedding table Q8_0 (llama.cpp's
 * quantiser keeps output layers above 4 bits too), whose norms are ones and whose biases are zeros.
 * Tensor names are those of Hugging Face.
 */
export function randomBlocks(config: ModelConfig, type: BlockType): WeightSource {
  const all = shapesOf(config);
  const shape = (name: string) => all[name]!;
  const dtype = (name: string) => {
    if (shape(name).length === 1) return "F32";
    return name.includes("embed_tokens") ? "Q8_0" : type;
  };
  const size = (name: string) => shape(name).reduce((a, b) => a * b, 1);
  const f32 = (name: string) =>
    new Float32Array(size(name)).fill(name.endsWith("norm.weight") ? 1 : 0);
  return {
    names: () => Object.keys(all),
    has: (name) => Object.hasOwn(all, name),
    shape,
    dtype,
    f32,
    raw(name) {
      if (dtype(name) === "F32") return new Uint8Array(f32(name).buffer);
      const bytes = blockBytes[dtype(name) as BlockType];
      return blocks(size(name) / 32, bytes, shape(name)[1]!);
    },
    [Symbol.dispose]() {},
  };
}

function shapesOf(config: ModelConfig): Readonly<Record<string, readonly number[]>> {
  const { layers, heads, kvHeads, headDim, bias } = config;
  const all: Record<string, readonly number[]> = llamaShapes(config);
  for (let layer = 0; bias.qkv && layer < layers; layer++) {
    const prefix = `model.layers.${layer}.self_attn.`;
    all[`${prefix}q_proj.bias`] = [heads * headDim];
    for (const part of ["k", "v"]) all[`${prefix}${part}_proj.bias`] = [kvHeads * headDim];
  }
  return all;
}

/** Blocks whose weights keep the size of what passes through a matrix with `inputs` columns. */
function blocks(count: number, bytes: number, inputs: number): Uint8Array<ArrayBuffer> {
  const words = new Uint32Array(Math.ceil(count * bytes / 4));
  fillRandom(words, count ^ inputs);
  const out = new Uint8Array(words.buffer, 0, count * bytes);
  // Integers are uniform, with a root mean square of 2^-1.8 of their range.
  const range = bytes === blockBytes.Q4_0 ? 4 : 8;
  const exponent = Math.round(1.8 - range - Math.log2(inputs) / 2);
  for (let at = 0; at < out.length; at += bytes) {
    out[at] = 0;
    // Half precision 2^exponent with a random sign: 4-bit integers reach further below zero than above.
    out[at + 1] = (out[at + 1]! & 0x80) | ((exponent + 15) << 2);
  }
  return out;
}

/** Marsaglia's xorshift32: fast, and random enough for weights without a meaning. */
function fillRandom(words: Uint32Array, seed: number): void {
  let x = (seed ^ 0x9e3779b9) | 1;
  for (let i = 0; i < words.length; i++) {
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    words[i] = x;
  }
}

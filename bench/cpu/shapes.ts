/** Shapes of well-known small models, and weight files of random blocks for them. */
import type { WeightSource } from "../../runtime/formats/weights.ts";
import type { ModelConfig } from "../../runtime/models/mod.ts";
import { createRng, seedFrom } from "../../runtime/rng.ts";
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

/** Name -> shape. */
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
    vocab: 151_936,
    hidden: 896,
    ffn: 4864,
    layers: 24,
    heads: 14,
    kvHeads: 2,
    headDim: 64,
  },
};

/** Bytes of a block of 32 weights. */
const blockBytes = { Q4_0: 18, Q8_0: 34 } as const;

/** Storage type of matrices. */
export type BlockType = keyof typeof blockBytes;

/**
 * A weight file whose matrices are random blocks of one type, the embedding table Q8_0 (as
 * llama.cpp's quantiser keeps output layers above 4 bits), and whose norms are ones.
 */
export function randomBlocks(config: ModelConfig, type: BlockType): WeightSource {
  const all = llamaShapes(config);
  const shape = (name: string) => all[name]!;
  const dtype = (name: string) => {
    if (shape(name).length === 1) return "F32";
    return name.includes("embed_tokens") ? "Q8_0" : type;
  };
  const size = (name: string) => shape(name).reduce((a, b) => a * b, 1);
  return {
    names: () => Object.keys(all),
    has: (name) => Object.hasOwn(all, name),
    shape,
    dtype,
    f32: (name) => new Float32Array(size(name)).fill(1),
    raw(name) {
      const bytes = blockBytes[dtype(name) as BlockType];
      return blocks(size(name) / 32, bytes, shape(name)[1]!);
    },
    [Symbol.dispose]() {},
  };
}

/** Blocks whose weights keep the size of what passes through a matrix with `inputs` columns. */
function blocks(count: number, bytes: number, inputs: number): Uint8Array<ArrayBuffer> {
  const rng = createRng(seedFrom(inputs));
  const pattern = Uint8Array.from({ length: 4096 }, () => 256 * rng.next());
  const out = new Uint8Array(count * bytes);
  for (let at = 0; at < out.length; at += pattern.length) {
    out.set(pattern.subarray(0, Math.min(pattern.length, out.length - at)), at);
  }
  // Integers are uniform, with a root mean square of 2^-1.8 of their range.
  const range = bytes === blockBytes.Q4_0 ? 4 : 8;
  const exponent = Math.round(1.8 - range - Math.log2(inputs) / 2);
  for (let at = 0; at < out.length; at += bytes) {
    out[at] = 0;
    out[at + 1] = (exponent + 15) << 2; // half precision 2^exponent
  }
  return out;
}

/** Made-up weights whose values follow from names and indices, as in tests/golden/make_logits.py. */
import type { WeightSource } from "../../runtime/formats/weights.ts";
import type { ModelConfig } from "../../runtime/models/mod.ts";

type Shape = readonly number[];

/** FNV-1a of the name and lowbias32 of the index, mapped to the range that fits the tensor's part. */
export function hashedValues(name: string, shape: Shape): Float32Array<ArrayBuffer> {
  let seed = 0x811c9dc5;
  for (const byte of new TextEncoder().encode(name)) seed = Math.imul(seed ^ byte, 0x01000193);
  const cols = shape[shape.length - 1]!;
  const gain = Math.sqrt(3 / cols);
  const values = new Float32Array(shape.reduce((a, b) => a * b, 1));
  for (let i = 0; i < values.length; i++) {
    let h = (Math.imul(i, 0x9e3779b1) + seed) >>> 0;
    h = Math.imul(h ^ (h >>> 16), 0x7feb352d);
    h = Math.imul(h ^ (h >>> 15), 0x846ca68b);
    h = (h ^ (h >>> 16)) >>> 0;
    const u = h / 2 ** 31 - 1;
    if (name.endsWith("norm.weight")) values[i] = 1 + u / 4;
    else if (name.endsWith(".bias")) values[i] = u / 2;
    else if (name.includes("embed_tokens")) values[i] = u;
    else values[i] = u * gain;
  }
  return values;
}

/** A weight file with these tensors. */
export function tensorSource(
  tensors: ReadonlyMap<string, { readonly shape: Shape; readonly data: Float32Array }>,
): WeightSource {
  const get = (name: string) => {
    const tensor = tensors.get(name);
    if (tensor === undefined) throw new Error(`There is no tensor ${name}`);
    return tensor;
  };
  return {
    names: () => tensors.keys(),
    has: (name) => tensors.has(name),
    shape: (name) => get(name).shape,
    dtype: () => "F32",
    f32: (name) => Float32Array.from(get(name).data),
    raw: (name) => new Uint8Array(Float32Array.from(get(name).data).buffer),
    [Symbol.dispose]() {},
  };
}

/** A weight file with hashed values of these shapes. */
export function hashedWeights(shapes: Readonly<Record<string, Shape>>): WeightSource {
  return tensorSource(
    new Map(
      Object.entries(shapes).map(([name, shape]) => [
        name,
        { shape, data: hashedValues(name, shape) },
      ]),
    ),
  );
}

/** Shapes of a checkpoint without biases, in Hugging Face names. */
export function llamaShapes(config: ModelConfig): Record<string, Shape> {
  const { vocab, hidden, ffn, heads, kvHeads, headDim } = config;
  const shapes: Record<string, Shape> = {
    "model.embed_tokens.weight": [vocab, hidden],
    "model.norm.weight": [hidden],
  };
  if (!config.tieEmbeddings) shapes["lm_head.weight"] = [vocab, hidden];
  for (let layer = 0; layer < config.layers; layer++) {
    const prefix = `model.layers.${layer}.`;
    shapes[`${prefix}input_layernorm.weight`] = [hidden];
    shapes[`${prefix}self_attn.q_proj.weight`] = [heads * headDim, hidden];
    shapes[`${prefix}self_attn.k_proj.weight`] = [kvHeads * headDim, hidden];
    shapes[`${prefix}self_attn.v_proj.weight`] = [kvHeads * headDim, hidden];
    shapes[`${prefix}self_attn.o_proj.weight`] = [hidden, heads * headDim];
    shapes[`${prefix}post_attention_layernorm.weight`] = [hidden];
    shapes[`${prefix}mlp.gate_proj.weight`] = [ffn, hidden];
    shapes[`${prefix}mlp.up_proj.weight`] = [ffn, hidden];
    shapes[`${prefix}mlp.down_proj.weight`] = [hidden, ffn];
  }
  return shapes;
}

/** A small Llama for tests that need a model and not a particular one. */
export const tinyConfig: ModelConfig = {
  architecture: "LlamaForCausalLM",
  vocab: 50,
  hidden: 24,
  ffn: 40,
  layers: 2,
  heads: 4,
  kvHeads: 2,
  headDim: 6,
  normEps: 1e-5,
  contextLength: 128,
  slidingWindow: undefined,
  tieEmbeddings: false,
  bias: { qkv: false, output: false, ffn: false },
  rope: { layout: "half", theta: 10_000, scaling: { kind: "none" } },
};

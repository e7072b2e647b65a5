/**
 * Turns a Hugging Face checkpoint into a GGUF file as llama.cpp's convert_hf_to_gguf.py does: other
 * names, Llama's q and k permuted, Llama 3 rope scaling as a tensor of divisors.
 */
import { readGguf } from "../../../runtime/formats/gguf.ts";
import { bytesSource } from "../../../runtime/formats/reader.ts";
import type { WeightSource } from "../../../runtime/formats/weights.ts";
import type { ModelConfig } from "../../../runtime/models/mod.ts";
import { ggufBytes, type GgufPair, type GgufTensor } from "../formats/_writers.ts";

const renames: readonly (readonly [from: string, to: string])[] = [
  ["model.embed_tokens", "token_embd"],
  ["model.norm", "output_norm"],
  ["lm_head", "output"],
  ["model.layers.", "blk."],
  ["self_attn.q_proj", "attn_q"],
  ["self_attn.k_proj", "attn_k"],
  ["self_attn.v_proj", "attn_v"],
  ["self_attn.o_proj", "attn_output"],
  ["self_attn.q_norm", "attn_q_norm"],
  ["self_attn.k_norm", "attn_k_norm"],
  ["input_layernorm", "attn_norm"],
  ["post_attention_layernorm", "ffn_norm"],
  ["mlp.gate_proj", "ffn_gate"],
  ["mlp.up_proj", "ffn_up"],
  ["mlp.down_proj", "ffn_down"],
];

const architectures: Readonly<Record<string, string>> = {
  LlamaForCausalLM: "llama",
  MistralForCausalLM: "llama",
  Qwen2ForCausalLM: "qwen2",
  Qwen3ForCausalLM: "qwen3",
};

/** The file's pairs; `change` replaces or, with undefined, removes single ones. */
export function ggufPairs(
  config: ModelConfig,
  change: Readonly<Record<string, GgufPair | undefined>> = {},
): GgufPair[] {
  const name = architectures[config.architecture]!;
  const u32 = (key: string, value: number): GgufPair => ({
    key: `${name}.${key}`,
    type: "u32",
    value,
  });
  const f32 = (key: string, value: number): GgufPair => ({
    key: `${name}.${key}`,
    type: "f32",
    value,
  });
  const pairs: GgufPair[] = [
    { key: "general.architecture", type: "string", value: name },
    u32("block_count", config.layers),
    u32("context_length", config.contextLength),
    u32("embedding_length", config.hidden),
    u32("feed_forward_length", config.ffn),
    u32("attention.head_count", config.heads),
    u32("attention.head_count_kv", config.kvHeads),
    u32("attention.key_length", config.headDim),
    u32("attention.value_length", config.headDim),
    u32("rope.dimension_count", config.headDim),
    u32("vocab_size", config.vocab),
    f32("attention.layer_norm_rms_epsilon", config.normEps),
    f32("rope.freq_base", config.rope.theta),
  ];
  const { scaling } = config.rope;
  if (scaling.kind === "linear") {
    pairs.push({ key: `${name}.rope.scaling.type`, type: "string", value: "linear" });
    pairs.push(f32("rope.scaling.factor", scaling.factor));
  }
  const kept = pairs.filter(({ key }) => !(key in change));
  return [...kept, ...Object.values(change).filter((pair) => pair !== undefined)];
}

/** The checkpoint as a GGUF file, opened. */
export function ggufOf(config: ModelConfig, weights: WeightSource) {
  return readGguf(bytesSource(ggufFileOf(config, weights), "model.gguf"));
}

/** The checkpoint as the bytes of a GGUF file, with `extra` metadata. */
export function ggufFileOf(
  config: ModelConfig,
  weights: WeightSource,
  extra: readonly GgufPair[] = [],
): Uint8Array<ArrayBuffer> {
  const isLlama = architectures[config.architecture] === "llama";
  const tensors = [...weights.names()].map((name): GgufTensor => {
    const heads = /q_proj/.test(name) ? config.heads : /k_proj/.test(name) ? config.kvHeads : 0;
    const data = weights.f32(name);
    return tensor(
      renames.reduce((text, [from, to]) => text.replace(from, to), name),
      weights.shape(name),
      isLlama && heads > 0 ? permute(data, heads, config.headDim) : data,
    );
  });
  if (config.rope.scaling.kind === "llama3") {
    const divisors = llama3Divisors(config.headDim, config.rope.theta, config.rope.scaling);
    tensors.push(tensor("rope_freqs.weight", [divisors.length], divisors));
  }
  return ggufBytes({ pairs: [...ggufPairs(config), ...extra], tensors });
}

function tensor(name: string, shape: readonly number[], data: Float32Array): GgufTensor {
  return { name, sizes: [...shape].reverse(), type: 0, data: new Uint8Array(data.buffer) };
}

/** Rows (head, half, i) become (head, i, half). Works for biases as well. */
function permute(data: Float32Array, heads: number, headDim: number): Float32Array {
  const cols = data.length / (heads * headDim), half = headDim / 2;
  const out = new Float32Array(data.length);
  for (let head = 0; head < heads; head++) {
    for (let i = 0; i < half; i++) {
      for (const j of [0, 1]) {
        const from = (head * headDim + j * half + i) * cols;
        out.set(data.subarray(from, from + cols), (head * headDim + 2 * i + j) * cols);
      }
    }
  }
  return out;
}

/** convert_hf_to_gguf.py, LlamaModel.generate_extra_tensors. */
function llama3Divisors(
  headDim: number,
  theta: number,
  scaling: Extract<ModelConfig["rope"]["scaling"], { kind: "llama3" }>,
): Float32Array {
  const { factor, lowFreqFactor, highFreqFactor, originalContext } = scaling;
  return Float32Array.from({ length: headDim / 2 }, (_, i) => {
    const wavelength = 2 * Math.PI * theta ** (2 * i / headDim);
    if (wavelength < originalContext / highFreqFactor) return 1;
    if (wavelength > originalContext / lowFreqFactor) return factor;
    const smooth = (originalContext / wavelength - lowFreqFactor) /
      (highFreqFactor - lowFreqFactor);
    return 1 / ((1 - smooth) / factor + smooth);
  });
}

/** What each weight is called in Hugging Face checkpoints and in GGUF files. */
import type { WeightSource } from "../formats/weights.ts";

/** A weight's part in a decoder. */
export type WeightRole = keyof typeof names;

/** `{}` stands for the layer. */
const names = {
  embedding: ["model.embed_tokens.weight", "token_embd.weight"],
  finalNorm: ["model.norm.weight", "output_norm.weight"],
  output: ["lm_head.weight", "output.weight"],
  attentionNorm: ["model.layers.{}.input_layernorm.weight", "blk.{}.attn_norm.weight"],
  q: ["model.layers.{}.self_attn.q_proj.weight", "blk.{}.attn_q.weight"],
  k: ["model.layers.{}.self_attn.k_proj.weight", "blk.{}.attn_k.weight"],
  v: ["model.layers.{}.self_attn.v_proj.weight", "blk.{}.attn_v.weight"],
  o: ["model.layers.{}.self_attn.o_proj.weight", "blk.{}.attn_output.weight"],
  qBias: ["model.layers.{}.self_attn.q_proj.bias", "blk.{}.attn_q.bias"],
  kBias: ["model.layers.{}.self_attn.k_proj.bias", "blk.{}.attn_k.bias"],
  vBias: ["model.layers.{}.self_attn.v_proj.bias", "blk.{}.attn_v.bias"],
  oBias: ["model.layers.{}.self_attn.o_proj.bias", "blk.{}.attn_output.bias"],
  qNorm: ["model.layers.{}.self_attn.q_norm.weight", "blk.{}.attn_q_norm.weight"],
  kNorm: ["model.layers.{}.self_attn.k_norm.weight", "blk.{}.attn_k_norm.weight"],
  ffnNorm: ["model.layers.{}.post_attention_layernorm.weight", "blk.{}.ffn_norm.weight"],
  gate: ["model.layers.{}.mlp.gate_proj.weight", "blk.{}.ffn_gate.weight"],
  up: ["model.layers.{}.mlp.up_proj.weight", "blk.{}.ffn_up.weight"],
  down: ["model.layers.{}.mlp.down_proj.weight", "blk.{}.ffn_down.weight"],
  gateBias: ["model.layers.{}.mlp.gate_proj.bias", "blk.{}.ffn_gate.bias"],
  upBias: ["model.layers.{}.mlp.up_proj.bias", "blk.{}.ffn_up.bias"],
  downBias: ["model.layers.{}.mlp.down_proj.bias", "blk.{}.ffn_down.bias"],
} as const satisfies Record<string, readonly [huggingFace: string, gguf: string]>;

/** Divisors of the rotary frequencies, in GGUF files of models with Llama 3 scaling. */
export const ropeFactorsName = "rope_freqs.weight";

/** Tensors that some checkpoints carry although they can be computed. */
const computable = /\.rotary_emb\.inv_freq$/;

/** Whether a file may hold the tensor without a decoder using it. */
export function isIgnorable(name: string): boolean {
  return computable.test(name);
}

/** Gives a weight's name in the convention this file follows. */
export function namesOf(
  weights: Pick<WeightSource, "has">,
): (role: WeightRole, layer?: number) => string {
  const column = weights.has(names.embedding[1]) ? 1 : 0;
  return (role, layer) => {
    const template: string = names[role][column];
    return layer === undefined ? template : template.replace("{}", String(layer));
  };
}

/**
 * Qwen2 and Qwen2.5: the shape of Llama, with biases on q, k and v.
 *
 * Source: Yang et al. 2024, https://arxiv.org/abs/2407.10671; transformers' Qwen2ForCausalLM.
 */
import type { Decoder } from "./decoder.ts";
import { llama } from "./llama.ts";
import type { Loader } from "./loader.ts";

/**
 * The config of these models has `bias.qkv`; nothing else differs.
 *
 * @throws {FormatError} if a weight is missing or has another shape than the config says
 */
export function qwen2(load: Loader): Decoder {
  return llama(load);
}

/**
 * Mistral: the shape of Llama; early versions attend to a sliding window only.
 *
 * Source: Jiang et al. 2023, https://arxiv.org/abs/2310.06825.
 * Differs: the window is not implemented; contexts longer than it are refused (`requireContext`),
 * and within it the two are the same.
 */
import type { Decoder } from "./decoder.ts";
import { llama } from "./llama.ts";
import type { Loader } from "./loader.ts";

/** @throws {FormatError} if a weight is missing or has another shape than the config says */
export function mistral(load: Loader): Decoder {
  return llama(load);
}

/** Model architectures by name. A new one is a file and a line in {@link architectures}. */
import type { Backend } from "../backend/backend.ts";
import { NotFoundError } from "../errors.ts";
import type { WeightSource } from "../formats/weights.ts";
import type { ModelConfig } from "./config.ts";
import type { Decoder } from "./decoder.ts";
import { createLoader, type Loader } from "./loader.ts";
import { llama } from "./llama.ts";
import { mistral } from "./mistral.ts";
import { qwen2 } from "./qwen2.ts";
import { qwen3 } from "./qwen3.ts";
import type { WeightFormat } from "./weight_format.ts";

export {
  type ModelConfig,
  requireContext,
  type RopeConfig,
  type RopeScaling,
  usableContext,
} from "./config.ts";
export { configFromGguf } from "./config_gguf.ts";
export { configFromJson } from "./config_json.ts";
export type { Decoder, DecoderOutput, DecoderStep } from "./decoder.ts";
export { type WeightFormat, weightFormats, weightTypes } from "./weight_format.ts";
export type { AdapterInput, KvAdapter } from "./adapter.ts";

/** Builds a forward pass from weights. */
export type DecoderBuilder = (load: Loader) => Decoder;

/** Architecture as `config.json` names it -> builder. */
export const architectures: Readonly<Record<string, DecoderBuilder>> = {
  LlamaForCausalLM: llama,
  MistralForCausalLM: mistral,
  Qwen2ForCausalLM: qwen2,
  Qwen3ForCausalLM: qwen3,
};

/** How a model is held. */
export interface DecoderOptions {
  /** @default "file" */
  readonly weights?: WeightFormat;
}

/**
 * Moves `weights` to `backend` and builds the forward pass. `weights` is not closed.
 *
 * @throws {NotFoundError} if the architecture is unknown
 * @throws {TypeError} if the backend has no weights in the wanted format
 * @throws {FormatError} naming the tensor, if one is missing, surplus or of the wrong shape
 */
export function loadDecoder(
  config: ModelConfig,
  weights: WeightSource,
  backend: Backend,
  { weights: format = "file" }: DecoderOptions = {},
): Decoder {
  const build = Object.hasOwn(architectures, config.architecture)
    ? architectures[config.architecture]
    : undefined;
  if (build === undefined) {
    throw new NotFoundError("model", config.architecture, Object.keys(architectures));
  }
  const load = createLoader(config, weights, backend, format);
  try {
    const decoder = build(load);
    load.requireAllUsed();
    return decoder;
  } catch (error) {
    load.dispose();
    throw error;
  }
}

/**
 * Llama 1 to 3 and what shares its shape (SmolLM2, TinyLlama): pre-norm layers of grouped-query
 * attention with rotary embedding, and a gated feed-forward part.
 *
 * Source: Touvron et al. 2023, https://arxiv.org/abs/2302.13971 and https://arxiv.org/abs/2307.09288;
 * transformers' LlamaForCausalLM for names and optional biases.
 */
import {
  attend,
  createOutput,
  feedForward,
  loadAttention,
  loadEnds,
  loadFfn,
  project,
  runLayer,
} from "./_decoder.ts";
import type { Decoder } from "./decoder.ts";
import type { Loader } from "./loader.ts";

/** @throws {FormatError} if a weight is missing or has another shape than the config says */
export function llama(load: Loader): Decoder {
  const { config, rope } = load;
  const eps = config.normEps;
  const ends = loadEnds(load);
  const layers = Array.from({ length: config.layers }, (_, layer) => ({
    attentionNorm: load.tensor("attentionNorm", [config.hidden], layer),
    ...loadAttention(load, layer),
    ffnNorm: load.tensor("ffnNorm", [config.hidden], layer),
    ffn: loadFfn(load, layer),
  }));
  return {
    config,
    parameters: load.parameters,
    rope,
    forward(ops, step) {
      const output = createOutput(ops, step);
      let x = ops.embed(ends.embedding, step.tokens);
      for (const [index, layer] of layers.entries()) {
        output.before(index, x);
        x = runLayer(ops, step, x, (x) => {
          const h = ops.rmsNorm(x, layer.attentionNorm, eps);
          const q = ops.rope(project(ops, h, layer.q), step.positions, rope);
          const k = ops.rope(project(ops, h, layer.k), step.positions, rope);
          const v = project(ops, h, layer.v);
          const mixed = attend(ops, step, config, index, { hidden: h, q, k, v });
          const y = ops.add(x, project(ops, mixed, layer.o));
          return ops.add(y, feedForward(ops, ops.rmsNorm(y, layer.ffnNorm, eps), layer.ffn));
        });
      }
      return output.finish(x, ends, config);
    },
    [Symbol.dispose]: () => load.dispose(),
  };
}

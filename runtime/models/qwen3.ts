/**
 * Qwen3: the shape of Llama, with an RMS norm over each head of q and k before they are rotated.
 *
 * Source: Yang et al. 2025, https://arxiv.org/abs/2505.09388; transformers' Qwen3ForCausalLM.
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
export function qwen3(load: Loader): Decoder {
  const { config, rope } = load;
  const eps = config.normEps;
  const ends = loadEnds(load);
  const layers = Array.from({ length: config.layers }, (_, layer) => ({
    attentionNorm: load.tensor("attentionNorm", [config.hidden], layer),
    ...loadAttention(load, layer),
    qNorm: load.tensor("qNorm", [config.headDim], layer),
    kNorm: load.tensor("kNorm", [config.headDim], layer),
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
          const qHeads = ops.rmsNorm(project(ops, h, layer.q), layer.qNorm, eps);
          const kHeads = ops.rmsNorm(project(ops, h, layer.k), layer.kNorm, eps);
          const q = ops.rope(qHeads, step.positions, rope);
          const k = ops.rope(kHeads, step.positions, rope);
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

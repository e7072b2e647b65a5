/** Made-up learned weights for KV policies: one adapter of every method, for any model. */
import type { Backend } from "../../runtime/backend/backend.ts";
import { bytesSource } from "../../runtime/formats/reader.ts";
import { readSafetensors } from "../../runtime/formats/safetensors.ts";
import { loadAdapter, type LoadedAdapter } from "../../runtime/models/adapters/mod.ts";
import type { ModelConfig } from "../../runtime/models/mod.ts";
import { f32Bytes, safetensorsBytes } from "../runtime/formats/_writers.ts";
import { hashedValues } from "./hashed_weights.ts";

type Shapes = Record<string, readonly number[]>;

const dim = 3, width = 8;

const methods: Readonly<
  Record<string, {
    readonly metadata?: Readonly<Record<string, string>>;
    readonly shapes: (config: ModelConfig) => Shapes;
  }>
> = {
  "nats": {
    metadata: { method: "nats", window: "5" },
    shapes: ({ layers, kvHeads, hidden }) =>
      perLayer(layers, (i) => ({
        [`nats.layers.${i}.router.weight`]: [3 * kvHeads, hidden],
      })),
  },
  "attention-predictor": {
    metadata: { method: "attention-predictor", history: "4", block: "2" },
    shapes: () => ({
      "conv1.weight": [16, 1, 3, 3],
      "conv1.bias": [16],
      "conv2.weight": [32, 16, 3, 3],
      "conv2.bias": [32],
      "conv3.weight": [1, 32, 1],
      "conv3.bias": [1],
    }),
  },
  "score-heads": {
    shapes: ({ layers, kvHeads, hidden }) =>
      perLayer(layers, (i) => ({
        [`layers.${i}.weight`]: [kvHeads, hidden],
        [`layers.${i}.bias`]: [kvHeads],
      })),
  },
  "tokenbutler": {
    metadata: { method: "tokenbutler", dim: `${dim}`, width: `${width}` },
    shapes: ({ layers, heads, kvHeads, headDim, hidden }) =>
      perLayer(layers - 1, (i) => ({
        [`token_butler.producers.${i}.norm.weight`]: [hidden],
        [`token_butler.producers.${i}.gate.weight`]: [width, hidden],
        [`token_butler.producers.${i}.up.weight`]: [width, hidden],
        [`token_butler.producers.${i}.down.weight`]: [heads * dim, width],
        [`token_butler.layers.${i + 1}.key_proj`]: [kvHeads, dim, headDim],
      })),
  },
};

function perLayer(layers: number, shapes: (layer: number) => Shapes): Shapes {
  return Object.assign({}, ...Array.from({ length: layers }, (_, i) => shapes(i)));
}

/** Adapters of all methods, with hashed weights. */
export function fakeAdapters(config: ModelConfig, backend: Backend): LoadedAdapter[] {
  return Object.values(methods).map(({ metadata = {}, shapes }) => {
    const entries = Object.entries(shapes(config)).map(([name, shape]) => [
      name,
      { dtype: "F32", shape, data: f32Bytes(...hashedValues(name, shape)) },
    ]);
    const bytes = safetensorsBytes(Object.fromEntries(entries), metadata);
    using file = readSafetensors(bytesSource(bytes, "adapter"));
    return loadAdapter(file, config, backend);
  });
}

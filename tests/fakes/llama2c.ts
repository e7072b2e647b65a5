/**
 * Reads the model files of llama2.c (legacy, v1, v2) as (ModelConfig, WeightSource), with the tensor
 * names of Hugging Face checkpoints.
 *
 * Source: export.py and run.c of karpathy/llama2.c. Only for tests: the files are trusted.
 */
import type { WeightSource } from "../../runtime/formats/weights.ts";
import type { ModelConfig } from "../../runtime/models/mod.ts";

const MAGIC = 0x616b3432;

interface Header {
  readonly dim: number;
  readonly ffn: number;
  readonly layers: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly vocab: number;
  readonly contextLength: number;
  readonly tied: boolean;
  /** Byte offset of the first tensor. */
  readonly start: number;
  readonly groupSize: number | undefined;
}

interface Model {
  readonly config: ModelConfig;
  readonly weights: WeightSource;
}

/** The model in `file`. */
export function readLlama2c(file: Uint8Array<ArrayBuffer>): Model {
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength);
  const isVersioned = view.getUint32(0, true) === MAGIC;
  const header = isVersioned ? versionedHeader(view) : legacyHeader(view);
  const tensors = header.groupSize !== undefined
    ? quantizedTensors(view, header, header.groupSize)
    : isVersioned
    ? v1Tensors(view, header)
    : legacyTensors(view, header);
  return { config: configOf(header), weights: weightSource(tensors) };
}

function configOf(header: Header): ModelConfig {
  return {
    architecture: "LlamaForCausalLM",
    vocab: header.vocab,
    hidden: header.dim,
    ffn: header.ffn,
    layers: header.layers,
    heads: header.heads,
    kvHeads: header.kvHeads,
    headDim: header.dim / header.heads,
    normEps: 1e-5,
    contextLength: header.contextLength,
    slidingWindow: undefined,
    tieEmbeddings: header.tied,
    bias: { qkv: false, output: false, ffn: false },
    rope: { layout: "pairs", theta: 10_000, scaling: { kind: "none" } },
  };
}

function sevenInts(view: DataView, at: number) {
  const int = (i: number) => view.getInt32(at + 4 * i, true);
  return {
    dim: int(0),
    ffn: int(1),
    layers: int(2),
    heads: int(3),
    kvHeads: int(4),
    vocab: Math.abs(int(5)),
    contextLength: int(6),
    tied: int(5) > 0,
  };
}

function legacyHeader(view: DataView): Header {
  return { ...sevenInts(view, 0), start: 28, groupSize: undefined };
}

function versionedHeader(view: DataView): Header {
  const version = view.getInt32(4, true);
  if (version !== 1 && version !== 2) throw new Error(`Unknown llama2.c version ${version}`);
  return {
    ...sevenInts(view, 8),
    tied: view.getUint8(36) === 1,
    start: 256,
    groupSize: version === 2 ? view.getInt32(37, true) : undefined,
  };
}

interface NamedTensor {
  readonly shape: readonly number[];
  readonly dtype: string;
  readonly data: Float32Array<ArrayBuffer>;
}
type Tensors = Map<string, NamedTensor>;

const layerNames = {
  attentionNorm: "input_layernorm.weight",
  ffnNorm: "post_attention_layernorm.weight",
  q: "self_attn.q_proj.weight",
  k: "self_attn.k_proj.weight",
  v: "self_attn.v_proj.weight",
  o: "self_attn.o_proj.weight",
  gate: "mlp.gate_proj.weight",
  down: "mlp.down_proj.weight",
  up: "mlp.up_proj.weight",
} as const;
type LayerTensor = keyof typeof layerNames;
/** w1, w2, w3 in the files. */
const ffnOrder: readonly LayerTensor[] = ["gate", "down", "up"];
const attentionOrder: readonly LayerTensor[] = ["q", "k", "v", "o"];

function shapeOf(header: Header, name: LayerTensor): readonly number[] {
  const { dim, ffn } = header;
  const kv = dim / header.heads * header.kvHeads;
  switch (name) {
    case "attentionNorm":
    case "ffnNorm":
      return [dim];
    case "q":
    case "o":
      return [dim, dim];
    case "k":
    case "v":
      return [kv, dim];
    case "gate":
    case "up":
      return [ffn, dim];
    case "down":
      return [dim, ffn];
  }
}

/** Takes tensors off the file one after the other. */
class TensorReader {
  readonly tensors: Tensors = new Map();
  #at: number;
  readonly #view: DataView;
  readonly #header: Header;

  constructor(view: DataView, header: Header) {
    this.#view = view;
    this.#header = header;
    this.#at = header.start;
  }

  take(name: string, shape: readonly number[]): void {
    const data = this.#floats(shape.reduce((a, b) => a * b, 1));
    this.tensors.set(name, { shape, dtype: "F32", data });
  }

  /** int8 values, then one f32 scale per group. */
  takeQuantized(name: string, shape: readonly number[], groupSize: number): void {
    const size = shape.reduce((a, b) => a * b, 1);
    const values = Int8Array.from({ length: size }, (_, i) => this.#view.getInt8(this.#at + i));
    this.#at += size;
    const scales = this.#floats(size / groupSize);
    const data = Float32Array.from(values, (q, i) => q * scales[Math.floor(i / groupSize)]!);
    this.tensors.set(name, { shape, dtype: "Q8", data });
  }

  takeLayers(order: readonly LayerTensor[], groupSize?: number): void {
    for (const name of order) {
      const shape = shapeOf(this.#header, name);
      for (let layer = 0; layer < this.#header.layers; layer++) {
        const full = `model.layers.${layer}.${layerNames[name]}`;
        if (groupSize === undefined) this.take(full, shape);
        else this.takeQuantized(full, shape, groupSize);
      }
    }
  }

  skipFloats(count: number): void {
    this.#at += 4 * count;
  }

  /** The whole file must have been read. */
  finish(): Tensors {
    if (this.#at !== this.#view.byteLength) {
      throw new Error(`Read ${this.#at} of ${this.#view.byteLength} bytes`);
    }
    return this.tensors;
  }

  #floats(count: number): Float32Array<ArrayBuffer> {
    const at = this.#at;
    this.#at += 4 * count;
    return Float32Array.from({ length: count }, (_, i) => this.#view.getFloat32(at + 4 * i, true));
  }
}

const embedding = "model.embed_tokens.weight", finalNorm = "model.norm.weight";
const output = "lm_head.weight";

function legacyTensors(view: DataView, header: Header): Tensors {
  const reader = new TensorReader(view, header);
  reader.take(embedding, [header.vocab, header.dim]);
  reader.takeLayers(["attentionNorm", ...attentionOrder, "ffnNorm", ...ffnOrder]);
  reader.take(finalNorm, [header.dim]);
  reader.skipFloats(header.contextLength * header.dim / header.heads); // sines and cosines
  if (!header.tied) reader.take(output, [header.vocab, header.dim]);
  return reader.finish();
}

function v1Tensors(view: DataView, header: Header): Tensors {
  const reader = new TensorReader(view, header);
  reader.takeLayers(["attentionNorm", "ffnNorm"]);
  reader.take(finalNorm, [header.dim]);
  reader.take(embedding, [header.vocab, header.dim]);
  reader.takeLayers([...attentionOrder, ...ffnOrder]);
  if (!header.tied) reader.take(output, [header.vocab, header.dim]);
  return reader.finish();
}

function quantizedTensors(view: DataView, header: Header, groupSize: number): Tensors {
  const reader = new TensorReader(view, header);
  reader.takeLayers(["attentionNorm", "ffnNorm"]);
  reader.take(finalNorm, [header.dim]);
  reader.takeQuantized(embedding, [header.vocab, header.dim], groupSize);
  reader.takeLayers([...attentionOrder, ...ffnOrder], groupSize);
  if (!header.tied) reader.takeQuantized(output, [header.vocab, header.dim], groupSize);
  return reader.finish();
}

function weightSource(tensors: Tensors): WeightSource {
  const get = (name: string): NamedTensor => {
    const tensor = tensors.get(name);
    if (tensor === undefined) throw new Error(`There is no tensor ${name}`);
    return tensor;
  };
  return {
    names: () => tensors.keys(),
    has: (name) => tensors.has(name),
    shape: (name) => get(name).shape,
    dtype: (name) => get(name).dtype,
    f32: (name) => get(name).data.slice(),
    raw: (name) => new Uint8Array(get(name).data.slice().buffer),
    [Symbol.dispose]() {},
  };
}

/**
 * Reads a model's shape from GGUF metadata.
 *
 * Source: GGUF specification, https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, "LLM".
 * llama.cpp's converter permutes the rows of q and k of Llama weights so that rotary pairs are
 * neighbours; those weights are used as they are, with the "pairs" layout.
 */
import { FormatError } from "../errors.ts";
import type { GgufMetadata } from "../formats/gguf_metadata.ts";
import type { WeightSource } from "../formats/weights.ts";
import { createFields, type Fields } from "./_fields.ts";
import { checkConfig, limits, type ModelConfig, type RopeScaling } from "./config.ts";

const architectures: Readonly<
  Record<
    string,
    {
      readonly name: string;
      readonly layout: "half" | "pairs";
      /** "maybe": if the file has one. */
      readonly qkvBias: true | "maybe";
    }
  >
> = {
  llama: { name: "LlamaForCausalLM", layout: "pairs", qkvBias: "maybe" },
  mistral: { name: "LlamaForCausalLM", layout: "pairs", qkvBias: "maybe" },
  qwen2: { name: "Qwen2ForCausalLM", layout: "half", qkvBias: true },
  qwen3: { name: "Qwen3ForCausalLM", layout: "half", qkvBias: "maybe" },
};

/**
 * @param weights the file's tensors: whether biases and an output layer exist is not in the metadata
 * @throws {FormatError} naming the key that is missing, malformed or not supported
 */
export function configFromGguf(
  metadata: GgufMetadata,
  weights: Pick<WeightSource, "has" | "shape">,
  source = "GGUF metadata",
): ModelConfig {
  const prefix = metadata.string("general.architecture");
  const architecture = architectures[prefix ?? ""];
  if (prefix === undefined || !Object.hasOwn(architectures, prefix) || !architecture) {
    throw new FormatError(
      `general.architecture ${JSON.stringify(prefix ?? null)} is not supported; supported are ` +
        Object.keys(architectures).join(", "),
      { source },
    );
  }
  const fields = createFields((name) => metadata.get(name)?.value, source);
  const key = (name: string) => `${prefix}.${name}`;
  const hidden = fields.number(key("embedding_length"), { max: limits.hidden });
  const heads = fields.number(key("attention.head_count"), { max: limits.heads });
  const headDim = headDimOf(fields, key, hidden, heads, source);
  return checkConfig({
    architecture: architecture.name,
    vocab: vocabOf(fields, key, weights, source),
    hidden,
    ffn: fields.number(key("feed_forward_length"), { max: limits.ffn }),
    layers: fields.number(key("block_count"), { max: limits.layers }),
    heads,
    kvHeads: fields.optionalNumber(key("attention.head_count_kv"), { max: limits.heads }) ?? heads,
    headDim,
    normEps: fields.number(key("attention.layer_norm_rms_epsilon"), { real: true, min: 0, max: 1 }),
    contextLength: fields.number(key("context_length"), { max: limits.contextLength }),
    slidingWindow: fields.optionalNumber(key("attention.sliding_window"), {
      max: limits.contextLength,
    }),
    tieEmbeddings: !weights.has("output.weight"),
    bias: {
      qkv: architecture.qkvBias === true || weights.has("blk.0.attn_q.bias"),
      output: weights.has("blk.0.attn_output.bias"),
      ffn: weights.has("blk.0.ffn_down.bias"),
    },
    rope: {
      layout: architecture.layout,
      theta: fields.optionalNumber(key("rope.freq_base"), { real: true, min: 1, max: 1e12 }) ??
        10_000,
      scaling: scalingOf(fields, key, source),
    },
  }, source);
}

type Key = (name: string) => string;

function headDimOf(
  fields: Fields,
  key: Key,
  hidden: number,
  heads: number,
  source: string,
): number {
  const range = { max: limits.headDim };
  const headDim = fields.optionalNumber(key("attention.key_length"), range) ?? hidden / heads;
  if (!Number.isInteger(headDim)) {
    throw new FormatError(
      `${key("embedding_length")} ${hidden} is not a multiple of ${heads} heads`,
      { source },
    );
  }
  for (const name of ["attention.value_length", "rope.dimension_count"]) {
    const other = fields.optionalNumber(key(name), range) ?? headDim;
    if (other !== headDim) {
      throw new FormatError(`${key(name)} ${other} differs from the head dimension ${headDim}`, {
        source,
      });
    }
  }
  const experts = fields.optionalNumber(key("expert_count"), { min: 0 }) ?? 0;
  if (experts > 0) {
    throw new FormatError(`${key("expert_count")} ${experts} is not supported, only 0`, { source });
  }
  return headDim;
}

function vocabOf(
  fields: Fields,
  key: Key,
  weights: Pick<WeightSource, "has" | "shape">,
  source: string,
): number {
  const vocab = weights.has("token_embd.weight")
    ? weights.shape("token_embd.weight")[0]
    : undefined;
  if (vocab === undefined || vocab < 1 || vocab > limits.vocab) {
    throw new FormatError(
      `token_embd.weight must have 1 to ${limits.vocab} rows, has ${vocab ?? "none"}`,
      { source },
    );
  }
  const stated = fields.optionalNumber(key("vocab_size"), { max: limits.vocab }) ?? vocab;
  if (stated !== vocab) {
    throw new FormatError(
      `${key("vocab_size")} is ${stated}, token_embd.weight has ${vocab} rows`,
      {
        source,
      },
    );
  }
  return vocab;
}

/** Llama 3 scaling is not in the metadata but a tensor, `rope_freqs.weight`; see loader. */
function scalingOf(fields: Fields, key: Key, source: string): RopeScaling {
  const range = { real: true, min: 1, max: 1e6 };
  const kind = fields.optionalString(key("rope.scaling.type")) ?? "none";
  if (kind !== "none" && kind !== "linear") {
    throw new FormatError(
      `${key("rope.scaling.type")} ${JSON.stringify(kind)} is not supported; supported is linear`,
      { source },
    );
  }
  if (kind === "linear") {
    return { kind, factor: fields.number(key("rope.scaling.factor"), range) };
  }
  // Files from before rope.scaling.* have the factor alone.
  const factor = fields.optionalNumber(key("rope.scale_linear"), range);
  return factor === undefined || factor === 1 ? { kind: "none" } : { kind: "linear", factor };
}

/**
 * Reads Hugging Face's config.json.
 *
 * Source: the configuration classes of transformers (LlamaConfig, MistralConfig, Qwen2Config,
 * Qwen3Config). Differs: dimensions have no defaults and must be given; what this runtime does not
 * compute is refused by name instead of ignored.
 */
import { FormatError } from "../errors.ts";
import { isJsonObject, type Json, parseJson } from "../formats/json.ts";
import { createFields, type Fields } from "./_fields.ts";
import { checkConfig, limits, type ModelConfig, type RopeScaling } from "./config.ts";

/** What the classes in transformers do without being told. */
interface Traits {
  /** Whether q, k and v have a bias; "field": as `attention_bias` says, then the output as well. */
  readonly qkvBias: boolean | "field";
  readonly ffnBias: boolean | "field";
  /** Head dimension where the file has none; undefined: hidden size / heads. */
  readonly headDim: number | undefined;
  /** Whether a given sliding window holds; "field": only if `use_sliding_window` says so. */
  readonly slidingWindow: boolean | "field";
}

const traits: Readonly<Record<string, Traits>> = {
  LlamaForCausalLM: {
    qkvBias: "field",
    ffnBias: "field",
    headDim: undefined,
    slidingWindow: false,
  },
  MistralForCausalLM: {
    qkvBias: false,
    ffnBias: false,
    headDim: undefined,
    slidingWindow: true,
  },
  Qwen2ForCausalLM: {
    qkvBias: true,
    ffnBias: false,
    headDim: undefined,
    slidingWindow: "field",
  },
  Qwen3ForCausalLM: {
    qkvBias: "field",
    ffnBias: false,
    headDim: 128,
    slidingWindow: "field",
  },
};

/**
 * @param text the file's content
 * @throws {FormatError} naming the field that is missing, malformed or not supported
 */
export function configFromJson(text: string, source = "config.json"): ModelConfig {
  const json = parseJson(text, { source, maxDepth: 32, maxValues: 100_000 });
  if (!isJsonObject(json)) throw new FormatError("it must be an object", { source });
  const fields = createFields((name) => json.get(name), source);
  const architecture = architectureOf(json.get("architectures"), source);
  const trait = traits[architecture]!;
  refuseUnsupported(fields, json.get("quantization_config"), source);
  const hidden = fields.number("hidden_size", { max: limits.hidden });
  const heads = fields.number("num_attention_heads", { max: limits.heads });
  const attentionBias = fields.boolean("attention_bias", false);
  return checkConfig({
    architecture,
    vocab: fields.number("vocab_size", { max: limits.vocab }),
    hidden,
    ffn: fields.number("intermediate_size", { max: limits.ffn }),
    layers: fields.number("num_hidden_layers", { max: limits.layers }),
    heads,
    kvHeads: fields.optionalNumber("num_key_value_heads", { max: limits.heads }) ?? heads,
    headDim: headDimOf(fields, trait, hidden, heads, source),
    normEps: fields.number("rms_norm_eps", { real: true, min: 0, max: 1 }),
    contextLength: fields.number("max_position_embeddings", { max: limits.contextLength }),
    slidingWindow: slidingWindowOf(fields, trait),
    tieEmbeddings: fields.boolean("tie_word_embeddings", false),
    bias: {
      qkv: trait.qkvBias === "field" ? attentionBias : trait.qkvBias,
      output: trait.qkvBias === "field" && attentionBias,
      ffn: trait.ffnBias === "field" ? fields.boolean("mlp_bias", false) : trait.ffnBias,
    },
    rope: { layout: "half", ...ropeOf(json, fields, source) },
  }, source);
}

function architectureOf(value: Json | undefined, source: string): string {
  const name = Array.isArray(value) ? value[0] : undefined;
  if (typeof name !== "string") {
    throw new FormatError("architectures must be a list with the model's class", { source });
  }
  if (!Object.hasOwn(traits, name)) {
    throw new FormatError(
      `architecture ${JSON.stringify(name)} is not supported; supported are ` +
        Object.keys(traits).join(", "),
      { source },
    );
  }
  return name;
}

function refuseUnsupported(fields: Fields, quantization: Json | undefined, source: string): void {
  const activation = fields.optionalString("hidden_act") ?? "silu";
  if (activation !== "silu") {
    throw new FormatError(`hidden_act ${JSON.stringify(activation)} is not supported, only silu`, {
      source,
    });
  }
  if (isJsonObject(quantization)) {
    const method = quantization.get("quant_method");
    throw new FormatError(
      `quantization_config with method ${JSON.stringify(method ?? null)} is not supported`,
      { source },
    );
  }
  const rotary = fields.optionalNumber("partial_rotary_factor", { real: true, min: 0, max: 1 });
  if (rotary !== undefined && rotary !== 1) {
    throw new FormatError(`partial_rotary_factor ${rotary} is not supported, only 1`, { source });
  }
}

function headDimOf(
  fields: Fields,
  trait: Traits,
  hidden: number,
  heads: number,
  source: string,
): number {
  const headDim = fields.optionalNumber("head_dim", { max: limits.headDim }) ?? trait.headDim ??
    hidden / heads;
  if (!Number.isInteger(headDim)) {
    throw new FormatError(
      `hidden_size ${hidden} is not a multiple of num_attention_heads ${heads}, ` +
        `and there is no head_dim`,
      { source },
    );
  }
  return headDim;
}

function slidingWindowOf(fields: Fields, trait: Traits): number | undefined {
  const inForce = trait.slidingWindow === "field"
    ? fields.boolean("use_sliding_window", false)
    : trait.slidingWindow;
  if (!inForce) return undefined;
  return fields.optionalNumber("sliding_window", { max: limits.contextLength });
}

/** Newer files say it all in `rope_parameters`, older ones in `rope_theta` and `rope_scaling`. */
function ropeOf(
  json: ReadonlyMap<string, Json>,
  fields: Fields,
  source: string,
): { readonly theta: number; readonly scaling: RopeScaling } {
  const newer = json.get("rope_parameters");
  const given = newer ?? json.get("rope_scaling") ?? null;
  const name = newer === undefined || newer === null ? "rope_scaling" : "rope_parameters";
  if (given !== null && !isJsonObject(given)) {
    throw new FormatError(`${name} must be an object`, { source });
  }
  const inner = createFields((key) => given?.get(key), `${source}, ${name}`);
  const theta = { real: true, min: 1, max: 1e12 };
  return {
    theta: inner.optionalNumber("rope_theta", theta) ??
      fields.optionalNumber("rope_theta", theta) ?? 10_000,
    scaling: given === null ? { kind: "none" } : scalingOf(inner, name, source),
  };
}

function scalingOf(fields: Fields, name: string, source: string): RopeScaling {
  const kind = fields.optionalString("rope_type") ?? fields.optionalString("type") ?? "default";
  const factor = { real: true, min: 1, max: 1e6 };
  const positive = { real: true, min: 1e-6, max: 1e6 };
  switch (kind) {
    case "default":
      return { kind: "none" };
    case "linear":
      return { kind: "linear", factor: fields.number("factor", factor) };
    case "llama3":
      return {
        kind: "llama3",
        factor: fields.number("factor", factor),
        lowFreqFactor: fields.number("low_freq_factor", positive),
        highFreqFactor: fields.number("high_freq_factor", positive),
        originalContext: fields.number("original_max_position_embeddings", {
          max: limits.contextLength,
        }),
      };
    default:
      throw new FormatError(
        `${name} of type ${JSON.stringify(kind)} is not supported; supported are linear, llama3`,
        { source },
      );
  }
}

import { assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { FormatError } from "../../../runtime/errors.ts";
import { readGguf } from "../../../runtime/formats/gguf.ts";
import { bytesSource } from "../../../runtime/formats/reader.ts";
import { configFromGguf, type ModelConfig } from "../../../runtime/models/mod.ts";
import { tinyConfig } from "../../fakes/hashed_weights.ts";
import { ggufBytes, type GgufPair } from "../formats/_writers.ts";
import { ggufPairs } from "./_gguf_of.ts";

interface Options {
  readonly config?: ModelConfig;
  readonly change?: Readonly<Record<string, GgufPair | undefined>>;
  /** Names of tensors with a shape of their own; only the embedding's shape matters. */
  readonly tensors?: readonly string[];
  readonly vocab?: number;
}

function read(options: Options = {}): ModelConfig {
  const { config = tinyConfig, change = {}, vocab = config.vocab } = options;
  const { tensors = ["token_embd.weight", "output.weight"] } = options;
  const bytes = ggufBytes({
    pairs: ggufPairs(config, change),
    tensors: tensors.map((name) => ({
      name,
      sizes: [1, vocab],
      type: 0,
      data: new Uint8Array(4 * vocab),
    })),
  });
  using gguf = readGguf(bytesSource(bytes, "model.gguf"));
  return configFromGguf(gguf.metadata, gguf);
}

/** A change of one key. */
function set(key: string, type: GgufPair["type"], value: GgufPair["value"]) {
  return { [key]: { key, type, value } };
}

Deno.test("configFromGguf() reads a Llama with rotary pairs side by side", () => {
  assertEquals(read(), {
    ...tinyConfig,
    normEps: Math.fround(1e-5),
    rope: { ...tinyConfig.rope, layout: "pairs" },
  });
});

Deno.test("configFromGguf() takes ties and biases from the tensors that exist", () => {
  assertEquals(read().tieEmbeddings, false);
  assertEquals(read({ tensors: ["token_embd.weight"] }).tieEmbeddings, true);
  const names = ["token_embd.weight", "blk.0.attn_q.bias", "blk.0.attn_output.bias"];
  assertEquals(read({ tensors: names }).bias, { qkv: true, output: true, ffn: false });
});

Deno.test("configFromGguf() keeps halves apart and expects biases for Qwen2", () => {
  const config = read({ config: { ...tinyConfig, architecture: "Qwen2ForCausalLM" } });
  assertEquals(config.architecture, "Qwen2ForCausalLM");
  assertEquals(config.rope.layout, "half");
  assertEquals(config.bias.qkv, true);
});

Deno.test("configFromGguf() completes what older files leave out", () => {
  const change = {
    "llama.attention.key_length": undefined,
    "llama.attention.value_length": undefined,
    "llama.vocab_size": undefined,
    "llama.rope.freq_base": undefined,
    "llama.attention.head_count_kv": undefined,
    ...set("llama.rope.scale_linear", "f32", 4),
  };
  const config = read({ change });
  assertEquals(config.headDim, 6);
  assertEquals(config.vocab, 50);
  assertEquals(config.kvHeads, 4);
  assertEquals(config.rope, {
    layout: "pairs",
    theta: 10_000,
    scaling: { kind: "linear", factor: 4 },
  });
});

Deno.test("configFromGguf() names the key it cannot use", () => {
  const cases: readonly (readonly [key: string, options: Options])[] = [
    ["general.architecture", { change: { "general.architecture": undefined } }],
    ["gemma2", { change: set("general.architecture", "string", "gemma2") }],
    ["toString", { change: set("general.architecture", "string", "toString") }],
    ["llama.block_count", { change: { "llama.block_count": undefined } }],
    ["llama.block_count", { change: set("llama.block_count", "u32", 0) }],
    ["llama.block_count", { change: set("llama.block_count", "u64", 2n ** 60n) }],
    ["llama.block_count", { change: set("llama.block_count", "string", "2") }],
    ["llama.feed_forward_length", {
      change: set("llama.feed_forward_length", "u32", [40, 40]),
    }],
    ["llama.attention.value_length", { change: set("llama.attention.value_length", "u32", 8) }],
    ["llama.rope.dimension_count", { change: set("llama.rope.dimension_count", "u32", 2) }],
    ["llama.expert_count", { change: set("llama.expert_count", "u32", 8) }],
    ["llama.vocab_size", { change: set("llama.vocab_size", "u32", 51) }],
    ["yarn", { change: set("llama.rope.scaling.type", "string", "yarn") }],
    ["llama.rope.scaling.factor", { change: set("llama.rope.scaling.type", "string", "linear") }],
    ["key-value heads", { change: set("llama.attention.head_count_kv", "u32", 3) }],
    ["token_embd.weight", { tensors: ["output.weight"] }],
    ["llama.attention.layer_norm_rms_epsilon", {
      change: set("llama.attention.layer_norm_rms_epsilon", "f32", NaN),
    }],
  ];
  for (const [key, options] of cases) {
    const error = assertThrows(() => read(options), FormatError);
    assertStringIncludes(error.message, key);
  }
});

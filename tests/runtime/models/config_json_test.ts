// deno-lint-ignore-file camelcase -- the fields of config.json
import { assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { FormatError } from "../../../runtime/errors.ts";
import { configFromJson, requireContext, usableContext } from "../../../runtime/models/mod.ts";

const llama = {
  architectures: ["LlamaForCausalLM"],
  vocab_size: 1000,
  hidden_size: 64,
  intermediate_size: 128,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  rms_norm_eps: 1e-5,
  max_position_embeddings: 2048,
};

/** The llama above with some fields changed; undefined removes one. */
function read(change: Readonly<Record<string, unknown>> = {}) {
  return configFromJson(JSON.stringify({ ...llama, ...change }));
}

Deno.test("configFromJson() reads a minimal Llama and completes it as transformers does", () => {
  assertEquals(read(), {
    architecture: "LlamaForCausalLM",
    vocab: 1000,
    hidden: 64,
    ffn: 128,
    layers: 2,
    heads: 4,
    kvHeads: 2,
    headDim: 16,
    normEps: 1e-5,
    contextLength: 2048,
    slidingWindow: undefined,
    tieEmbeddings: false,
    bias: { qkv: false, output: false, ffn: false },
    rope: { layout: "half", theta: 10_000, scaling: { kind: "none" } },
  });
  assertEquals(read({ num_key_value_heads: undefined }).kvHeads, 4);
});

Deno.test("configFromJson() knows what each architecture adds", () => {
  const qwen2 = read({ architectures: ["Qwen2ForCausalLM"], sliding_window: 100 });
  assertEquals(qwen2.bias, { qkv: true, output: false, ffn: false });
  assertEquals(qwen2.slidingWindow, undefined);
  const windowed = read({
    architectures: ["Qwen2ForCausalLM"],
    sliding_window: 100,
    use_sliding_window: true,
  });
  assertEquals(windowed.slidingWindow, 100);
  assertEquals(read({ architectures: ["Qwen3ForCausalLM"] }).headDim, 128);
  assertEquals(read({ architectures: ["Qwen3ForCausalLM"], head_dim: 32 }).headDim, 32);
  assertEquals(read({ attention_bias: true, mlp_bias: true }).bias, {
    qkv: true,
    output: true,
    ffn: true,
  });
  assertEquals(
    read({ architectures: ["MistralForCausalLM"], sliding_window: 512 }).slidingWindow,
    512,
  );
  assertEquals(
    read({ architectures: ["MistralForCausalLM"], sliding_window: null }).slidingWindow,
    undefined,
  );
});

Deno.test("configFromJson() reads rope scaling in the older and the newer spelling", () => {
  const llama3 = {
    factor: 8,
    low_freq_factor: 1,
    high_freq_factor: 4,
    original_max_position_embeddings: 8192,
  };
  const expected = {
    kind: "llama3",
    factor: 8,
    lowFreqFactor: 1,
    highFreqFactor: 4,
    originalContext: 8192,
  } as const;
  const older = read({ rope_theta: 500000, rope_scaling: { rope_type: "llama3", ...llama3 } });
  assertEquals(older.rope, { layout: "half", theta: 500_000, scaling: expected });
  const newer = read({ rope_parameters: { rope_type: "llama3", rope_theta: 500000, ...llama3 } });
  assertEquals(newer.rope, older.rope);
  assertEquals(read({ rope_scaling: { type: "linear", factor: 2.5 } }).rope.scaling, {
    kind: "linear",
    factor: 2.5,
  });
  assertEquals(read({ rope_scaling: null }).rope.scaling, { kind: "none" });
  assertEquals(read({ rope_parameters: { rope_type: "default" } }).rope.scaling, { kind: "none" });
});

Deno.test("configFromJson() names the field it cannot use", () => {
  const cases: readonly (readonly [field: string, change: Record<string, unknown>])[] = [
    ["vocab_size", { vocab_size: undefined }],
    ["vocab_size", { vocab_size: 0 }],
    ["vocab_size", { vocab_size: 1e9 }],
    ["hidden_size", { hidden_size: -64 }],
    ["hidden_size", { hidden_size: 64.5 }],
    ["hidden_size", { hidden_size: 65 }],
    ["intermediate_size", { intermediate_size: "128" }],
    ["num_hidden_layers", { num_hidden_layers: 1e6 }],
    ["num_attention_heads", { num_attention_heads: null }],
    ["key-value heads", { num_key_value_heads: 3 }],
    ["head dimension", { head_dim: 15 }],
    ["head_dim", { head_dim: 1e5 }],
    ["rms_norm_eps", { rms_norm_eps: -1 }],
    ["rms_norm_eps", { rms_norm_eps: undefined }],
    ["max_position_embeddings", { max_position_embeddings: [2048] }],
    ["tie_word_embeddings", { tie_word_embeddings: 1 }],
    ["attention_bias", { attention_bias: "yes" }],
    ["hidden_act", { hidden_act: "gelu" }],
    ["partial_rotary_factor", { partial_rotary_factor: 0.5 }],
    ["quantization_config", { quantization_config: { quant_method: "awq" } }],
    ["rope_theta", { rope_theta: 0 }],
    ["rope_scaling", { rope_scaling: "linear" }],
    ["yarn", { rope_scaling: { rope_type: "yarn", factor: 4 } }],
    ["dynamic", { rope_scaling: { type: "dynamic", factor: 4 } }],
    ["longrope", { rope_parameters: { rope_type: "longrope" } }],
    ["factor", { rope_scaling: { type: "linear" } }],
    ["factor", { rope_scaling: { type: "linear", factor: 0 } }],
    ["low_freq_factor", { rope_scaling: { type: "llama3", factor: 8 } }],
    ["high_freq_factor", {
      rope_scaling: {
        type: "llama3",
        factor: 8,
        low_freq_factor: 4,
        high_freq_factor: 4,
        original_max_position_embeddings: 8192,
      },
    }],
    ["architectures", { architectures: undefined }],
    ["architectures", { architectures: [] }],
    ["GPT2LMHeadModel", { architectures: ["GPT2LMHeadModel"] }],
    ["toString", { architectures: ["toString"] }],
  ];
  for (const [field, change] of cases) {
    const error = assertThrows(() => read(change), FormatError);
    assertStringIncludes(error.message, field);
  }
  assertThrows(() => configFromJson("[]"), FormatError, "object");
  assertThrows(() => configFromJson("{"), FormatError);
  const error = assertThrows(() => read({ rope_scaling: { type: "yarn" } }), FormatError);
  assertEquals(
    error.message,
    'Cannot read config.json: rope_scaling of type "yarn" is not supported; supported are linear, llama3',
  );
});

Deno.test("requireContext() refuses contexts that would not be computed exactly", () => {
  const windowed = read({ architectures: ["MistralForCausalLM"], sliding_window: 512 });
  assertEquals(usableContext(windowed), 512);
  requireContext(windowed, 512);
  assertThrows(() => requireContext(windowed, 513), RangeError, "sliding window");
  assertEquals(usableContext(read()), 2048);
  requireContext(read(), 2048);
  assertThrows(() => requireContext(read(), 2049), RangeError, "2048");
  for (const bad of [0, -1, 1.5, NaN, Infinity]) {
    assertThrows(() => requireContext(read(), bad), RangeError);
  }
});

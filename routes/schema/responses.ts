// deno-lint-ignore-file camelcase -- names as on the wire
/** Responses as schemas: the API description shows them, and the tests hold the routes to them. */
import * as z from "zod";

/** Every error. */
export const errorSchema = z.object({
  error: z.looseObject({
    message: z.string(),
    type: z.enum(["invalid_request_error", "permission_error", "rate_limit_error", "server_error"]),
    param: z.string().nullable(),
    code: z.string().nullable(),
  }),
});

const usage = z.looseObject({
  prompt_tokens: z.int().min(0),
  completion_tokens: z.int().min(0),
  total_tokens: z.int().min(0),
  prompt_tokens_details: z.object({ cached_tokens: z.int().min(0) }).optional(),
  decoding: z.object({
    tokens_drawn: z.int().min(0).optional(),
    kv_tokens_kept: z.int().min(0).optional()
      .describe("Tokens in the KV cache at the end, on average over layers and heads."),
    kv_bytes_peak: z.number().min(0).optional().describe("Most KV bytes held at once."),
    kv_ratio: z.number().min(0).optional()
      .describe("KV bytes at the end as a share of the full cache's."),
  }).optional(),
});

const candidate = {
  token: z.string(),
  logprob: z.number().max(0).min(-9999),
  bytes: z.array(z.int().min(0).max(255)),
};

const chatLogprobs = z.object({
  content: z.array(z.object({ ...candidate, top_logprobs: z.array(z.object(candidate)) })),
  refusal: z.null(),
}).nullable();

const finishReason = z.enum(["stop", "length"]);

const head = {
  id: z.string(),
  created: z.int(),
  model: z.string(),
  system_fingerprint: z.string(),
  decoding: z.looseObject({ strategy: z.string() }).optional().describe("Only with a trace."),
};

/** `chat.completion`. */
export const chatCompletionSchema = z.looseObject({
  ...head,
  object: z.literal("chat.completion"),
  choices: z.array(z.looseObject({
    index: z.int().min(0),
    message: z.object({
      role: z.literal("assistant"),
      content: z.string().nullable(),
      refusal: z.null(),
      reasoning_content: z.string().optional(),
    }),
    logprobs: chatLogprobs,
    finish_reason: finishReason,
  })),
  usage,
});

/** `chat.completion.chunk`, one event of a stream. */
export const chatChunkSchema = z.looseObject({
  ...head,
  object: z.literal("chat.completion.chunk"),
  choices: z.array(z.looseObject({
    index: z.int().min(0),
    delta: z.strictObject({
      role: z.literal("assistant").optional(),
      content: z.string().optional(),
      reasoning_content: z.string().optional(),
    }),
    logprobs: chatLogprobs,
    finish_reason: finishReason.nullable(),
  })),
  usage: usage.nullable().optional(),
});

const completionLogprobs = z.object({
  tokens: z.array(z.string()),
  token_logprobs: z.array(z.number().nullable()),
  top_logprobs: z.array(z.record(z.string(), z.number()).nullable()).nullable(),
  text_offset: z.array(z.int().min(0)),
}).nullable();

/** `text_completion`; a stream's chunks have the same shape with `finish_reason` null until the end. */
export const completionResponseSchema = z.looseObject({
  ...head,
  object: z.literal("text_completion"),
  choices: z.array(z.looseObject({
    index: z.int().min(0),
    text: z.string(),
    logprobs: completionLogprobs,
    finish_reason: finishReason.nullable(),
  })),
  usage: usage.nullable().optional(),
});

/** One model. */
export const modelSchema = z.looseObject({
  id: z.string(),
  object: z.literal("model"),
  created: z.int(),
  owned_by: z.string(),
});

/** All models. */
export const modelListSchema = z.object({
  object: z.literal("list"),
  data: z.array(modelSchema),
});

/** One strategy. */
export const strategySchema = z.looseObject({
  object: z.literal("strategy"),
  name: z.string(),
  summary: z.string(),
  source: z.string(),
  streaming: z.enum(["tokens", "bursts", "end"]),
  needs: z.record(z.string(), z.array(z.string())),
  optional_needs: z.record(z.string(), z.array(z.string()))
    .describe("Roles that only some parameters use."),
  params: z.looseObject({}).describe("JSON schema of decoding.params."),
  models: z.record(z.string(), z.array(z.string())).describe("Role -> models that can take it."),
});

/** All strategies. */
export const strategyListSchema = z.object({
  object: z.literal("list"),
  data: z.array(strategySchema),
});

/** All KV policies. */
export const kvPolicyListSchema = z.object({
  object: z.literal("list"),
  data: z.array(z.looseObject({
    object: z.literal("kv_policy"),
    name: z.string(),
    summary: z.string(),
    source: z.string(),
    family: z.enum(["full", "eviction", "quantisation", "read-sparsity"]),
    frees_memory: z.boolean(),
    lossless: z.boolean(),
    granularity: z.enum(["sequence", "layer", "kv-head"]),
    adapter: z.string().nullable().describe("Learned weights the model must have."),
    default: z.boolean(),
    params: z.looseObject({}).describe("JSON schema of decoding.kv_policy.params."),
    models: z.array(z.string()),
    unavailable: z.record(z.string(), z.string()).describe("Model -> why it cannot."),
  })),
});

/** Answer of `/tokenize`. */
export const tokenizeResponseSchema = z.object({
  count: z.int().min(0),
  max_model_len: z.int().min(1),
  tokens: z.array(z.int().min(0)),
  token_strs: z.array(z.string()).optional(),
});

/** Answer of `/detokenize`. */
export const detokenizeResponseSchema = z.object({ prompt: z.string() });

/** Answer of `/health` and `/ready`. */
export const statusSchema = z.object({ status: z.string() });

/** `GET /admin/models`. */
export const adminModelsSchema = z.object({
  object: z.literal("list"),
  data: z.array(z.object({ model: z.string(), loaded: z.boolean() })),
});

/** `POST /admin/models/load` and `/unload`. */
export const adminModelSchema = z.object({
  model: z.string(),
  status: z.enum(["loaded", "unloaded"]),
  unloaded: z.array(z.string()).optional(),
});

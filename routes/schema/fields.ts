// deno-lint-ignore-file camelcase -- names as on the wire
/** Fields that chat and plain completions have in common. `null` means absent everywhere. */
import * as z from "zod";
import type { Limits } from "../deps.ts";
import { decodingConstraint } from "./constraints.ts";

const INT64_MIN = -(2n ** 63n);
const INT64_MAX = 2n ** 63n - 1n;

/** Whether the value is an integer that fits 64 bits; doubles above 2^53 count as what they hold. */
function isInt64(value: unknown): boolean {
  if (typeof value === "number") {
    return Number.isInteger(value) && BigInt(value) >= INT64_MIN && BigInt(value) <= INT64_MAX;
  }
  return typeof value === "bigint" && value >= INT64_MIN && value <= INT64_MAX;
}

/** A 64-bit integer. `parseJsonObject` keeps the digits of `seed` that a double would lose. */
export const int64 = z.custom<number | bigint>(isInt64, "must be a 64-bit integer").meta({
  type: "integer",
  format: "int64",
});

/** A token id; whether the model has it is checked later. */
export const tokenId = z.int().min(0).max(2 ** 31 - 1);

/** Parameters of sampling, ours and those that engines of the field take at the top level. */
export const samplingFields = {
  temperature: z.number().min(0).max(2).nullish().describe("0 = most likely token. Default 1."),
  top_p: z.number().gt(0).max(1).nullish().describe("Nucleus sampling. Default 1 = off."),
  top_k: z.int().min(-1).nullish().describe("Keep the k most likely tokens. -1 or 0 = off."),
  min_p: z.number().min(0).max(1).nullish().describe(
    "Keep tokens with at least this share of the best one's probability. Default 0 = off.",
  ),
  typical_p: z.number().gt(0).max(1).nullish().describe("Locally typical sampling. 1 = off."),
  presence_penalty: z.number().min(-2).max(2).nullish(),
  frequency_penalty: z.number().min(-2).max(2).nullish(),
  repetition_penalty: z.number().min(0.001).max(10).nullish().describe("1 = off; at least 0.001."),
  logit_bias: z.record(
    z.string().regex(/^\d{1,10}$/, "must be a token id in decimal digits"),
    z.number().min(-100).max(100),
  ).nullish().describe("Token id -> number added to its logit."),
  seed: int64.nullish().describe(
    "Same seed, request, strategy and engine build: same tokens. A 64-bit integer; digits beyond " +
      "2^53 are kept here, but many JSON writers lose them before they arrive.",
  ),
};

/** What decides when a choice ends. */
export function stopFields(limits: Limits) {
  return {
    stop: z.union([z.string().min(1), z.array(z.string().min(1)).min(1).max(limits.stopStrings)])
      .nullish().describe("Strings that end a choice; the text never contains them."),
    stop_token_ids: z.array(tokenId).max(1024).nullish(),
    ignore_eos: z.boolean().nullish().describe("Go on past the model's own stop tokens."),
  };
}

/** How the answer is delivered. */
export const deliveryFields = {
  stream: z.boolean().nullish(),
  stream_options: z.looseObject({
    include_usage: z.boolean().nullish().describe("One more chunk with the usage, before the end."),
    include_obfuscation: z.boolean().nullish().describe(
      "Pad every event to a multiple of 64 characters, against guessing tokens by their length.",
    ),
    continuous_usage_stats: z.boolean().nullish().describe("Only false is supported."),
  }).nullish(),
  return_token_ids: z.boolean().nullish(),
  cache_salt: z.string().min(1).max(256).nullish().describe(
    "Only requests with the same salt and key share cached prefixes.",
  ),
};

/** How to decode: our extension, the same as the headers but in the body. */
export const decodingField = z.strictObject({
  strategy: z.string().min(1).max(64).nullish().describe("Name from /v1/strategies."),
  params: z.record(z.string(), z.unknown()).nullish().describe("See /v1/strategies/{name}."),
  models: z.record(z.string(), z.string()).nullish().describe("Role -> model id."),
  kv_policy: z.strictObject({
    name: z.string().min(1).max(64),
    params: z.record(z.string(), z.unknown()).nullish(),
  }).nullish(),
  constraint: decodingConstraint.nullish().describe("What the answer must be."),
  trace: z.enum(["none", "summary", "steps"]).nullish(),
  fallback: z.enum(["refuse", "allow"]).nullish().describe(
    "allow = run the default strategy where the model lacks what the chosen one needs.",
  ),
});

/** Fields we take and do nothing with. */
export const ignoredFields = {
  user: z.unknown().optional().describe("Accepted and ignored."),
  metadata: z.unknown().optional().describe("Accepted and ignored."),
  store: z.unknown().optional().describe("Accepted and ignored."),
  service_tier: z.unknown().optional().describe("Accepted and ignored."),
  safety_identifier: z.unknown().optional().describe("Accepted and ignored."),
  prompt_cache_key: z.unknown().optional().describe("Accepted and ignored."),
  prompt_cache_retention: z.unknown().optional().describe("Accepted and ignored."),
  verbosity: z.unknown().optional().describe("Accepted and ignored."),
};

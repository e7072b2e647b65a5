/** `POST /v1/completions`, `/tokenize`, `/detokenize`: the requests. */
import * as z from "zod";
import type { Limits } from "../deps.ts";
import { templateFields } from "./chat.ts";
import { constraintFields } from "./constraints.ts";
import {
  decodingField,
  deliveryFields,
  ignoredFields,
  samplingFields,
  stopFields,
  tokenId,
} from "./fields.ts";
import { messagesSchema } from "./messages.ts";

/** Schema of a completion request. */
export function completionSchema(limits: Limits) {
  return z.looseObject({
    model: z.string().min(1).max(256),
    prompt: z.union([
      z.string().min(1),
      z.array(tokenId).min(1),
      z.array(z.union([z.string().min(1), z.array(tokenId).min(1)])).min(1).max(limits.sequences),
    ]).describe(
      "Text, token ids, or an array of these. Control tokens written in the text count as such.",
    ),
    max_tokens: z.int().min(0).nullish().describe("Default 16. 0 only makes sense with echo."),
    n: z.int().min(1).max(limits.choices).nullish(),
    best_of: z.int().min(1).max(20).nullish().describe("Draws this many, returns the best n."),
    echo: z.boolean().nullish().describe("Put the prompt in front of the text."),
    logprobs: z.int().min(0).max(limits.topLogprobs).nullish(),
    suffix: z.string().nullish().describe("Only the empty string is supported."),
    ...samplingFields,
    ...stopFields(limits),
    ...deliveryFields,
    ...constraintFields,
    decoding: decodingField.nullish(),
    ...ignoredFields,
  });
}

/** A validated completion request. */
export type CompletionRequest = z.output<ReturnType<typeof completionSchema>>;

/** Schema of a tokenize request: text or messages. */
export function tokenizeSchema(limits: Limits) {
  return z.looseObject({
    model: z.string().min(1).max(256).nullish().describe("Default: the first model."),
    prompt: z.string().nullish().describe("Text; exactly one of prompt and messages."),
    messages: messagesSchema(limits).nullish(),
    add_special_tokens: z.boolean().nullish().describe("Begin-of-sequence token. Default true."),
    parse_special: z.boolean().nullish().describe("Recognise control tokens. Default true."),
    return_token_strs: z.boolean().nullish(),
    ...templateFields,
  });
}

/** Schema of a detokenize request. */
export function detokenizeSchema() {
  return z.looseObject({
    model: z.string().min(1).max(256).nullish().describe("Default: the first model."),
    tokens: z.array(tokenId),
    skip_special_tokens: z.boolean().nullish().describe("Leave control tokens out. Default false."),
  });
}

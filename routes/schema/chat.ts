// deno-lint-ignore-file camelcase -- names as on the wire
/** `POST /v1/chat/completions`: the request. */
import * as z from "zod";
import type { Limits } from "../deps.ts";
import {
  decodingField,
  deliveryFields,
  ignoredFields,
  samplingFields,
  stopFields,
} from "./fields.ts";
import { constraintFields } from "./constraints.ts";
import { toolFields } from "./formats.ts";
import { messagesSchema } from "./messages.ts";

/** How messages become a prompt; `/tokenize` takes the same. */
export const templateFields = {
  add_generation_prompt: z.boolean().nullish().describe("Default true."),
  continue_final_message: z.boolean().nullish().describe("Leave the last message open."),
  chat_template_kwargs: z.record(z.string(), z.unknown()).nullish().describe(
    "Extra template variables: enable_thinking, thinking, reasoning_effort, date_string.",
  ),
};

/** Schema of a chat completion request. */
export function chatSchema(limits: Limits) {
  return z.looseObject({
    model: z.string().min(1).max(256),
    messages: messagesSchema(limits),
    max_completion_tokens: z.int().min(1).nullish().describe(
      "Upper bound on tokens per choice. Default: what the context has room for.",
    ),
    max_tokens: z.int().min(1).nullish().describe("Older name of max_completion_tokens."),
    n: z.int().min(1).max(limits.choices).nullish(),
    ...samplingFields,
    ...stopFields(limits),
    logprobs: z.boolean().nullish(),
    top_logprobs: z.int().min(0).max(limits.topLogprobs).nullish(),
    ...constraintFields,
    ...toolFields(limits),
    ...deliveryFields,
    ...templateFields,
    decoding: decodingField.nullish(),
    ...ignoredFields,
  });
}

/** A validated chat completion request. */
export type ChatRequest = z.output<ReturnType<typeof chatSchema>>;

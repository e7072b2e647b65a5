/** Chat messages: their shape, and how they become the runtime's. */
import * as z from "zod";
import type { Message } from "../../runtime/mod.ts";
import type { Limits } from "../deps.ts";
import { invalidValue, missing, unsupported } from "../errors.ts";

const textPart = z.looseObject({ type: z.literal("text"), text: z.string() });
const refusalPart = z.looseObject({ type: z.literal("refusal"), refusal: z.string() });
/** Known to the protocol; refused by the check below, since no model here takes them. */
const mediaPart = z.looseObject({
  type: z.enum(["image_url", "input_audio", "file", "video_url", "audio_url"]),
});
const part = z.discriminatedUnion("type", [textPart, refusalPart, mediaPart]);

const toolCall = z.looseObject({
  id: z.string(),
  type: z.literal("function"),
  function: z.looseObject({ name: z.string(), arguments: z.string() }),
});

/** The messages of a chat request. */
export function messagesSchema(limits: Limits) {
  const content = z.union([z.string(), z.array(part).min(1).max(limits.partsPerMessage)]);
  const named = { name: z.string().max(256).nullish() };
  const message = z.discriminatedUnion("role", [
    z.looseObject({ role: z.enum(["system", "developer", "user"]), content, ...named }),
    z.looseObject({
      role: z.literal("assistant"),
      content: content.nullish(),
      tool_calls: z.array(toolCall).max(limits.tools).nullish(),
      function_call: z.unknown().optional(),
      audio: z.unknown().optional(),
      ...named,
    }),
    z.looseObject({ role: z.literal("tool"), content, tool_call_id: z.string(), ...named }),
    z.looseObject({ role: z.literal("function"), content, name: z.string() }),
  ]);
  return z.array(message).min(1).max(limits.messages);
}

type WireMessages = z.output<ReturnType<typeof messagesSchema>>;
type WireMessage = WireMessages[number];
type WireContent = string | readonly z.output<typeof part>[];

/**
 * Messages as the runtime takes them. Text parts are joined by line breaks, as vLLM and llama.cpp
 * do; a legacy `function` message becomes a tool message.
 *
 * @throws {ApiError} 400 for parts and members that no model here understands
 */
export function toMessages(messages: WireMessages): Message[] {
  return messages.map((message, index) => {
    const at = `messages.${index}`;
    const name = message.name === undefined || message.name === null ? {} : { name: message.name };
    switch (message.role) {
      case "assistant":
        return { ...assistant(message, at), ...name };
      case "tool":
        return {
          role: "tool",
          content: toText(message.content, at),
          toolCallId: message.tool_call_id,
          ...name,
        };
      case "function":
        return { role: "tool", content: toText(message.content, at), ...name };
      default:
        return { role: message.role, content: toText(message.content, at), ...name };
    }
  });
}

function assistant(message: Extract<WireMessage, { role: "assistant" }>, at: string): Message {
  for (const field of ["function_call", "audio"] as const) {
    if (message[field] !== undefined && message[field] !== null) {
      throw unsupported(`${at}.${field}`, `Messages with ${field} are not supported`);
    }
  }
  const toolCalls = message.tool_calls ?? [];
  if ((message.content ?? undefined) === undefined && toolCalls.length === 0) {
    throw missing(`${at}.content`, "An assistant message needs content or tool_calls");
  }
  const content = message.content ?? null;
  return {
    role: "assistant",
    content: content === null ? null : toText(content, at),
    ...(toolCalls.length > 0 ? { toolCalls } : {}),
  };
}

function toText(content: WireContent, at: string): string {
  if (typeof content === "string") return content;
  return content.map((part, index) => {
    if (part.type === "text") return part.text;
    if (part.type === "refusal") return part.refusal;
    throw unsupported(
      `${at}.content.${index}.${part.type}`,
      `Content of type ${part.type} is not supported: the models here take text`,
    );
  }).join("\n");
}

/** @throws {ApiError} if the options ask to continue a message that cannot be continued */
export function checkContinuation(
  messages: readonly Message[],
  options: { readonly continueFinal: boolean; readonly addPrompt: boolean | undefined },
): void {
  if (!options.continueFinal) return;
  if (options.addPrompt === true) {
    throw invalidValue(
      "continue_final_message",
      "continue_final_message and add_generation_prompt exclude each other",
    );
  }
  if (messages.at(-1)?.content === null) {
    throw invalidValue("continue_final_message", "The last message has no content to continue");
  }
}

/** `POST /v1/chat/completions`. */
import type { ChatOptions, Message } from "../runtime/mod.ts";
import { answer, type AnswerFormat } from "./answer.ts";
import { cacheSalt } from "./auth.ts";
import { readJsonBody } from "./body.ts";
import type { Choice } from "./collect.ts";
import { resolveConstraint } from "./constraint.ts";
import { type Generation, promptTokens } from "./generation.ts";
import { chatLogprobs } from "./logprobs.ts";
import {
  type Delivery,
  resolveDelivery,
  resolveLogprobs,
  resolveMaxTokens,
  resolveSampling,
  resolveStops,
} from "./resolve.ts";
import type { ChatRequest } from "./schema/chat.ts";
import { checkTools } from "./schema/formats.ts";
import { checkContinuation, toMessages } from "./schema/messages.ts";
import { checkFields, checkTemplateKwargs } from "./schema/support.ts";
import { validate } from "./schema/validate.ts";
import { select } from "./select.ts";
import type { AppContext, Services } from "./services.ts";
import type { ChunkFormat, WireChunk } from "./streaming.ts";

/** Answers a chat completion request. */
export async function chatCompletions(c: AppContext, services: Services): Promise<Response> {
  const { deps, schemas } = services;
  const state = c.get("state");
  const raw = await readJsonBody(c.req.raw, deps.limits, deps.clock);
  const body = validate(schemas.chat, raw);
  state.ignored = checkFields(raw, schemas.chat.shape, deps.strictFields ?? false);
  const selection = select(deps, state, c.req.raw.headers, body.model, body.decoding ?? {});
  checkTools(body);
  const messages = toMessages(body.messages);
  const delivery = resolveDelivery(body);
  const generation: Generation = {
    selection,
    prompts: [messages],
    promptField: "messages",
    chat: resolveChat(body, messages),
    sampling: resolveSampling(body, selection.entry, deps.randomSeed),
    maxTokens: resolveMaxTokens(body),
    choices: body.n ?? 1,
    logprobs: resolveLogprobs(body),
    ...resolveStops(body, selection.entry),
    cacheSalt: await cacheSalt(state.caller, body.cache_salt ?? undefined),
    constraint: await resolveConstraint(services, state, selection, body),
  };
  const format = chatFormat(generation, delivery, {
    id: `chatcmpl-${deps.newId()}`,
    created: deps.clock.unixSeconds(),
  });
  return answer(c, services, generation, delivery, format);
}

/** Template options of a request. @throws {ApiError} 400 */
export function resolveChat(
  body: Pick<
    ChatRequest,
    "add_generation_prompt" | "continue_final_message" | "chat_template_kwargs"
  >,
  messages: readonly Message[],
): ChatOptions {
  const continueFinal = body.continue_final_message ?? false;
  const addPrompt = body.add_generation_prompt ?? undefined;
  checkContinuation(messages, { continueFinal, addPrompt });
  const kwargs = body.chat_template_kwargs ?? {};
  checkTemplateKwargs(kwargs);
  return {
    addGenerationPrompt: addPrompt ?? !continueFinal,
    continueFinalMessage: continueFinal,
    kwargs,
  };
}

function chatFormat(
  generation: Generation,
  { tokenIds }: Delivery,
  { id, created }: { readonly id: string; readonly created: number },
): AnswerFormat {
  const { info } = generation.selection.entry;
  const head = (object: string) => ({
    id,
    object,
    created,
    model: info.id,
    system_fingerprint: info.fingerprint,
  });
  const promptIds = () =>
    tokenIds ? { prompt_token_ids: promptTokens(generation.prompts[0]!, generation) } : {};
  const withLogprobs = generation.logprobs !== undefined;
  return {
    whole: (choices) => ({
      ...head("chat.completion"),
      choices: choices.map((choice) => wholeChoice(choice, withLogprobs, tokenIds)),
      ...promptIds(),
    }),
    chunks: chatChunks(generation, head("chat.completion.chunk"), tokenIds, promptIds),
  };
}

function wholeChoice(choice: Choice, withLogprobs: boolean, tokenIds: boolean) {
  return {
    index: choice.index,
    message: {
      role: "assistant",
      content: choice.text,
      refusal: null,
      ...choice.reasoning ? { reasoning_content: choice.reasoning } : {},
    },
    logprobs: withLogprobs ? chatLogprobs(choice.logprobs) : null,
    finish_reason: choice.reason,
    ...tokenIds ? { token_ids: choice.tokens } : {},
  };
}

function chatChunks(
  { selection, choices }: Generation,
  head: Readonly<Record<string, unknown>>,
  tokenIds: boolean,
  promptIds: () => Readonly<Record<string, unknown>>,
): ChunkFormat {
  const chunk = (
    index: number,
    delta: Readonly<Record<string, unknown>>,
    finish_reason: string | null,
    extra: Readonly<Record<string, unknown>> = { logprobs: null },
  ): WireChunk => ({ ...head, choices: [{ index, delta, ...extra, finish_reason }] });
  return {
    // Searches may find fewer choices than were asked for, and one that never ends is an error to
    // clients: theirs are opened when they come.
    sureChoices: selection.strategy.streaming === "end" ? 0 : choices,
    open: (choice) => {
      const opening = chunk(choice, { role: "assistant", content: "" }, null);
      return choice === 0 ? { ...opening, ...promptIds() } : opening;
    },
    text({ choice, text, tokens, logprobs, reasoning }) {
      if (reasoning) return chunk(choice, { reasoning_content: reasoning }, null);
      if (text === "" && !logprobs && !(tokenIds && tokens.length > 0)) return undefined;
      return chunk(choice, { content: text }, null, {
        logprobs: logprobs ? chatLogprobs(logprobs) : null,
        ...tokenIds ? { token_ids: tokens } : {},
      });
    },
    finish: ({ choice, reason }) => chunk(choice, {}, reason),
    empty: () => ({ ...head, choices: [] }),
  };
}

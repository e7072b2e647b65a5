/** A generation as the JSON body of a request: only fields the engine knows, and no default it has. */
import type { ConstraintSpec } from "../constraint_spec.ts";
import { formatFields } from "./formats.ts";
import type { ChatOptions, Message, Prompt, TokenId } from "../model.ts";
import { isMessages, type ModelDemand } from "../model.ts";
import type { SamplingParams } from "../sampling.ts";
import type { Seed } from "../rng.ts";
import type { ExtraSampling, UpstreamKind, UpstreamProfile } from "./types.ts";

/** What one call asks for. */
export interface CallOptions {
  readonly prompt: Prompt;
  readonly chat: ChatOptions;
  readonly sampling: SamplingParams;
  /** Undefined = as long as it goes. */
  readonly maxTokens: number | undefined;
  readonly choices: number;
  /** Alternatives per token; undefined = no log-probabilities. */
  readonly logprobs: number | undefined;
  readonly ignoreStop: boolean;
  readonly format: ConstraintSpec | undefined;
  readonly cacheSalt: string;
}

/** The body for one route of one engine. `model` is left to the caller. */
export function bodyOf(
  kind: UpstreamKind,
  profile: UpstreamProfile,
  call: CallOptions,
): Record<string, unknown> {
  const { maxTokens, choices, ignoreStop, format, cacheSalt } = call;
  const takesSalt = ["vllm", "sglang", "decant"].includes(profile.engine);
  return {
    ...kind === "chat" ? chatFields(profile, call) : tokenFields(profile, call),
    ...samplingFields(profile, call.sampling),
    ...maxTokens === undefined ? {} : { max_tokens: maxTokens },
    ...choices > 1 ? { n: choices } : {},
    ...ignoreStop ? { ignore_eos: true } : {},
    ...format ? formatFields(kind, profile.engine, format) : {},
    ...cacheSalt !== "" && takesSalt ? { cache_salt: cacheSalt } : {},
    stream: true,
    stream_options: { include_usage: true },
  };
}

function chatFields(
  profile: UpstreamProfile,
  { prompt, chat, logprobs }: CallOptions,
): Record<string, unknown> {
  const kwargs = chat.kwargs ?? {};
  return {
    messages: isMessages(prompt) ? prompt.map(wireMessage) : [],
    ...chat.continueFinalMessage && profile.continues
      ? { continue_final_message: true, add_generation_prompt: false }
      : {},
    ...Object.keys(kwargs).length > 0 ? { chat_template_kwargs: kwargs } : {},
    ...logprobs === undefined ? {} : { logprobs: true },
    ...logprobs === undefined || logprobs === 0 ? {} : { top_logprobs: logprobs },
  };
}

function tokenFields(
  profile: UpstreamProfile,
  { prompt, logprobs }: CallOptions,
): Record<string, unknown> {
  return {
    prompt: prompt as readonly TokenId[],
    return_token_ids: true,
    ...logprobs === undefined ? {} : { logprobs },
    // Alternatives by id: their text alone does not always tell which token they are.
    ...logprobs !== undefined && profile.engine === "vllm"
      ? { return_tokens_as_token_ids: true }
      : {},
  };
}

function wireMessage({ role, content, name, toolCalls, toolCallId }: Message) {
  return {
    role,
    content,
    ...name === undefined ? {} : { name },
    ...toolCalls === undefined ? {} : { tool_calls: toolCalls },
    ...toolCallId === undefined ? {} : { tool_call_id: toolCallId },
  };
}

function samplingFields(
  profile: UpstreamProfile,
  sampling: SamplingParams,
): Record<string, unknown> {
  const { temperature, topP, presencePenalty, frequencyPenalty, logitBias } = sampling;
  return {
    temperature,
    ...topP === 1 ? {} : { top_p: topP },
    ...presencePenalty === 0 ? {} : { presence_penalty: presencePenalty },
    ...frequencyPenalty === 0 ? {} : { frequency_penalty: frequencyPenalty },
    ...logitBias.length === 0 ? {} : { logit_bias: Object.fromEntries(logitBias) },
    ...profile.seed ? { seed: wireSeed(sampling.seed, profile) } : {},
    ...Object.fromEntries(extras(sampling)),
  };
}

/** Sampling fields in use that not every engine has. */
function extras(sampling: SamplingParams): [ExtraSampling, number][] {
  const all: [ExtraSampling, number, boolean][] = [
    ["top_k", sampling.topK, sampling.topK > 0],
    ["min_p", sampling.minP, sampling.minP > 0],
    ["typical_p", sampling.typicalP, sampling.typicalP < 1],
    ["repetition_penalty", sampling.repetitionPenalty, sampling.repetitionPenalty !== 1],
  ];
  return all.filter(([, , isUsed]) => isUsed).map(([name, value]) => [name, value]);
}

/** llama.cpp and Ollama take 32 bits; the others what JSON holds exactly. */
function wireSeed({ low, high }: Seed, { engine }: UpstreamProfile): number {
  if (engine === "llama.cpp" || engine === "ollama") return low & 0x7fffffff;
  return (high & 0x1fffff) * 4294967296 + low;
}

/** What a demand has that the upstream could only ignore. */
export function lackedBy(
  kind: UpstreamKind,
  profile: UpstreamProfile,
  demand: ModelDemand,
): readonly string[] {
  const { sampling, logprobs, chat, isChat, stopTokens, ignoreStop, kv } = demand;
  const most = kind === "chat" ? profile.chatLogprobs : profile.completionLogprobs;
  const isByTokens = kind === "completions";
  const lacks: [string, boolean][] = [
    ["KV policies", kv !== undefined],
    ["log-probabilities", logprobs !== undefined && most === undefined],
    [`more than ${most} top_logprobs`, most !== undefined && (logprobs ?? 0) > most],
    ["logit_bias", sampling.logitBias.length > 0 && !profile.logitBias],
    ["ignore_eos", ignoreStop && !profile.ignoreEos],
    ["stop_token_ids", stopTokens.length > 0 && !isByTokens],
    ["prompts of token ids", !isChat && !isByTokens],
    [
      "continue_final_message",
      !isByTokens && (chat.continueFinalMessage ?? false) && !profile.continues,
    ],
    [
      "chat_template_kwargs",
      !isByTokens && Object.keys(chat.kwargs ?? {}).length > 0 && !profile.templateKwargs,
    ],
    ...extras(sampling).map(([name]): [string, boolean] => [name, !profile.sampling.has(name)]),
  ];
  return lacks.filter(([, isLacking]) => isLacking).map(([name]) => name);
}

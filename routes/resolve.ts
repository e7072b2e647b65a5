/** Fields of a validated body -> complete values: no defaults are left to the floors below. */
import {
  type CatalogEntry,
  type SamplingParams,
  seedFrom,
  type TokenId,
  type Vocab,
} from "../runtime/mod.ts";
import { invalidValue, missing, unsupported } from "./errors.ts";
import type { ChatRequest } from "./schema/chat.ts";
import type { CompletionRequest } from "./schema/completions.ts";

type AnyRequest = ChatRequest | CompletionRequest;

/** Sampling parameters with the API's defaults. @throws {ApiError} 400 for unknown bias tokens */
export function resolveSampling(
  body: AnyRequest,
  { model }: CatalogEntry,
  randomSeed: () => bigint,
): SamplingParams {
  return {
    temperature: body.temperature ?? 1,
    topK: Math.max(0, body.top_k ?? 0),
    topP: body.top_p ?? 1,
    minP: body.min_p ?? 0,
    typicalP: body.typical_p ?? 1,
    repetitionPenalty: body.repetition_penalty ?? 1,
    presencePenalty: body.presence_penalty ?? 0,
    frequencyPenalty: body.frequency_penalty ?? 0,
    logitBias: resolveBias(body.logit_bias ?? {}, model.vocab),
    seed: seedFrom(body.seed ?? randomSeed()),
  };
}

function resolveBias(
  bias: Readonly<Record<string, number>>,
  vocab: Vocab | undefined,
): [TokenId, number][] {
  return Object.entries(bias).map(([id, value]) => {
    const token = Number(id);
    requireToken(token, vocab, `logit_bias.${id}`);
    return [token, value];
  });
}

/** @throws {ApiError} 400 if the model has no such token */
export function requireToken(token: TokenId, vocab: Vocab | undefined, param: string): void {
  if (vocab && token >= vocab.size) {
    throw invalidValue(param, `Token ${token} is outside the model's vocabulary of ${vocab.size}`);
  }
}

/** What ends a choice. */
export function resolveStops(body: AnyRequest, { model }: CatalogEntry) {
  const stopTokens = body.stop_token_ids ?? [];
  stopTokens.forEach((token, i) => requireToken(token, model.vocab, `stop_token_ids.${i}`));
  const stop = body.stop ?? [];
  return {
    stop: typeof stop === "string" ? [stop] : stop,
    stopTokens,
    ignoreStop: body.ignore_eos ?? false,
  };
}

/** How a response is delivered. */
export interface Delivery {
  readonly stream: boolean;
  readonly includeUsage: boolean;
  /** Pad events against guessing tokens by their length. */
  readonly obfuscate: boolean;
  readonly tokenIds: boolean;
}

/** @throws {ApiError} 400 for stream options without a stream, and options we cannot honour */
export function resolveDelivery(body: AnyRequest): Delivery {
  const options = body.stream_options ?? undefined;
  const stream = body.stream ?? false;
  if (options && !stream) {
    throw invalidValue("stream_options", "stream_options needs stream: true");
  }
  if (options?.continuous_usage_stats) {
    const param = "stream_options.continuous_usage_stats";
    throw unsupported(param, "Usage in every chunk is not supported");
  }
  return {
    stream,
    includeUsage: options?.include_usage ?? false,
    obfuscate: options?.include_obfuscation ?? false,
    tokenIds: body.return_token_ids ?? false,
  };
}

/** The token limit of a chat request, which has two names. @throws {ApiError} 400 if they differ */
export function resolveMaxTokens(body: ChatRequest): number | undefined {
  const { max_completion_tokens: limit, max_tokens: older } = body;
  if (limit && older && limit !== older) {
    throw invalidValue("max_tokens", "max_tokens and max_completion_tokens are different");
  }
  return limit ?? older ?? undefined;
}

/** Top log-probabilities of a chat request. @throws {ApiError} 400 for top_logprobs alone */
export function resolveLogprobs(body: ChatRequest): number | undefined {
  if (body.logprobs) return body.top_logprobs ?? 0;
  if (body.top_logprobs) throw invalidValue("top_logprobs", "top_logprobs needs logprobs: true");
  return undefined;
}

/** The vocabulary of a model. @throws {ApiError} 400 if its tokens never reach the gateway */
export function requireVocab({ model, info }: CatalogEntry, param: string): Vocab {
  if (model.vocab) return model.vocab;
  throw unsupported(param, `The tokens of model ${info.id} are not known here`);
}

/** @throws {ApiError} if `value` is absent */
export function required<T>(value: T | null | undefined, param: string): T {
  if (value === null || value === undefined) throw missing(param, `Missing ${param}`);
  return value;
}

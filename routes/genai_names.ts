/**
 * Every OpenTelemetry name the gateway uses, in one table: the GenAI conventions are still changing.
 *
 * Source: OpenTelemetry semantic conventions for generative AI, status Development, 2026.
 */

/** Attributes of spans and metrics. */
export const attributes = {
  operation: "gen_ai.operation.name",
  provider: "gen_ai.provider.name",
  requestModel: "gen_ai.request.model",
  choices: "gen_ai.request.choice.count",
  seed: "gen_ai.request.seed",
  stream: "gen_ai.request.stream",
  topK: "gen_ai.request.top_k",
  temperature: "gen_ai.request.temperature",
  topP: "gen_ai.request.top_p",
  maxTokens: "gen_ai.request.max_tokens",
  frequencyPenalty: "gen_ai.request.frequency_penalty",
  presencePenalty: "gen_ai.request.presence_penalty",
  outputType: "gen_ai.output.type",
  responseModel: "gen_ai.response.model",
  finishReasons: "gen_ai.response.finish_reasons",
  firstChunk: "gen_ai.response.time_to_first_chunk",
  inputTokens: "gen_ai.usage.input_tokens",
  outputTokens: "gen_ai.usage.output_tokens",
  tokenType: "gen_ai.token.type",
  errorType: "error.type",
  route: "http.route",
  // Our own.
  requestId: "decoding.request.id",
  strategy: "decoding.strategy.name",
  source: "decoding.strategy.source",
  kvPolicy: "decoding.kv_policy.name",
  drawnTokens: "decoding.usage.tokens_drawn",
  queueTime: "decoding.queue_time",
  /** Followed by the name of a strategy's own figure. */
  metricPrefix: "decoding.metric.",
  /** Followed by the name of a step's field. */
  stepPrefix: "decoding.step.",
} as const;

const fours = Array.from({ length: 14 }, (_, power) => 4 ** power);
const seconds = [.01, .02, .04, .08, .16, .32, .64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92];
const first = [.001, .005, .01, .02, .04, .06, .08, .1, .25, .5, .75, 1, 2.5, 5, 7.5, 10];
const perToken = [.01, .025, .05, .075, .1, .15, .2, .3, .4, .5, .75, 1, 2.5];

/** Histograms: name, unit, bounds. */
export const histograms = {
  tokenUsage: { name: "gen_ai.client.token.usage", unit: "{token}", bounds: fours },
  duration: { name: "gen_ai.server.request.duration", unit: "s", bounds: seconds },
  firstToken: { name: "gen_ai.server.time_to_first_token", unit: "s", bounds: first },
  perToken: { name: "gen_ai.server.time_per_output_token", unit: "s", bounds: perToken },
} as const;

/** `gen_ai.provider.name` of models in this process. */
export const ownProvider = "decant";

/** Route -> `gen_ai.operation.name`. */
export const operations: Readonly<Record<string, string>> = {
  "/v1/chat/completions": "chat",
  "/v1/completions": "text_completion",
  "/v1/embeddings": "embeddings",
};

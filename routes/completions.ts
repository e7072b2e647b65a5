/** `POST /v1/completions`. */
import { answer, type AnswerFormat } from "./answer.ts";
import { cacheSalt } from "./auth.ts";
import { readJsonBody } from "./body.ts";
import { completionFormat, promptOnly } from "./completion_format.ts";
import { resolveConstraint } from "./constraint.ts";
import { type Echo, echoPrompts } from "./echo.ts";
import { ApiError, invalidValue, unsupported } from "./errors.ts";
import type { Generation } from "./generation.ts";
import { toPrompts } from "./prompts.ts";
import { resolveDelivery, resolveSampling, resolveStops } from "./resolve.ts";
import type { CompletionRequest } from "./schema/completions.ts";
import { checkFields } from "./schema/support.ts";
import { validate } from "./schema/validate.ts";
import { type DecodingRequest, select } from "./select.ts";
import type { AppContext, Services } from "./services.ts";

/** Answers a completion request. */
export async function completions(c: AppContext, services: Services): Promise<Response> {
  const { deps, schemas } = services;
  const state = c.get("state");
  const raw = await readJsonBody(c.req.raw, deps.limits, deps.clock);
  const body = validate(schemas.completion, raw);
  state.ignored = checkFields(raw, schemas.completion.shape, deps.strictFields ?? false);
  if (body.suffix) throw unsupported("suffix", "suffix is not supported");
  const { headers } = c.req.raw;
  const selection = select(deps, state, headers, body.model, decodingFor(body, headers));
  const delivery = resolveDelivery(body);
  const echo = body.echo ?? false;
  const generation: Generation = {
    selection,
    prompts: toPrompts(body.prompt, selection.entry),
    promptField: "prompt",
    chat: {},
    sampling: resolveSampling(body, selection.entry, deps.randomSeed),
    maxTokens: body.max_tokens ?? 16,
    choices: body.n ?? 1,
    logprobs: body.logprobs ?? undefined,
    ...resolveStops(body, selection.entry),
    cacheSalt: await cacheSalt(state.caller, body.cache_salt ?? undefined),
    constraint: await resolveConstraint(services, state, selection, body),
  };
  const identity = { id: `cmpl-${deps.newId()}`, created: deps.clock.unixSeconds() };
  if (generation.maxTokens === 0) {
    if (!echo) throw invalidValue("max_tokens", "max_tokens 0 needs echo: true");
    return promptOnly(c, services, generation, delivery, identity);
  }
  let echoes: readonly Echo[] = [];
  const prepare: AnswerFormat["prepare"] = async (work) => {
    if (echo) echoes = await echoPrompts(generation, state, work);
  };
  const format = completionFormat(generation, delivery, identity, (prompt) => echoes[prompt]);
  return answer(c, services, generation, delivery, { prepare, ...format });
}

/**
 * The decoding request behind `best_of`: drawing more than is returned is what the strategy
 * best-of-n does.
 *
 * @throws {ApiError} 400 if `best_of` is below `n`, or another strategy was asked for
 */
function decodingFor(body: CompletionRequest, headers: Headers): DecodingRequest {
  const decoding = body.decoding ?? {};
  const bestOf = body.best_of ?? undefined;
  const choices = body.n ?? 1;
  if (bestOf === undefined) return decoding;
  if (bestOf < choices) throw invalidValue("best_of", "best_of must be at least n");
  if (bestOf === choices) return decoding;
  if (decoding.strategy || decoding.params || headers.has("X-Decoding-Strategy")) {
    throw new ApiError(
      400,
      "strategy_conflict",
      "best_of chooses the strategy best-of-n; another strategy was asked for as well",
      { param: "best_of" },
    );
  }
  return { ...decoding, strategy: "best-of-n", params: { num_samples: bestOf } };
}

// deno-lint-ignore-file camelcase -- names as on the wire
/** Plain completions on the wire, whole and in chunks, with the prompt in front where asked for. */
import { openWork, requestTimeout } from "./admission.ts";
import type { AnswerFormat } from "./answer.ts";
import type { Choice } from "./collect.ts";
import { type Echo, echoPrompts } from "./echo.ts";
import { ContextLengthError } from "../runtime/mod.ts";
import { endReason, type Generation, promptTokens } from "./generation.ts";
import {
  completionLogprobs,
  type CompletionToken,
  type OffsetCounter,
  offsetCounter,
} from "./logprobs.ts";
import type { Delivery } from "./resolve.ts";
import type { AppContext, Services } from "./services.ts";
import { dataFrame, doneFrame, eventStreamHeaders } from "./sse.ts";
import type { WireChunk } from "./streaming.ts";

/** What all objects of one response share. */
export interface Identity {
  readonly id: string;
  readonly created: number;
}

function headOf({ selection: { entry: { info } } }: Generation, { id, created }: Identity) {
  return {
    id,
    object: "text_completion",
    created,
    model: info.id,
    system_fingerprint: info.fingerprint,
  };
}

/**
 * Writes completions.
 *
 * @param echoOf the echo of a prompt, by its index
 */
export function completionFormat(
  generation: Generation,
  { tokenIds }: Delivery,
  identity: Identity,
  echoOf: (prompt: number) => Echo | undefined,
): AnswerFormat {
  const { selection, choices, logprobs: top, prompts } = generation;
  const head = headOf(generation, identity);
  const promptOf = (choice: number) => Math.floor(choice / choices);
  const promptIds = (choice: number) =>
    tokenIds ? { prompt_token_ids: promptTokens(prompts[promptOf(choice)]!, generation) } : {};
  const counters = new Map<number, OffsetCounter>();
  const counterOf = (choice: number): OffsetCounter => {
    let counter = counters.get(choice);
    if (!counter) counters.set(choice, counter = offsetCounter());
    return counter;
  };
  const logprobsOf = (choice: number, tokens: readonly CompletionToken[] | undefined) =>
    top === undefined || !tokens ? null : completionLogprobs(tokens, counterOf(choice), top);
  const chunk = (
    index: number,
    text: string,
    finish_reason: string | null,
    extra: Readonly<Record<string, unknown>> = { logprobs: null },
  ): WireChunk => ({ ...head, choices: [{ index, text, ...extra, finish_reason }] });
  const wholeChoice = (choice: Choice) => {
    const echo = echoOf(promptOf(choice.index));
    return {
      index: choice.index,
      text: (echo?.text ?? "") + choice.text,
      logprobs: logprobsOf(choice.index, [...echo?.tokens ?? [], ...choice.logprobs]),
      finish_reason: choice.reason,
      ...tokenIds ? { ...promptIds(choice.index), token_ids: choice.tokens } : {},
    };
  };
  return {
    whole: (done) => ({ ...head, choices: done.map(wholeChoice) }),
    chunks: {
      sureChoices: selection.strategy.streaming === "end" ? 0 : choices * prompts.length,
      open(choice) {
        const echo = echoOf(promptOf(choice));
        if (!echo && !tokenIds) return undefined;
        return chunk(choice, echo?.text ?? "", null, {
          logprobs: logprobsOf(choice, echo?.tokens),
          ...promptIds(choice),
        });
      },
      text({ choice, text, tokens, logprobs }) {
        if (text === "" && !logprobs && !(tokenIds && tokens.length > 0)) return undefined;
        return chunk(choice, text, null, {
          logprobs: logprobsOf(choice, logprobs),
          ...tokenIds ? { token_ids: tokens } : {},
        });
      },
      finish: ({ choice, reason }) => chunk(choice, "", reason),
      empty: () => ({ ...head, choices: [] }),
    },
  };
}

/**
 * The answer to `max_tokens: 0` with `echo`: prompts and their log-probabilities, nothing decoded.
 *
 * @throws {ContextLengthError} if a prompt does not fit
 */
export async function promptOnly(
  c: AppContext,
  services: Services,
  generation: Generation,
  delivery: Delivery,
  identity: Identity,
): Promise<Response> {
  const state = c.get("state");
  const { prompts, choices } = generation;
  const { contextLength } = generation.selection.entry.model;
  for (const { length } of prompts) {
    if (length > contextLength) throw new ContextLengthError(length, 0, contextLength);
  }
  const timeout = requestTimeout(c.req.raw.headers, services.deps.limits.requestMs);
  const work = openWork(services, state, timeout);
  try {
    await work.admitted;
    const echoes = await echoPrompts(generation, state, work);
    const format = completionFormat(generation, delivery, identity, (prompt) => echoes[prompt]);
    const done = Array.from({ length: prompts.length * choices }, (_, index): Choice => ({
      index,
      text: "",
      tokens: [],
      logprobs: [],
      reason: "length",
    }));
    const prompt_tokens = prompts.reduce((sum, prompt) => sum + prompt.length, 0);
    const usage = { prompt_tokens, completion_tokens: 0, total_tokens: prompt_tokens };
    const body = { ...format.whole(done), usage };
    if (!delivery.stream) return Response.json(body);
    return new Response(dataFrame(body) + doneFrame, { headers: eventStreamHeaders });
  } catch (error) {
    throw endReason(error, work);
  } finally {
    work.close();
  }
}

/** A checked request for text, and the runs that answer it: one per prompt. */
import {
  type ChatOptions,
  ContextLengthError,
  encodePrompt,
  isMessages,
  type Prompt,
  type SamplingParams,
  type TokenId,
} from "../runtime/mod.ts";
import { type RunResult, runStrategy } from "../strategies/mod.ts";
import type { RequestWork } from "./admission.ts";
import { type RequestConstraint, verified } from "./constraint.ts";
import type { AppDeps } from "./deps.ts";
import { ApiError, invalidValue, toApiError } from "./errors.ts";
import { mergeRuns, type Run } from "./merge_runs.ts";
import type { Selection } from "./select.ts";
import type { RequestState } from "./state.ts";

/** Everything about one request, with defaults filled in. */
export interface Generation {
  readonly selection: Selection;
  readonly prompts: readonly Prompt[];
  /** Name of the field the prompts came from, for errors. */
  readonly promptField: "messages" | "prompt";
  readonly chat: ChatOptions;
  readonly sampling: SamplingParams;
  /** Per choice; undefined = what the context has room for. */
  readonly maxTokens: number | undefined;
  /** Alternatives per prompt. */
  readonly choices: number;
  /** Top log-probabilities per token; undefined = none at all. */
  readonly logprobs: number | undefined;
  readonly stop: readonly string[];
  readonly stopTokens: readonly TokenId[];
  readonly ignoreStop: boolean;
  readonly cacheSalt: string;
  readonly constraint: RequestConstraint | undefined;
  /** Told of every step of the strategy, where somebody records them. */
  readonly onStep?: ((event: Readonly<Record<string, unknown>>) => void) | undefined;
}

/** The result of all runs of a request. */
export interface Results {
  readonly usage: RunResult["usage"];
  /** One per prompt. */
  readonly runs: readonly RunResult[];
}

/**
 * Starts a request's runs. Events carry `choice = prompt * n + i`.
 *
 * @throws {ApiError} for everything that can be refused before any work; nothing runs then
 */
export function startRuns(
  generation: Generation,
  { limits, clock, calibrations }: AppDeps,
  state: RequestState,
  work: RequestWork,
): Run<Results> {
  checkSequences(generation, limits.sequences);
  const { selection, prompts, promptField, choices, maxTokens, constraint, ...rest } = generation;
  const { strategy, params, models, kv, trace } = selection;
  const runs = prompts.map((prompt, index) => {
    try {
      const run = runStrategy({
        ...rest,
        id: prompts.length === 1 ? state.id : `${state.id}-${index}`,
        strategy,
        params,
        models,
        prompt,
        maxTokens: maxTokens ?? roomFor(prompt, generation),
        choices,
        constraint: constraint?.constraint,
        format: constraint?.format,
        kv,
        trace,
        signal: work.signal,
        clock: () => clock.monotonicMs(),
        calls: state.calls,
        ...calibrations ? { calibrations } : {},
      });
      return constraint ? verified(run, constraint, generation.stopTokens) : run;
    } catch (error) {
      throw refusal(error, prompts.length === 1 ? promptField : `${promptField}.${index}`);
    }
  });
  const stop = (cause: unknown) =>
    work.abort("error", toApiError(cause, { requestId: state.id, checking: false }));
  return sumUp(mergeRuns(runs, choices, stop));
}

/** A request may hold so many sequences in all: prompts times what the strategy keeps per prompt. */
function checkSequences({ selection, prompts, choices }: Generation, limit: number): void {
  const { strategy, parsed } = selection;
  const count = (n: number) => strategy.sequences(parsed, n) * prompts.length;
  if (count(choices) <= limit) return;
  const message = `The request needs ${count(choices)} sequences at once, the limit is ${limit}`;
  if (prompts.length > 1) throw invalidValue("prompt", message);
  if (choices > 1 && count(1) <= limit) throw invalidValue("n", message);
  throw new ApiError(400, "invalid_strategy_param", message, { param: "decoding.params" });
}

/** Tokens left in the smallest context; at least 1, so that a full one is refused and not empty. */
function roomFor(prompt: Prompt, { selection, chat }: Generation): number {
  const rooms = Object.values(selection.models).map((model) =>
    model.vocab === undefined
      ? model.contextLength
      : model.contextLength - encodePrompt(prompt, model.vocab, { model: model.id, chat }).length
  );
  return Math.max(1, Math.min(...rooms));
}

function refusal(error: unknown, param: string): unknown {
  if (error instanceof ContextLengthError) {
    return new ApiError(400, "context_length_exceeded", error.message, {
      param,
      extra: { n_prompt_tokens: error.promptTokens, n_ctx: error.limit },
    });
  }
  // What a strategy or a prompt cannot take arrives as a RangeError of the floor below.
  if (error instanceof Error && error.constructor === RangeError) {
    return invalidValue(param, error.message);
  }
  return error;
}

async function* sumUp(runs: Run<readonly RunResult[]>): Run<Results> {
  const results = yield* runs;
  const sum = (key: keyof RunResult["usage"]) =>
    results.reduce((total, { usage }) => total + usage[key], 0);
  return {
    usage: {
      promptTokens: sum("promptTokens"),
      cachedTokens: sum("cachedTokens"),
      completionTokens: sum("completionTokens"),
      drawnTokens: sum("drawnTokens"),
    },
    runs: results,
  };
}

/** Number of prompt tokens, where the model's tokens are known. */
export function promptTokens(prompt: Prompt, { selection, chat }: Generation): readonly TokenId[] {
  const { model, info } = selection.entry;
  if (!model.vocab) return isMessages(prompt) ? [] : prompt as readonly TokenId[];
  return encodePrompt(prompt, model.vocab, { model: info.id, chat });
}

/** The reason a run ended: the abort that stopped it, if one did. */
export function endReason(error: unknown, work: RequestWork): unknown {
  return work.signal.aborted ? work.signal.reason : error;
}

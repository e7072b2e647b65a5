/** Runs any strategy for one request: checks, scope, stop strings, limits, usage, cancellation. */
import {
  type CallCounts,
  type ChatOptions,
  ClosedError,
  type Constraint,
  type ConstraintSpec,
  createRng,
  type KvChoice,
  type LanguageModel,
  type Meter,
  type Prompt,
  type SamplingParams,
  type TextLogprob,
  type TokenId,
  type Vocab,
} from "../runtime/mod.ts";
import type { Calibration } from "./_cascade_rule.ts";
import { checkRequest, parseParams } from "./_checks.ts";
import { ChoiceOutput, type OutputRules } from "./_choice_output.ts";
import { type ModelScope, scopeModels } from "./_scope.ts";
import { createStopCheck } from "./_stop_check.ts";
import { compileStops } from "./_stop_strings.ts";
import type { Chunk, Finish, Roles, Strategy, StrategyContext } from "./strategy.ts";

export { RoleError, StrategyParamError } from "./_errors.ts";
export type { TextCandidate, TextLogprob } from "../runtime/mod.ts";

/** How much the response tells about the decoding. */
export type TraceLevel = "none" | "summary" | "steps";

/** One request for a strategy, already free of HTTP. */
export interface RunRequest {
  readonly id: string;
  readonly strategy: Strategy;
  /** Unvalidated parameters. */
  readonly params: Readonly<Record<string, unknown>>;
  /** A model per role of the strategy. */
  readonly models: Readonly<Record<string, LanguageModel>>;
  readonly prompt: Prompt;
  readonly chat: ChatOptions;
  readonly sampling: SamplingParams;
  /** Per choice; stop tokens count. */
  readonly maxTokens: number;
  readonly choices: number;
  /** Top log-probabilities per token; undefined = no log-probabilities. */
  readonly logprobs: number | undefined;
  /** Strings that end a choice; the text never contains them. */
  readonly stop: readonly string[];
  /** Further tokens that end a choice. */
  readonly stopTokens: readonly TokenId[];
  readonly ignoreStop: boolean;
  /** Undefined as well where every model honours `format` by itself. */
  readonly constraint: Constraint | undefined;
  /** What the constraint says, where it can be said. @default the constraint is a function */
  readonly format?: ConstraintSpec | undefined;
  readonly kv: KvChoice | undefined;
  readonly cacheSalt: string;
  readonly trace: TraceLevel;
  /** Told of every trace event when it happens, whatever the level. */
  readonly onStep?: ((event: Readonly<Record<string, unknown>>) => void) | undefined;
  readonly signal: AbortSignal;
  /** Milliseconds, never going back: lets strategies measure what passes cost. */
  readonly clock?: () => number;
  /** Counts the calls made to upstreams. @default nobody counts */
  readonly calls?: CallCounts;
  /** Calibrated rules by name. @default none */
  readonly calibrations?: ReadonlyMap<string, Calibration>;
}

/** Output in order. Per choice: any number of "text", then exactly one "finish". */
export type RunEvent =
  | {
    readonly type: "text";
    readonly choice: number;
    /** Whole characters; may be empty when only tokens or log-probabilities are new. */
    readonly text: string;
    /** What the model thought before the text, where it is told apart. */
    readonly reasoning?: string;
    /** Tokens behind the text, without the one that stopped the choice. */
    readonly tokens: readonly TokenId[];
    /** Present exactly when the request asked for log-probabilities. Bytes joined equal the text's. */
    readonly logprobs?: readonly TextLogprob[];
  }
  | {
    readonly type: "finish";
    readonly choice: number;
    readonly reason: "stop" | "length";
    /** The stop string or token that ended the choice, if one did. */
    readonly stoppedBy?: string | TokenId;
  };

/** What a request used and how its strategy fared. */
export interface RunResult {
  readonly usage: {
    readonly promptTokens: number;
    readonly cachedTokens: number;
    /** Emitted tokens of all returned choices, stop tokens included. */
    readonly completionTokens: number;
    /** Tokens drawn at all models together, emitted or not. */
    readonly drawnTokens: number;
  };
  readonly meters: Readonly<Record<string, Meter>>;
  readonly metrics: Readonly<Record<string, number>>;
  readonly choices: readonly Readonly<Record<string, number>>[];
  /** Model that each choice came from, from strategies that choose one. */
  readonly servedBy?: readonly string[];
  /** Events recorded at trace level "steps". */
  readonly steps: readonly Readonly<Record<string, unknown>>[];
}

/**
 * Runs a strategy. Everything that can be refused is refused when this is called, before the first
 * `next()`; breaking out closes all sessions.
 *
 * @throws {StrategyParamError} synchronously, for unknown or out-of-range parameters
 * @throws {CapabilityError} synchronously, if a model lacks what its role needs, or the strategy
 *   cannot honour the constraint
 * @throws {ContextLengthError} synchronously, if prompt plus maxTokens do not fit a model
 * @throws {RoleError} synchronously, if models do not go together
 * @throws {RangeError} synchronously, for an empty prompt or stop string
 */
export function runStrategy(request: RunRequest): AsyncGenerator<RunEvent, RunResult, void> {
  const params = parseParams(request.strategy, request.params);
  const roles = checkRequest(request, params);
  return execute(request, { params, roles, rules: outputRules(request) });
}

function outputRules(request: RunRequest): OutputRules {
  const { strategy, models, stop, maxTokens, logprobs } = request;
  const vocab = models[Object.keys(strategy.needs)[0]!]!.vocab;
  return {
    vocab,
    strings: compileStops(stop),
    tokens: stopTokensOf(vocab, request),
    maxTokens,
    logprobs: logprobs !== undefined,
  };
}

function stopTokensOf(
  vocab: Vocab | undefined,
  { ignoreStop, stopTokens }: RunRequest,
): ReadonlySet<TokenId> {
  return new Set([...ignoreStop ? [] : vocab?.stopTokens ?? [], ...stopTokens]);
}

async function* execute(
  request: RunRequest,
  { params, roles, rules }: {
    readonly params: unknown;
    readonly roles: readonly string[];
    readonly rules: OutputRules;
  },
): AsyncGenerator<RunEvent, RunResult, void> {
  const { strategy, choices } = request;
  const ended = new AbortController();
  const signal = AbortSignal.any([request.signal, ended.signal]);
  const scope = scopeModels(request, roles, signal);
  const outputs = Array.from({ length: choices }, (_, choice) => new ChoiceOutput(choice, rules));
  const steps: Readonly<Record<string, unknown>>[] = [];
  try {
    request.signal.throwIfAborted();
    const chunks = strategy.run(contextOf(request, params, rules, { scope, signal, steps }));
    const finish = yield* drain(chunks, outputs, request.signal);
    return resultOf(outputs, scope.meters, finish, steps);
  } finally {
    ended.abort(new ClosedError("The request has ended"));
    scope.close();
  }
}

/**
 * Passes a strategy's chunks through the choices' outputs. Once all choices are done, the strategy
 * may say how it fared; if it goes on instead, it is stopped.
 */
async function* drain(
  chunks: AsyncGenerator<Chunk, Finish, void>,
  outputs: readonly ChoiceOutput[],
  signal: AbortSignal,
): AsyncGenerator<RunEvent, Finish | undefined, void> {
  let finish: Finish | undefined;
  try {
    for (let isOver = false; finish === undefined;) {
      const next = await chunks.next();
      if (next.done) {
        finish = next.value;
      } else if (isOver) {
        return undefined;
      } else {
        const { choice } = next.value;
        const output = outputs[choice];
        if (!output) throw new RangeError(`There is no choice ${choice} of ${outputs.length}`);
        yield* output.push(next.value);
        signal.throwIfAborted();
        isOver = outputs.every((output) => output.done);
      }
    }
  } finally {
    await chunks.return({ reasons: [] });
  }
  for (const [choice, reason] of finish.reasons.entries()) yield* outputs[choice]!.end(reason);
  return finish;
}

function contextOf(
  request: RunRequest,
  params: unknown,
  rules: OutputRules,
  run: {
    readonly scope: ModelScope;
    readonly signal: AbortSignal;
    readonly steps: Readonly<Record<string, unknown>>[];
  },
): StrategyContext<unknown, Roles> {
  const { prompt, chat, sampling, maxTokens, choices, logprobs, constraint } = request;
  return {
    models: run.scope.models,
    prompt,
    chat,
    params,
    sampling,
    maxTokens,
    choices,
    logprobs,
    constraint,
    format: request.format,
    ignoreStop: request.ignoreStop,
    createStopCheck: (vocab = rules.vocab) =>
      createStopCheck(
        vocab === rules.vocab ? rules : { ...rules, vocab, tokens: stopTokensOf(vocab, request) },
      ),
    calibrations: request.calibrations ?? new Map(),
    rng: createRng(sampling.seed),
    signal: run.signal,
    clock: request.clock,
    trace: tracer(request, run.steps),
  };
}

/** Where trace events go: to the result, to whoever watches, to both or nowhere. */
function tracer(
  { trace, onStep }: RunRequest,
  steps: Readonly<Record<string, unknown>>[],
): (event: Readonly<Record<string, unknown>>) => void {
  if (trace !== "steps") return onStep ?? (() => {});
  return (event) => {
    steps.push(event);
    onStep?.(event);
  };
}

function resultOf(
  outputs: readonly ChoiceOutput[],
  meters: Readonly<Record<string, Meter>>,
  finish: Finish | undefined,
  steps: readonly Readonly<Record<string, unknown>>[],
): RunResult {
  const spent = Object.values(meters);
  // A strategy may answer without its first model.
  const prompted = spent.find(({ promptTokens }) => promptTokens > 0) ?? spent[0]!;
  return {
    usage: {
      promptTokens: prompted.promptTokens,
      cachedTokens: prompted.cachedTokens,
      completionTokens: outputs.reduce((sum, { count }) => sum + count, 0),
      drawnTokens: spent.reduce((sum, { drawnTokens }) => sum + drawnTokens, 0),
    },
    meters,
    metrics: finish?.metrics ?? {},
    choices: finish?.choices ?? [],
    ...finish?.servedBy ? { servedBy: finish.servedBy } : {},
    steps,
  };
}

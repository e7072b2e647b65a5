/** Runs any strategy for one request: checks, scope, stop strings, limits, usage, cancellation. */
import { ClosedError, createRng, type Meter, type TokenId, type Vocab } from "../runtime/mod.ts";
import { checkRequest, parseParams } from "./_checks.ts";
import { ChoiceOutput, type OutputRules } from "./_choice_output.ts";
import type { RunEvent, RunRequest, RunResult } from "./_run_types.ts";
import { type ModelScope, scopeModels } from "./_scope.ts";
import { createStopCheck } from "./_stop_check.ts";
import { compileStops } from "./_stop_strings.ts";
import type { Chunk, Finish, Roles, StrategyContext } from "./strategy.ts";

export { RoleError, StrategyParamError } from "./_errors.ts";
export type { TextCandidate, TextLogprob } from "../runtime/mod.ts";
export type { RunEvent, RunRequest, RunResult, TraceLevel } from "./_run_types.ts";

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

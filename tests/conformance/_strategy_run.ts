/** Running a strategy in tests. */
import {
  greedySampling,
  type LanguageModel,
  type Prompt,
  type SamplingParams,
  seedFrom,
} from "../../runtime/mod.ts";
import {
  getStrategy,
  type RunEvent,
  type RunRequest,
  type RunResult,
  runStrategy,
  type Strategy,
  type TextLogprob,
} from "../../strategies/mod.ts";

/** Requests differ from {@link requestOf}'s defaults in these. */
export type RequestOverrides =
  & Partial<Omit<RunRequest, "strategy" | "sampling" | "models">>
  & { readonly sampling?: Partial<SamplingParams> };

export const chatPrompt: Prompt = [{ role: "user", content: "abba" }];

/** A complete request: temperature 1, seed 7, 24 tokens, one choice, nothing else. */
export function requestOf(
  strategy: Strategy | string,
  models: Readonly<Record<string, LanguageModel>> | LanguageModel,
  overrides: RequestOverrides = {},
): RunRequest {
  const found = typeof strategy === "string" ? getStrategy(strategy) : strategy;
  const { sampling, ...rest } = overrides;
  return {
    id: "req-1",
    strategy: found,
    params: {},
    models: isModel(models) ? everyRole(found, models) : models,
    prompt: chatPrompt,
    chat: {},
    maxTokens: 24,
    choices: 1,
    logprobs: undefined,
    stop: [],
    stopTokens: [],
    ignoreStop: false,
    constraint: undefined,
    kv: undefined,
    cacheSalt: "",
    trace: "none",
    signal: new AbortController().signal,
    ...rest,
    sampling: { ...greedySampling, temperature: 1, seed: seedFrom(7), ...sampling },
  };
}

function isModel(
  models: Readonly<Record<string, LanguageModel>> | LanguageModel,
): models is LanguageModel {
  return typeof models.session === "function";
}

function everyRole(strategy: Strategy, model: LanguageModel): Record<string, LanguageModel> {
  const roles = Object.keys({ ...strategy.needs, ...strategy.optionalNeeds });
  return Object.fromEntries(roles.map((role) => [role, model]));
}

/** Everything one choice came to. */
export interface ChoiceOutcome {
  readonly text: string;
  readonly tokens: readonly number[];
  readonly logprobs: readonly TextLogprob[];
  readonly reason: "stop" | "length";
  readonly stoppedBy: string | number | undefined;
}

/** Everything a run came to. */
export interface Outcome {
  readonly events: readonly RunEvent[];
  readonly choices: readonly ChoiceOutcome[];
  readonly result: RunResult;
}

/** Runs to the end and gathers the events by choice. */
export async function runToEnd(request: RunRequest): Promise<Outcome> {
  const events: RunEvent[] = [];
  const run = runStrategy(request);
  for (;;) {
    const next = await run.next();
    if (next.done) return { events, choices: gather(events), result: next.value };
    events.push(next.value);
  }
}

function gather(events: readonly RunEvent[]): ChoiceOutcome[] {
  const ends = events.flatMap((event) => event.type === "finish" ? [event] : []);
  return ends.sort((a, b) => a.choice - b.choice).map(({ choice, reason, stoppedBy }) => {
    const parts = events.flatMap((event) =>
      event.type === "text" && event.choice === choice ? [event] : []
    );
    return {
      text: parts.map(({ text }) => text).join(""),
      tokens: parts.flatMap(({ tokens }) => tokens),
      logprobs: parts.flatMap(({ logprobs }) => logprobs ?? []),
      reason,
      stoppedBy,
    };
  });
}

/** Lets everything that is ready run, up to the next event-loop turn. */
export function nextTurn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

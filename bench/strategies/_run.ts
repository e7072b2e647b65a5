/** One run of a strategy to its end, and many of them side by side. */
import {
  type Constraint,
  greedySampling,
  type LanguageModel,
  type Prompt,
  type SamplingParams,
  seedFrom,
} from "../../runtime/mod.ts";
import {
  type Calibration,
  getStrategy,
  type RunResult,
  runStrategy,
  type TraceLevel,
} from "../../strategies/mod.ts";

/** A strategy and its parameters, as a request names them. */
export interface Way {
  readonly strategy: string;
  readonly params?: Readonly<Record<string, unknown>>;
}

/** What is asked for; the rest of a request is switched off. */
export interface Ask {
  /** A model per role. */
  readonly models: Readonly<Record<string, LanguageModel>>;
  readonly prompt: Prompt;
  readonly maxTokens: number;
  readonly seed: number;
  /** @default greedy */
  readonly sampling?: Partial<SamplingParams>;
  /** @default 1 */
  readonly choices?: number;
  readonly constraint?: Constraint | undefined;
  /** @default "none" */
  readonly trace?: TraceLevel;
  readonly calibrations?: ReadonlyMap<string, Calibration>;
  /** Names what prefixes may be shared with. @default all runs */
  readonly cacheSalt?: string;
  /** Lets the strategy measure what its passes cost. */
  readonly clock?: () => number;
}

/** What a run gave; lists have an entry per choice returned. */
export interface Answers {
  readonly texts: readonly string[];
  readonly tokens: readonly (readonly number[])[];
  readonly reasons: readonly ("stop" | "length")[];
  /** Wall time in milliseconds. */
  readonly ms: number;
  readonly result: RunResult;
}

/** Runs a strategy to its end. */
export async function run({ strategy, params = {} }: Way, ask: Ask): Promise<Answers> {
  const { sampling, seed, choices = 1, cacheSalt = "", trace = "none", constraint } = ask;
  const started = performance.now();
  const events = runStrategy({
    ...ask,
    id: "quality",
    strategy: getStrategy(strategy),
    params,
    chat: {},
    sampling: { ...greedySampling, ...sampling, seed: seedFrom(seed) },
    choices,
    logprobs: undefined,
    stop: [],
    stopTokens: [],
    ignoreStop: false,
    constraint,
    kv: undefined,
    cacheSalt,
    trace,
    signal: new AbortController().signal,
  });
  const texts: string[] = [];
  const tokens: number[][] = [];
  const reasons: ("stop" | "length")[] = [];
  for (;;) {
    const next = await events.next();
    if (next.done) {
      return { texts, tokens, reasons, ms: performance.now() - started, result: next.value };
    }
    const event = next.value;
    texts[event.choice] ??= "";
    tokens[event.choice] ??= [];
    if (event.type === "finish") reasons[event.choice] = event.reason;
    else {
      texts[event.choice] += event.text;
      tokens[event.choice]!.push(...event.tokens);
    }
  }
}

/** Requests under way at a time: enough to fill the engine's steps. */
const parallel = 16;

/** Results in the order of the items. */
export async function sideBySide<T, R>(
  items: readonly T[],
  work: (item: T, index: number) => Promise<R>,
): Promise<R[]> {
  const results: R[] = [];
  let next = 0;
  const worker = async () => {
    for (let i = next++; i < items.length; i = next++) results[i] = await work(items[i]!, i);
  };
  await Promise.all(Array.from({ length: parallel }, worker));
  return results;
}

/** `seeds` runs of every item side by side; one list per item. Runs never share a seed. */
export async function overSeeds<T, R>(
  items: readonly T[],
  seeds: number,
  work: (item: T, seed: number, index: number) => Promise<R>,
): Promise<readonly (readonly R[])[]> {
  const jobs = items.flatMap((item, i) =>
    Array.from({ length: seeds }, (_, k) => ({ item, i, k }))
  );
  const results = await sideBySide(
    jobs,
    ({ item, i, k }) => work(item, 1 + k * items.length + i, i),
  );
  return items.map((_, i) => results.slice(i * seeds, (i + 1) * seeds));
}

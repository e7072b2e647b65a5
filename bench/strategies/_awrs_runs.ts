/** Runs under a constraint, and what they cost. */
import {
  type Constraint,
  greedySampling,
  type LanguageModel,
  type Prompt,
  seedFrom,
} from "../../runtime/mod.ts";
import { getStrategy, runStrategy } from "../../strategies/mod.ts";

/** A way to decode. */
export interface Way {
  readonly label: string;
  readonly strategy: string;
  readonly params?: Readonly<Record<string, unknown>>;
}

/** One answer. */
export interface ConstrainedRun {
  readonly text: string;
  readonly reason: "stop" | "length";
  /** Tokens drawn, by all particles together. */
  readonly drawn: number;
  readonly ms: number;
  readonly metrics: Readonly<Record<string, number>>;
  readonly choice: Readonly<Record<string, number>>;
}

/** Decodes one answer at the given temperature, nothing else switched on. */
export async function decode(
  model: LanguageModel,
  way: Way,
  { prompt, constraint, seed, maxTokens, temperature = 1 }: {
    readonly prompt: Prompt;
    readonly constraint: Constraint | undefined;
    readonly seed: number;
    readonly maxTokens: number;
    readonly temperature?: number;
  },
): Promise<ConstrainedRun> {
  const started = performance.now();
  const run = runStrategy({
    id: "quality",
    strategy: getStrategy(way.strategy),
    params: way.params ?? {},
    models: { model },
    prompt,
    chat: {},
    sampling: { ...greedySampling, temperature, seed: seedFrom(seed) },
    maxTokens,
    choices: 1,
    logprobs: undefined,
    stop: [],
    stopTokens: [],
    ignoreStop: false,
    constraint,
    kv: undefined,
    cacheSalt: "",
    trace: "none",
    signal: new AbortController().signal,
  });
  let text = "";
  let reason: "stop" | "length" = "length";
  for (;;) {
    const next = await run.next();
    if (next.done) {
      const { usage, metrics, choices } = next.value;
      const ms = performance.now() - started;
      return { text, reason, drawn: usage.drawnTokens, ms, metrics, choice: choices[0] ?? {} };
    }
    if (next.value.type === "text") text += next.value.text;
    else reason = next.value.reason;
  }
}

/** The constraint as a predicate that can only judge one token at a time. */
export function withoutMask({ name, ...constraint }: Constraint): Constraint {
  const { start, advance, accepting } = constraint;
  return { name: `${name}, judged`, start, advance, accepting };
}

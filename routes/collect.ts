/** A run's events, gathered per choice. */
import type { TokenId } from "../runtime/mod.ts";
import type { TextLogprob } from "../strategies/mod.ts";
import type { Results } from "./generation.ts";
import type { Run } from "./merge_runs.ts";

/** One finished choice. */
export interface Choice {
  readonly index: number;
  readonly text: string;
  /** Empty where the model does not tell its thoughts apart. */
  readonly reasoning?: string;
  readonly tokens: readonly TokenId[];
  /** Empty unless log-probabilities were asked for. */
  readonly logprobs: readonly TextLogprob[];
  readonly reason: "stop" | "length";
}

/** All choices in order, and what they cost. Searches may find fewer than were asked for. */
export async function collect(
  run: Run<Results>,
): Promise<{ readonly choices: readonly Choice[]; readonly results: Results }> {
  interface Parts {
    text: string;
    reasoning: string;
    readonly tokens: TokenId[];
    readonly logprobs: TextLogprob[];
  }
  const open = new Map<number, Parts>();
  const choices: Choice[] = [];
  while (true) {
    const { done, value } = await run.next();
    if (done) {
      choices.sort((a, b) => a.index - b.index);
      return { choices, results: value };
    }
    let parts = open.get(value.choice);
    if (!parts) {
      open.set(value.choice, parts = { text: "", reasoning: "", tokens: [], logprobs: [] });
    }
    if (value.type === "finish") {
      choices.push({ index: value.choice, ...parts, reason: value.reason });
    } else {
      parts.text += value.text;
      parts.reasoning += value.reasoning ?? "";
      for (const token of value.tokens) parts.tokens.push(token);
      for (const logprob of value.logprobs ?? []) parts.logprobs.push(logprob);
    }
  }
}

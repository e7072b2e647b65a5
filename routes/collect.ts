/** A run's events, gathered per choice. */
import type { TokenId } from "../runtime/mod.ts";
import type { TextLogprob } from "../strategies/mod.ts";
import type { Results } from "./generation.ts";
import type { Run } from "./merge_runs.ts";

/** One finished choice. */
export interface Choice {
  readonly index: number;
  readonly text: string;
  readonly tokens: readonly TokenId[];
  /** Empty unless log-probabilities were asked for. */
  readonly logprobs: readonly TextLogprob[];
  readonly reason: "stop" | "length";
}

/** All choices in order, and what they cost. Searches may find fewer than were asked for. */
export async function collect(
  run: Run<Results>,
): Promise<{ readonly choices: readonly Choice[]; readonly results: Results }> {
  const open = new Map<number, { text: string; tokens: TokenId[]; logprobs: TextLogprob[] }>();
  const choices: Choice[] = [];
  while (true) {
    const { done, value } = await run.next();
    if (done) {
      choices.sort((a, b) => a.index - b.index);
      return { choices, results: value };
    }
    let parts = open.get(value.choice);
    if (!parts) open.set(value.choice, parts = { text: "", tokens: [], logprobs: [] });
    if (value.type === "finish") {
      choices.push({ index: value.choice, ...parts, reason: value.reason });
    } else {
      parts.text += value.text;
      for (const token of value.tokens) parts.tokens.push(token);
      for (const logprob of value.logprobs ?? []) parts.logprobs.push(logprob);
    }
  }
}

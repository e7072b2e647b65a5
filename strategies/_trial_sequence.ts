/** Sequences that grow by drawing tokens from whole rows of logits, for `_trials.ts`. */
import {
  entropy,
  hasPenalties,
  logNormalizer,
  type SamplingParams,
  type Seed,
  type Session,
  type TokenId,
  type TokenLogprob,
  topCandidates,
  warpedLogprobs,
} from "../runtime/mod.ts";
import type { ClauseEnd } from "./_clauses.ts";
import type { Masker, TokenMask } from "./_constrain.ts";
import { drawToken } from "./_noise.ts";
import type { StopCheck, StrategyContext } from "./strategy.ts";

/** What drawing with trials needs of a request. */
export type TrialContext = StrategyContext<
  unknown,
  { readonly model: readonly ["edit", "logits"] }
>;

/** How one choice is drawn. */
export interface TrialOptions {
  readonly choice: number;
  readonly seed: Seed;
  /** How many trials there are at this entropy, in nats. */
  readonly trialsAt: (entropy: number) => number;
  /** Which distribution entropies and perplexities are of. */
  readonly scope: "warped" | "raw";
  readonly endsClause: ClauseEnd;
  /** Longest trial in tokens. */
  readonly maxTokens: number;
}

/** What one choice came to. */
export interface TrialCounts {
  /** Places with more than one trial, and all trials there. */
  branchings: number;
  trials: number;
  /** Tokens drawn, in trials that were dropped too, and tokens kept. */
  drawn: number;
  kept: number;
}

/** A session as trials need it. */
export type OpenSession = Session<"edit" | "logits">;

/** What all sequences of a choice share. */
export interface Drawing {
  readonly context: TrialContext;
  readonly options: TrialOptions;
  readonly promptLength: number;
  readonly masker: Masker | undefined;
  readonly counts: TrialCounts;
  /** Sessions to be closed when the choice ends. */
  readonly open: Set<OpenSession>;
}

/** A drawn token. */
export interface Drawn {
  readonly token: TokenId;
  /** Raw log-probabilities, where the response shows them. */
  readonly shown: TokenLogprob | undefined;
}

/** A sequence that grows token by token. */
export interface Sequence {
  readonly session: OpenSession;
  readonly stops: StopCheck;
  readonly state: unknown;
  readonly draws: readonly Drawn[];
  /** Sum of log-probabilities in the scope's distribution. */
  readonly sum: number;
  /** How the completion ended with the last token, if it did. */
  readonly reason: "stop" | "length" | undefined;
}

/** A next-token distribution, and what it was computed from. */
export interface Row {
  readonly logits: Float32Array;
  readonly mask: TokenMask | undefined;
  readonly promptTokens: readonly TokenId[];
  readonly completionTokens: readonly TokenId[];
  /** Under the sampling parameters it was read with. */
  readonly warped: Float64Array;
}

/** What may follow a sequence; one ask. */
export async function read(
  { session, state }: Sequence,
  sampling: SamplingParams,
  { promptLength, masker }: Drawing,
): Promise<Row | "complete" | "dead end"> {
  const mask = masker?.mask(state);
  if (mask?.isEmpty) return mask.isComplete ? "complete" : "dead end";
  const tokens = hasPenalties(sampling) ? session.tokens : [];
  const promptTokens = tokens.slice(0, promptLength);
  const completionTokens = tokens.slice(promptLength);
  const [logits] = await session.logits();
  const row = { logits: logits!, mask, promptTokens, completionTokens };
  return rewarped(row, sampling);
}

/** The row under other sampling parameters. */
export function rewarped(row: Omit<Row, "warped">, sampling: SamplingParams): Row {
  const { logits, mask, promptTokens, completionTokens } = row;
  const context = { sampling, mask: mask?.bits, promptTokens, completionTokens };
  return { ...row, warped: warpedLogprobs(logits, context) };
}

/** The sequence and one token more. */
export function extend(at: Sequence, row: Row, seed: Seed, drawing: Drawing): Sequence {
  const { context: { logprobs, maxTokens }, options, masker, counts, promptLength } = drawing;
  const { logits, warped } = row;
  const { session, stops, state } = at;
  const token = drawToken(warped, seed, session.length);
  const isRaw = options.scope === "raw";
  // Costs a pass over the row, so only where somebody looks at it.
  const normalizer = isRaw || logprobs !== undefined ? logNormalizer(logits) : NaN;
  const raw = logits[token]! - normalizer;
  const shown = logprobs === undefined
    ? undefined
    : { token, logprob: raw, top: topCandidates(logits, logprobs, normalizer) };
  session.append([token]);
  counts.drawn++;
  const isStopped = stops.push(token);
  const isFull = session.length - promptLength >= maxTokens;
  return {
    session,
    stops,
    state: isStopped ? state : masker?.advance(state, token),
    draws: [...at.draws, { token, shown }],
    sum: at.sum + (isRaw ? raw : warped[token]!),
    reason: isStopped ? "stop" : isFull ? "length" : undefined,
  };
}

/** In nats. Exact: nothing is added inside the logarithm. */
export function entropyOf({ logits, warped }: Row, scope: TrialOptions["scope"]): number {
  if (scope === "raw") return entropy(logits);
  let sum = 0;
  for (const logprob of warped) if (logprob > -Infinity) sum -= Math.exp(logprob) * logprob;
  return Math.max(0, sum);
}

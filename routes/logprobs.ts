// deno-lint-ignore-file camelcase -- names as on the wire
/** Log-probabilities in the two shapes of the API. */
import type { TextCandidate, TextLogprob } from "../strategies/mod.ts";

/** The API's floor, for what JSON cannot hold. */
const floor = -9999;

/** A natural logarithm as JSON: at most 0, at least -9999. */
export function wireLogprob(logprob: number): number {
  return Number.isFinite(logprob) ? Math.max(floor, Math.min(0, logprob)) : floor;
}

/** `choices[].logprobs` of a chat. */
export function chatLogprobs(tokens: readonly TextLogprob[]) {
  return {
    content: tokens.map((token) => ({
      ...candidate(token),
      top_logprobs: token.top.map(candidate),
    })),
    refusal: null,
  };
}

function candidate({ token, bytes, logprob }: TextCandidate) {
  return { token, logprob: wireLogprob(logprob), bytes };
}

/** One token of a completion, of its prompt or of its text. */
export interface CompletionToken {
  readonly token: string;
  readonly bytes: readonly number[];
  /** Null for the first token of a prompt. */
  readonly logprob: number | null;
  readonly top: readonly TextCandidate[];
}

/** `choices[].logprobs` of a completion. */
export interface CompletionLogprobs {
  readonly tokens: string[];
  readonly token_logprobs: (number | null)[];
  /** Null where the token itself has none, and throughout when no alternatives were asked for. */
  readonly top_logprobs: (Record<string, number> | null)[] | null;
  /** Where each token starts in the text, in UTF-16 code units. */
  readonly text_offset: number[];
}

/** Where each next token starts in a text, in UTF-16 code units; characters may span tokens. */
export type OffsetCounter = (bytes: readonly number[]) => number;

/** A counter for a text that begins with token bytes. */
export function offsetCounter(): OffsetCounter {
  const decoder = new TextDecoder("utf-8", { ignoreBOM: true });
  let offset = 0;
  return (bytes) => {
    const start = offset;
    offset += decoder.decode(Uint8Array.from(bytes), { stream: true }).length;
    return start;
  };
}

/**
 * Log-probabilities of a completion's tokens. The chosen token is always among the alternatives, so
 * there may be one more than asked for; of tokens with the same text the likelier one counts.
 *
 * @param offsets the choice's counter, moved by these tokens
 * @param top how many alternatives were asked for
 */
export function completionLogprobs(
  tokens: readonly CompletionToken[],
  offsets: OffsetCounter,
  top: number,
): CompletionLogprobs {
  return {
    tokens: tokens.map(({ token }) => token),
    token_logprobs: tokens.map(({ logprob }) => logprob === null ? null : wireLogprob(logprob)),
    top_logprobs: top === 0 ? null : tokens.map(alternatives),
    text_offset: tokens.map(({ bytes }) => offsets(bytes)),
  };
}

function alternatives({ token, logprob, top }: CompletionToken): Record<string, number> | null {
  if (logprob === null) return null;
  const best = new Map<string, number>([[token, wireLogprob(logprob)]]);
  for (const { token: text, logprob: value } of top) {
    best.set(text, Math.max(best.get(text) ?? floor, wireLogprob(value)));
  }
  return Object.fromEntries(best);
}

/** A key's requests and tokens per minute. */
import type { Generation, Results } from "./generation.ts";
import { type Budget, rateExceeded, settle, takeFrom } from "./rates.ts";
import type { Services } from "./services.ts";
import type { RequestState } from "./state.ts";

/** Counts a request. @throws {ApiError} 429 if the key's minute is used up */
export async function takeRequest(services: Services, state: RequestState): Promise<void> {
  const { keyDigest, grant } = state.caller;
  if (grant?.requestsPerMinute === undefined) return;
  await take(services, state, "requests", {
    name: `${keyDigest}:requests`,
    limit: grant.requestsPerMinute,
  }, 1);
}

/** Tokens put aside for a request. */
export interface Reservation {
  /** Settles what the request really used; only the first call counts. */
  settle(tokens: number): Promise<void>;
  /** Leaves it at what was put aside. */
  keep(): void;
}

/**
 * Puts aside what a request may draw at most: sequences times tokens. What it did not need comes
 * back at its end, and its prompt is charged then as well.
 *
 * @throws {ApiError} 429 if that much is not left
 */
export async function reserveTokens(
  services: Services,
  state: RequestState,
  generation: Generation,
): Promise<Reservation> {
  const { keyDigest, grant } = state.caller;
  const limit = grant?.tokensPerMinute;
  if (limit === undefined) return { settle: () => Promise.resolve(), keep() {} };
  const budget: Budget = { name: `${keyDigest}:tokens`, limit };
  const amount = Math.min(limit, mostDrawn(generation));
  await take(services, state, "tokens", budget, amount);
  let isSettled = false;
  return {
    async settle(tokens) {
      if (isSettled) return;
      isSettled = true;
      await settle(services.rates, budget, amount - tokens, services.deps.clock.unixSeconds());
    },
    keep: () => void (isSettled = true),
  };
}

/** What a finished request cost. */
export function tokensUsed({ usage }: Results): number {
  return usage.promptTokens + Math.max(usage.drawnTokens, usage.completionTokens);
}

function mostDrawn({ selection, prompts, choices, maxTokens }: Generation): number {
  const { strategy, parsed, entry } = selection;
  const perSequence = maxTokens ?? entry.model.contextLength;
  return perSequence * strategy.sequences(parsed, choices) * prompts.length;
}

async function take(
  { rates, deps }: Services,
  state: RequestState,
  what: "requests" | "tokens",
  budget: Budget,
  amount: number,
): Promise<void> {
  const taken = await takeFrom(rates, budget, amount, deps.clock.unixSeconds());
  state.rates = { ...state.rates, [what]: taken };
  if (taken.waitSeconds > 0) throw rateExceeded(what, taken.waitSeconds);
}

/** What the backend reads off rows of logits for asks that want no more of them. */
import type { Backend, LogitsAsk, LogitsSummary, Tensor } from "../backend/backend.ts";
import { logitsNeeded } from "./answers.ts";
import type { Row, Want } from "./executor.ts";

/**
 * Summaries for all asks about top tokens, scores and entropies, by want and from the oldest token on.
 * Wants are missing that the host has to answer, since a row of theirs holds no distribution, and all
 * are where the backend has no summaries.
 *
 * @param logitStarts per row, the number of its first row of logits
 */
export function readSummaries(
  rows: readonly Row[],
  logitStarts: readonly number[],
  { summarise }: Backend,
  logits: Tensor,
  vocab: number,
): ReadonlyMap<Want, readonly LogitsSummary[]> | undefined {
  if (summarise === undefined) return undefined;
  const wants = rows.flatMap((row, r) => {
    const end = logitStarts[r]! + logitsNeeded(row);
    return row.wants.map((want) => ({ want, asks: asksOf(want, end) }));
  });
  const asks = wants.flatMap((entry) => entry.asks);
  if (asks.length === 0) return undefined;
  const told = summarise(logits, vocab, asks);
  const found = new Map<Want, readonly LogitsSummary[]>();
  let next = 0;
  for (const { want, asks } of wants) {
    const own = told.slice(next, next += asks.length).filter((one) => one !== undefined);
    if (asks.length > 0 && own.length === asks.length) found.set(want, own);
  }
  return found;
}

/**
 * What a want asks about rows of logits besides a draw. Most likely tokens beside a draw are asked for
 * where `withDraws` is set: backends that the host looks into name them with the draw.
 *
 * @param end number after the row's last row of logits
 */
export function asksOf(want: Want, end: number, withDraws = false): readonly LogitsAsk[] {
  const last = (count: number, top: number) =>
    Array.from({ length: count }, (_, i) => ({ row: end - count + i, top }));
  switch (want.kind) {
    case "topk":
      return last(want.last, want.k);
    case "entropy":
      return last(want.last, 0);
    case "score":
      return last(want.targets.length, 0).map((ask, i) => ({ ...ask, target: want.targets[i]! }));
    case "sample":
      return withDraws && want.topLogprobs > 0 ? last(1, want.topLogprobs) : [];
    default:
      return [];
  }
}

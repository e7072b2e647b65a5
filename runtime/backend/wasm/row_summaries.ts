/** What can be read off rows of logits by kernels: normaliser, entropy, the best tokens. */
import type { Candidate } from "../../model.ts";
import { expTable } from "../../sampling/rows.ts";
import { topCandidates } from "../../sampling/top_k.ts";
import type { LogitsSummary } from "../backend.ts";
import { SCAN_TOKENS } from "./kernels/noise_scan.ts";
import { STATS } from "./kernels/row_stats.ts";
import {
  floorOf,
  groupsOf,
  kthLargest,
  type LogitRow,
  pick,
  type Workspace,
  workspace,
} from "./selection.ts";
import type { Step } from "./step.ts";
import type { WasmTensor } from "./tensor.ts";

/** A row and its distribution at temperature 1, as runtime/sampling/rows.ts computes it, to the bit. */
export interface RowSummary extends LogitRow {
  /** Of the most likely token; ties by lower id. */
  readonly best: number;
  /** Sum of e^(logit - max). */
  readonly total: number;
  readonly logNormalizer: number;
  /** In nats. */
  readonly entropy: number;
}

/**
 * @param vocab at least SCAN_TOKENS
 * @returns by row; rows that hold no distribution are missing. And where `expTable` is
 */
export function summarise(
  { heap, scope, team }: Step,
  logits: WasmTensor,
  vocab: number,
  wanted: readonly number[],
): { readonly summaries: ReadonlyMap<number, RowSummary>; readonly table: number } {
  const rows = [...new Set(wanted)], columns = logits.shape[1]!;
  const table = scope.block("exponentials", expTable.byteLength);
  const out = scope.block("row stats", STATS.bytes * rows.length);
  heap.bytes.set(new Uint8Array(expTable.buffer), table);
  const at = (row: number) => logits.address + 4 * columns * row;
  team.run("rowStats", rows.map((row, i) => [at(row), vocab, table, out + STATS.bytes * i]));
  const view = new DataView(heap.memory.buffer, out, STATS.bytes * rows.length);
  const summaries = new Map<number, RowSummary>();
  for (const [i, row] of rows.entries()) {
    const from = STATS.bytes * i;
    const best = view.getInt32(from + STATS.best, true);
    const max = view.getFloat32(from + STATS.max, true);
    const total = view.getFloat64(from + STATS.sum, true);
    const weighted = view.getFloat64(from + STATS.weighted, true);
    if (!(total >= 1)) continue;
    const logSum = Math.log(total);
    summaries.set(row, {
      address: at(row),
      vocab,
      best,
      max,
      total,
      logNormalizer: max + logSum,
      entropy: Math.max(0, logSum - weighted / total),
    });
  }
  return { summaries, table };
}

/** The k most likely tokens, best first, ties by lower id. @param k at least 1 */
export function candidatesOf(
  step: Step,
  row: RowSummary,
  k: number,
  work: Workspace,
): readonly Candidate[] {
  const { ids, logits } = pick(step, row, lowestOfBest(step, row, k, work), work);
  return topCandidates(logits, k, row.logNormalizer)
    .map(({ token, logprob }) => ({ token: ids[token]!, logprob }));
}

/** A logit that the k most likely tokens reach. */
function lowestOfBest(step: Step, row: LogitRow, k: number, work: Workspace): number {
  if (k >= row.vocab) return -Infinity;
  if (k <= groupsOf(row.vocab) / 2) return floorOf(step, row, k, work);
  return kthLargest(step, row, k, work);
}

/**
 * Answers about rows of logits; see {@link Backend.summarise}.
 *
 * @param asks rows, and how many of their best tokens
 */
export function summariesOf(
  step: Step,
  logits: WasmTensor,
  vocab: number,
  asks: readonly { readonly row: number; readonly top: number }[],
): readonly (LogitsSummary | undefined)[] {
  if (vocab < SCAN_TOKENS) return asks.map(() => undefined);
  const { summaries, table } = summarise(step, logits, vocab, asks.map(({ row }) => row));
  const work = asks.some(({ top }) => top > 0) ? workspace(step, vocab, table) : undefined;
  return asks.map(({ row, top }) => {
    const summary = summaries.get(row);
    if (summary === undefined) return undefined;
    const { best, logNormalizer, entropy } = summary;
    const candidates = top > 0 ? candidatesOf(step, summary, top, work!) : [];
    return { best, logNormalizer, entropy, top: candidates };
  });
}

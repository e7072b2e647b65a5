/** Attention that the last tokens of a prompt pay, smoothed over neighbours (SnapKV). */
import type { Ranked } from "./_scored.ts";
import type { BudgetParams } from "./_params.ts";

/** Width of the smoothing. */
const POOL = 5;

/** The window is what observes: recording begins there. */
export function observedFrom({ window }: BudgetParams, promptLength: number): number {
  return Math.max(0, promptLength - window);
}

/** Sums of the observed rows and heads, averaged over five neighbouring slots. */
export function observedScores({ group, count }: Ranked<BudgetParams>): Float32Array {
  return smooth(group.signal("attention-sum").subarray(0, count));
}

/** Mean over each value and its neighbours, as many as there are. */
export function smooth(values: Float32Array): Float32Array {
  const reach = (POOL - 1) / 2;
  return values.map((_, i) => {
    const near = values.subarray(Math.max(0, i - reach), i + reach + 1);
    return near.reduce((sum, value) => sum + value, 0) / near.length;
  });
}

/** Cuts an op's work into parts for the threads of a team. */
import type { Step } from "./step.ts";

/** Work from which on it pays to wake other threads, in multiplications: some microseconds. */
export const SHARED_WORK = 1 << 17;
/** Work of one part where there are many. */
const PART_WORK = 1 << 20;
/** Most parts per thread: with more than one, threads that lose time end together with the others. */
const PARTS_PER_THREAD = 4;

/** Items `from` to `from + count - 1`. */
export interface Part {
  readonly from: number;
  readonly count: number;
}

/**
 * Parts of `items` items, each but the last of whole units.
 *
 * @param work multiplications per item, or what takes as long
 */
export function cut(
  { team, sharedWork }: Pick<Step, "team" | "sharedWork">,
  items: number,
  unit: number,
  work: number,
): readonly Part[] {
  const all = items * work, threads = team.size;
  const isSmall = threads === 1 || all < sharedWork;
  const most = isSmall
    ? 1
    : Math.min(PARTS_PER_THREAD * threads, Math.max(threads, Math.floor(all / PART_WORK)));
  const each = Math.max(unit, Math.ceil(items / most / unit) * unit);
  const parts: Part[] = [];
  for (let from = 0; from < items; from += each) {
    parts.push({ from, count: Math.min(each, items - from) });
  }
  return parts;
}

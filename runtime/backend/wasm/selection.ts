/**
 * Selection among the logits of one row by kernels: what a filter keeps is what is not below some
 * logit, and these functions find it. All comparisons are exact; where only a sum whose order of
 * additions is not the sampler's could decide, they say so.
 */
import { largest } from "../../sampling/top_k.ts";
import type { Step } from "./step.ts";

/** A row of logits without NaN, not all of them -Infinity. */
export interface LogitRow {
  /** Of the first logit. */
  readonly address: number;
  readonly vocab: number;
  /** The largest logit. */
  readonly max: number;
}

/** Some tokens of a row; ids ascend. Views that hold until the next selection. */
export interface Picked {
  readonly ids: Uint32Array;
  readonly logits: Float32Array;
}

/** Addresses of memory that selections work in; free for the next one afterwards. */
export interface Workspace {
  readonly ids: number;
  readonly logits: number;
  readonly maxima: number;
  readonly buckets: number;
  /** Of `expTable`. */
  readonly table: number;
  /** One number of 8 bytes. */
  readonly out: number;
}

/** Buckets of one pass over keys. */
const BUCKET_BITS = 11;
/** Logits per group of {@link floorOf}: few enough groups to look through, enough for small k. */
const groupOf = (vocab: number): number => vocab <= 16_384 ? 16 : 64;

/** Memory for selections from rows of `vocab` logits, until the end of the step. */
export function workspace({ scope }: Step, vocab: number, table: number): Workspace {
  return {
    ids: scope.block("selected tokens", 4 * vocab),
    logits: scope.block("selected logits", 4 * vocab),
    maxima: scope.block("largest logits", 4 * Math.ceil(vocab / groupOf(vocab))),
    buckets: scope.block("buckets", 8 << BUCKET_BITS),
    table,
    out: scope.block("selection", 8),
  };
}

/** The tokens whose logit is not below `lowest`. */
export function pick(
  { kernels, heap }: Step,
  { address, vocab }: LogitRow,
  lowest: number,
  { ids, logits, out }: Workspace,
): Picked {
  kernels.collect(address, vocab, lowest, ids, logits, out);
  const size = heap.words[out / 4]!;
  return {
    ids: heap.words.subarray(ids / 4, ids / 4 + size),
    logits: heap.floats.subarray(logits / 4, logits / 4 + size),
  };
}

/** Groups that {@link floorOf} looks at. */
export function groupsOf(vocab: number): number {
  return Math.ceil(vocab / groupOf(vocab));
}

/**
 * A logit that at least k tokens reach, and not many more where logits are in no order: the k-th
 * largest of the largest of groups.
 *
 * @param k at most {@link groupsOf}
 */
export function floorOf(
  { kernels, heap }: Step,
  { address, vocab }: LogitRow,
  k: number,
  { maxima }: Workspace,
): number {
  kernels.groupMax(address, vocab, groupOf(vocab), maxima);
  const values = heap.floats.subarray(maxima / 4, maxima / 4 + groupsOf(vocab));
  return values[largest(values, k)[k - 1]!]!;
}

/** The k-th largest logit, whatever k and the logits are: up to three passes. @param k at most vocab */
export function kthLargest(step: Step, row: LogitRow, k: number, work: Workspace): number {
  const { kernels, heap } = step;
  let above = 0;
  return descend(-Infinity, row.max, (low, high, shift, buckets) => {
    const counts = heap.words.subarray(work.buckets / 4, work.buckets / 4 + buckets).fill(0);
    kernels.keyCounts(row.address, row.vocab, low, high, shift, work.buckets);
    let bucket = buckets - 1;
    while (above + counts[bucket]! < k) above += counts[bucket--]!;
    return bucket;
  })!;
}

/** Which share of a row's weight is looked for. */
export interface MassTarget {
  /** Tokens below it do not count. */
  readonly lowest: number;
  readonly temperature: number;
  /** Of weights e^((logit - max) / T). */
  readonly target: number;
  /** Sums this close to the target may be on its other side in another order of additions. */
  readonly margin: number;
}

/**
 * The largest logit such that the weights from there up add up to the target: up to three passes.
 *
 * @returns undefined where rounding could decide
 */
export function massThreshold(
  { kernels, heap }: Step,
  row: LogitRow,
  { lowest, temperature, target, margin }: MassTarget,
  work: Workspace,
): number | undefined {
  let above = 0, found = 0;
  const threshold = descend(lowest, row.max, (low, high, shift, buckets) => {
    const masses = new Float64Array(heap.memory.buffer, work.buckets, buckets).fill(0);
    kernels.keyMasses(
      row.address,
      row.vocab,
      low,
      high,
      shift,
      work.buckets,
      row.max,
      1 / temperature,
      work.table,
    );
    for (let bucket = buckets - 1; bucket >= 0; bucket--) {
      found = masses[bucket]!;
      if (above + found >= target) return bucket;
      above += found;
    }
    return undefined;
  });
  const isSure = above < target - margin && above + found >= target + margin;
  return isSure ? threshold : undefined;
}

/** The sum of a row's weights e^((logit - max) / T), of tokens not below `lowest`. */
export function weightSum(
  { kernels, heap }: Step,
  { address, vocab, max }: LogitRow,
  lowest: number,
  temperature: number,
  { table, out }: Workspace,
): number {
  kernels.weightSum(address, vocab, max, 1 / temperature, lowest, table, out);
  return new Float64Array(heap.memory.buffer, out, 1)[0]!;
}

/**
 * Narrows a stretch of logits to a single one.
 *
 * @param choose which of the buckets of `1 << shift` keys from `low` to `high` it is in
 * @returns undefined where `choose` does not know
 */
function descend(
  lowest: number,
  largest: number,
  choose: (low: number, high: number, shift: number, buckets: number) => number | undefined,
): number | undefined {
  let low = keyOf(lowest), high = keyOf(largest);
  for (;;) {
    const shift = Math.max(0, 32 - Math.clz32(high - low) - BUCKET_BITS);
    const bucket = choose(low, high, shift, ((high - low) >>> shift) + 1);
    if (bucket === undefined) return undefined;
    low += bucket * 2 ** shift;
    if (shift === 0) return floatOf(low);
    high = Math.min(high, low + 2 ** shift - 1);
  }
}

/**
 * The smallest finite f32 x up to `max` for which (x - max) / T, as the sampler computes it, is at
 * least `score` and above -Infinity. That quotient never falls where x rises.
 *
 * @param score at most 0
 */
export function lowestWith(score: number, max: number, temperature: number): number {
  let low = keyOf(-3.4028234663852886e38), high = keyOf(max);
  while (low < high) {
    const middle = Math.floor((low + high) / 2);
    const value = (floatOf(middle) - max) / temperature;
    if (value >= score && value > -Infinity) high = middle;
    else low = middle + 1;
  }
  return floatOf(low);
}

const float = new Float32Array(1);
const bits = new Int32Array(float.buffer);

/** The number whose order among signed integers is the float's; see kernels/key_buckets.ts. */
function keyOf(value: number): number {
  float[0] = value;
  return bits[0]! ^ ((bits[0]! >> 31) >>> 1);
}

function floatOf(key: number): number {
  bits[0] = key ^ ((key >> 31) >>> 1);
  return float[0]!;
}

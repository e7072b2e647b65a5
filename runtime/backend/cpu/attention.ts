/**
 * attention: causal grouped-query attention of new tokens over their rows' pages.
 *
 *   w[s] = softmax over visible slots s of (q . k[s] * scale)
 *   out  = sum over s of w[s] * v[s]
 *
 * Source: Vaswani et al. 2017, https://arxiv.org/abs/1706.03762, eq. 1; grouped queries after Ainslie
 * et al. 2023, https://arxiv.org/abs/2305.13245: query head h reads kv head floor(h / (heads / kvHeads)).
 * Order: two passes (largest score first). Dot products run from dimension 0 up; sums over slots run
 * in the order of the page table, which is the order of the sequence. All in double precision with
 * one rounding to f32 at the end. A row may read less than it holds (`read`, `rule`), and older slots
 * may be in another format: then they are decoded to f32 first. Where pages lie, how a prompt is cut into chunks and what other
 * rows do changes nothing.
 */
import { ShapeError } from "../../errors.ts";
import type { KvSignal } from "../../kv/policy.ts";
import type { AttentionRow } from "../backend.ts";
import { attendOne } from "./attend_one.ts";
import type { CpuKvPool } from "./kv_pool.ts";
import { adapterScores, boundScores, oracleScores, type ScoredHead } from "./read_scores.ts";
import { chooseSlots, type RowSlots, rowSlots, ruleOf, visibleIndices } from "./row_slots.ts";
import { recordNew, recordWeights } from "./signals.ts";
import { type Alloc, type CpuTensor, matrix } from "./tensor.ts";

/** As in `Ops.attention`. */
export interface AttentionOptions {
  readonly scale: number;
  readonly signals: readonly KvSignal[];
  /** Queries of an adapter, [tokens, heads * width]. */
  readonly queries: (adapter: string) => CpuTensor | undefined;
}

/**
 * @param q [tokens, heads * headDim]
 * @returns [tokens, heads * headDim]
 * @throws {RangeError} if a page is not in the pool, or counts and pages do not fit together
 */
export function attention(
  alloc: Alloc,
  q: CpuTensor,
  pool: CpuKvPool,
  layer: number,
  rows: readonly AttentionRow[],
  options: AttentionOptions,
): CpuTensor {
  const { kvHeads, headDim } = pool.layout;
  const width = matrix("attention", q)[1];
  const perGroup = width / headDim / kvHeads;
  if (!Number.isInteger(perGroup)) {
    throw new ShapeError(
      "attention",
      `q has ${width} columns, not a multiple of ${kvHeads} heads of ${headDim}`,
    );
  }
  pool.requireLayer(layer);
  const out = alloc("attention", q.shape);
  for (const row of rows) {
    for (let kvHead = 0; kvHead < kvHeads; kvHead++) {
      attendHead(out, q, pool, layer, row, kvHead, { ...options, width, perGroup });
    }
  }
  return out;
}

interface HeadOptions extends AttentionOptions {
  readonly width: number;
  readonly perGroup: number;
}

/** All tokens of a row, one kv head. */
function attendHead(
  out: CpuTensor,
  q: CpuTensor,
  pool: CpuKvPool,
  layer: number,
  row: AttentionRow,
  kvHead: number,
  options: HeadOptions,
): void {
  const { headDim } = pool.layout, { width, perGroup, scale } = options;
  const slots = rowSlots(row, pool, layer, kvHead);
  const signals = row.signals === undefined
    ? options.signals
    : [...options.signals, ...row.signals];
  const queryAt = (t: number) => (row.start + t) * width + kvHead * perGroup * headDim;
  if (signals.length > 0) {
    const keyAt = (place: number) => place * headDim;
    const from = { headDim, perGroup, keys: pool.keys, keyAt, q: q.data, queryAt };
    recordNew(pool.records, slots, row, signals, from);
  }
  const memory = memoryOf(pool, slots);
  const all = memory.slots, before = all.length - row.length;
  const isCausal = row.treeMask === undefined && row.read === undefined &&
    row.sight === undefined &&
    ruleOf(row, layer, row.length - 1) === undefined;
  for (let t = 0; t < row.length; t++) {
    const indices = isCausal
      ? countUp(before + t + 1)
      : readIndices(pool, row, slots, memory, layer, kvHead, t, q, options);
    const visible = isCausal
      ? all.subarray(0, before + t + 1)
      : indices.map((index) => all[index]!);
    for (let h = 0; h < perGroup; h++) {
      const at = queryAt(t) + h * headDim;
      const weights = attendOne(out.data, q.data, at, { ...memory, visible, headDim, scale });
      if (signals.length === 0) continue;
      recordWeights(pool.records, slots, indices, weights, 0, signals, h === 0);
    }
  }
}

interface HeadMemory extends ScoredHead {
  readonly values: Float32Array;
  /** Slots as `attendOne` counts them, from the `first` one. */
  readonly first: number;
  readonly slots: Uint32Array;
}

let counted = new Uint32Array(0);

/** 0, 1, ..., count - 1; not to be written to. */
function countUp(count: number): Uint32Array {
  if (counted.length < count) counted = Uint32Array.from({ length: 2 * count }, (_, i) => i);
  return counted.subarray(0, count);
}

/** K and V of the slots: the pool itself, or f32 copies where some are in another format. */
function memoryOf(pool: CpuKvPool, slots: RowSlots): HeadMemory {
  const { headDim } = pool.layout, { places, encoded, format } = slots;
  if (encoded === 0) {
    return {
      keys: pool.keys,
      values: pool.values,
      first: 0,
      slots: places,
      keyAt: (index) => places[index]! * headDim,
      headDim,
    };
  }
  const keys = new Float32Array(places.length * headDim);
  const values = new Float32Array(keys.length);
  places.forEach((place, index) => {
    const form = index < encoded ? format : "f32", perPage = pool.slotsPerPage(form);
    const offset = place % perPage, unit = (place - offset) / perPage;
    pool.load("keys", form, unit, offset, keys, index * headDim);
    pool.load("values", form, unit, offset, values, index * headDim);
  });
  const keyAt = (index: number) => index * headDim;
  return { keys, values, first: 0, slots: countUp(places.length), keyAt, headDim };
}

/** Indices of the slots token t reads. */
function readIndices(
  pool: CpuKvPool,
  row: AttentionRow,
  slots: RowSlots,
  memory: ScoredHead,
  layer: number,
  kvHead: number,
  t: number,
  q: CpuTensor,
  { width, perGroup, queries }: HeadOptions,
): Uint32Array {
  const visible = visibleIndices(row, slots, t);
  const rule = ruleOf(row, layer, t);
  if (rule === undefined) return visible;
  const token = row.start + t, { headDim, pageSize } = pool.layout;
  const own = {
    data: q.data,
    at: token * width + kvHead * perGroup * headDim,
    heads: perGroup,
    width: headDim,
  };
  return chooseSlots(rule, visible, () => {
    if (rule.score === "oracle") return oracleScores(memory, own, visible);
    if (rule.score === "bounds") {
      return boundScores(memory, own, visible, slots, pageSize, pool.records);
    }
    const adapter = rule.adapter ?? "", theirs = queries(adapter);
    if (theirs === undefined) {
      throw new ShapeError("attention", "a rule that scores by an adapter needs its queries");
    }
    const columns = matrix("attention", theirs)[1];
    const each = columns / (perGroup * pool.layout.kvHeads);
    const at = token * columns + kvHead * perGroup * each;
    const given = { data: theirs.data, at, heads: perGroup, width: each };
    return adapterScores(given, visible, slots, pool.records, adapter);
  });
}

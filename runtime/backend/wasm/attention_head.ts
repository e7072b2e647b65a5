/**
 * attention of rows that need more than one table per group: older slots in another format, reading
 * less than there is, or recording signals. Tables are made per layer, kv head and token.
 */
import { ShapeError } from "../../errors.ts";
import type { KvSignal } from "../../kv/policy.ts";
import type { AttentionRow } from "../backend.ts";
import { adapterScores, boundScores, oracleScores, type ScoredHead } from "../cpu/read_scores.ts";
import { chooseSlots, type RowSlots, rowSlots, ruleOf, visibleIndices } from "../cpu/row_slots.ts";
import { recordNew, recordWeights } from "../cpu/signals.ts";
import { matrix } from "../cpu/tensor.ts";
import { weightsAt } from "./kernels/attention.ts";
import type { WasmKvPool } from "./kv_pool.ts";
import type { Step } from "./step.ts";
import type { WasmTensor } from "./tensor.ts";

/** One row and kv head, and what its kernel calls share. */
export interface HeadCall {
  readonly q: WasmTensor;
  readonly out: WasmTensor;
  readonly pool: WasmKvPool;
  readonly layer: number;
  readonly row: AttentionRow;
  readonly kvHead: number;
  readonly perGroup: number;
  readonly scale: number;
  /** For the kernel, which leaves weights at its end, `stride` bytes per query head. */
  readonly scratch: number;
  readonly stride: number;
  readonly signals: readonly KvSignal[];
  readonly queries: (adapter: string) => WasmTensor | undefined;
}

/** Whether a row needs {@link attendHead}. */
export function needsOwnTables(
  row: AttentionRow,
  layer: number,
  signals: readonly KvSignal[],
): boolean {
  return signals.length > 0 || row.encoded !== undefined || row.read !== undefined ||
    ruleOf(row, layer, row.length - 1) !== undefined;
}

/** See file comment. */
export function attendHead(step: Step, call: HeadCall): void {
  const { q, out, pool, layer, row, kvHead, perGroup, scale, scratch, stride, signals } = call;
  const { headDim } = pool.layout, width = matrix("attention", q)[1];
  const slots = rowSlots(row, pool, layer, kvHead);
  const bases = memoryOf(step, pool, slots);
  const table = step.scope.block("slots", 4 * Math.ceil(slots.places.length / 4) * 4);
  const { floats, words } = step.heap; // nothing is allocated from here on
  const queryAt = (t: number) =>
    q.address / 4 + (row.start + t) * width + kvHead * perGroup * headDim;
  if (signals.length > 0) {
    const perSlot = pool.slotBytes / 4, first = pool.keys("kv-head", 0, 0) / 4;
    const keyAt = (place: number) => first + place * perSlot;
    recordNew(pool.records, slots, row, signals, {
      headDim,
      perGroup,
      keys: floats,
      keyAt,
      q: floats,
      queryAt,
    });
  }
  for (let t = 0; t < row.length; t++) {
    const indices = readIndices(call, slots, floats, bases, t, queryAt(t));
    const count = indices.length;
    for (let i = 0; i < count + (-count & 3); i++) { // filled up with the last slot
      words[table / 4 + i] = bases.offsets[indices[Math.min(i, count - 1)]!]!;
    }
    step.kernels.attention(
      4 * queryAt(t),
      out.address + 4 * (queryAt(t) - q.address / 4),
      1,
      4 * width,
      perGroup,
      4 * headDim,
      pool.slotBytes,
      bases.keys,
      bases.values,
      table,
      count,
      stride,
      stride,
      scale,
      scratch,
    );
    if (signals.length === 0) continue;
    for (let h = 0; h < perGroup; h++) {
      const at = (scratch + weightsAt(pool.slotBytes) + h * stride) / 4;
      recordWeights(pool.records, slots, indices, floats, at, signals, h === 0);
    }
  }
}

interface Bases {
  readonly keys: number;
  readonly values: number;
  /** Per slot, bytes from `keys` and from `values`. */
  readonly offsets: Uint32Array;
}

/** The pool itself, or a copy of all slots in f32 where some are in another format. */
function memoryOf(step: Step, pool: WasmKvPool, slots: RowSlots): Bases {
  const { places, encoded, format } = slots, { slotBytes, layout: { headDim, pageSize } } = pool;
  if (encoded === 0) {
    return {
      keys: pool.keys("kv-head", 0, 0),
      values: pool.values("kv-head", 0, 0),
      offsets: places.map((place) => place * slotBytes),
    };
  }
  const bytes = places.length * slotBytes;
  const keys = step.scope.block("decoded keys", bytes);
  const values = step.scope.block("decoded values", bytes);
  const { floats } = step.heap;
  if (headDim % 4 !== 0) { // padding is read
    floats.fill(0, keys / 4, (keys + bytes) / 4);
    floats.fill(0, values / 4, (values + bytes) / 4);
  }
  const perPage = pool.slotsPerPage(format);
  for (let index = 0; index < places.length;) {
    const isEncoded = index < encoded;
    const [form, size] = isEncoded ? [format, perPage] as const : ["f32", pageSize] as const;
    const offset = places[index]! % size, unit = (places[index]! - offset) / size;
    const count = Math.min(size - offset, (isEncoded ? encoded : places.length) - index);
    pool.loadRun("keys", form, unit, offset, count, keys + index * slotBytes);
    pool.loadRun("values", form, unit, offset, count, values + index * slotBytes);
    index += count;
  }
  return { keys, values, offsets: places.map((_, index) => index * slotBytes) };
}

function readIndices(
  { pool, layer, row, kvHead, perGroup, queries }: HeadCall,
  slots: RowSlots,
  floats: Float32Array,
  bases: Bases,
  t: number,
  queryAt: number,
): Uint32Array {
  const visible = visibleIndices(row, slots, t);
  const rule = ruleOf(row, layer, t);
  if (rule === undefined) return visible;
  const { headDim, pageSize, kvHeads } = pool.layout;
  const own = { data: floats, at: queryAt, heads: perGroup, width: headDim };
  const keyAt = (index: number) => (bases.keys + bases.offsets[index]!) / 4;
  const head: ScoredHead = { keys: floats, keyAt, headDim };
  return chooseSlots(rule, visible, () => {
    if (rule.score === "oracle") return oracleScores(head, own, visible);
    if (rule.score === "bounds") {
      return boundScores(head, own, visible, slots, pageSize, pool.records);
    }
    const adapter = rule.adapter ?? "", theirs = queries(adapter);
    if (theirs === undefined) {
      throw new ShapeError("attention", "a rule that scores by an adapter needs its queries");
    }
    const columns = matrix("attention", theirs)[1], each = columns / (perGroup * kvHeads);
    const at = theirs.address / 4 + (row.start + t) * columns + kvHead * perGroup * each;
    const given = { data: floats, at, heads: perGroup, width: each };
    return adapterScores(given, visible, slots, pool.records, adapter);
  });
}

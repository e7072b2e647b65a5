/** kv_write, kv_record and kv_copy: moves within WebAssembly memory. kv_encode is the reference's. */
import { ShapeError } from "../../errors.ts";
import type { AttentionRow, CopyOptions } from "../backend.ts";
import { eachUnitSlot, requireDistinct, turner } from "../cpu/kv_copy.ts";
import { eachNewSlot } from "../cpu/kv_write.ts";
import { matrix } from "../cpu/tensor.ts";
import type { WasmKvPool } from "./kv_pool.ts";
import type { WasmTensor } from "./tensor.ts";

/**
 * Stores the K and V of new tokens. What was recorded about the slots' former tokens is forgotten.
 *
 * @param k [tokens, kvHeads * headDim], as is v
 * @param slots per row and group, one slot per token of the row
 * @throws {RangeError} if a slot is not in the pool
 */
export function kvWrite(
  pool: WasmKvPool,
  layer: number,
  k: WasmTensor,
  v: WasmTensor,
  rows: readonly AttentionRow[],
  slots: readonly (readonly Uint32Array[])[],
): void {
  const { kvHeads, headDim } = pool.layout;
  const width = kvHeads * headDim;
  if (matrix("kv_write", k)[1] !== width || matrix("kv_write", v)[1] !== width) {
    throw new ShapeError("kv_write", `k [${k.shape.join(", ")}] must have ${width} columns`);
  }
  pool.requireLayer(layer);
  const { floats } = pool.heap;
  const fromK = k.address / 4, fromV = v.address / 4;
  const toK = pool.keys("kv-head", layer, 0) / 4, toV = pool.values("kv-head", layer, 0) / 4;
  eachNewSlot(pool, layer, rows, slots, (token, head, unit, offset) => {
    const from = token * width + head * headDim;
    const to = pool.byteOf(unit, offset) / 4;
    floats.copyWithin(toK + to, fromK + from, fromK + from + headDim);
    floats.copyWithin(toV + to, fromV + from, fromV + from + headDim);
    pool.records.forget(unit, offset);
  });
}

/** Stores what an adapter computed, [tokens, kvHeads * width], as `signal`. */
export function kvRecord(
  pool: WasmKvPool,
  layer: number,
  signal: `adapter:${string}`,
  values: WasmTensor,
  rows: readonly AttentionRow[],
  slots: readonly (readonly Uint32Array[])[],
): void {
  const { kvHeads, pageSize } = pool.layout;
  const width = matrix("kv_record", values)[1] / kvHeads;
  if (!Number.isInteger(width)) {
    throw new ShapeError("kv_record", `[${values.shape.join(", ")}] is not one run per head`);
  }
  pool.records.setWidth(signal, width);
  const record = pool.records.of(signal), { floats } = pool.heap;
  eachNewSlot(pool, layer, rows, slots, (token, head, unit, offset) => {
    const from = values.address / 4 + (token * kvHeads + head) * width;
    record.set(floats.subarray(from, from + width), (unit * pageSize + offset) * width);
  });
}

/**
 * Copies K, V and recorded signals of all units behind slots; see the CPU backend's kv_copy.ts.
 *
 * @throws {RangeError} if a slot is not in the pool, or a target is also a source or repeated
 */
export function kvCopy(
  pool: WasmKvPool,
  from: Uint32Array,
  to: Uint32Array,
  { granularity = "sequence", format = "f32", turn }: CopyOptions = {},
): void {
  requireDistinct(from, to);
  const turnKey = turn && turner(turn.rope);
  const keys = pool.keys("kv-head", 0, 0);
  eachUnitSlot(pool, from, to, [format, format], granularity, (source, target, i) => {
    const [unit, offset] = source, [toUnit, toOffset] = target;
    pool.copy(format, source, target);
    pool.records.move([format, unit, offset], [format, toUnit, toOffset]);
    const shift = turn?.shifts[i] ?? 0;
    const at = (keys + pool.byteOf(toUnit, toOffset)) / 4;
    if (shift !== 0) turnKey?.(pool.heap.floats, at, shift);
  });
}

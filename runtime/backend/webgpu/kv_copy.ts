/** kv_copy and kv_encode on the host side: K, V and what is recorded about slots move. */
import * as kernels from "../../../shaders/mod.ts";
import { ShapeError } from "../../errors.ts";
import { groupTokens, vectorBytes } from "../../kv/formats.ts";
import { keyGroupBytes } from "../../kv/kivi.ts";
import type { KvFormat, KvGranularity, KvSignal } from "../../kv/policy.ts";
import type { CopyOptions } from "../backend.ts";
import { requireDistinct } from "../cpu/kv_copy.ts";
import type { GpuKvPool } from "./kv_pool.ts";
import type { GpuBuffer } from "./memory.ts";
import { stepData, target } from "./recorder.ts";
import type { Stage } from "./stage.ts";

const whole = (buffer: GpuBuffer) => target(buffer, 0, buffer.size);

/** Numbers of formats in kernels. */
export const formCodes: Readonly<Record<KvFormat, number>> = { f32: 0, int8: 1, int4: 2, kivi4: 3 };

/**
 * Copies K, V and recorded signals of all units behind slots.
 *
 * @throws {RangeError} if a slot is not in the pool, or a target is also a source or repeated
 * @throws {ShapeError} if slots of a format that stores groups are no whole groups
 */
export function kvCopy(
  stage: Stage,
  pool: GpuKvPool,
  from: Uint32Array,
  to: Uint32Array,
  { granularity = "sequence", format = "f32", turn }: CopyOptions = {},
): void {
  requireDistinct(from, to);
  for (const slot of [...from, ...to]) pool.requireSlot(granularity, slot, format);
  if (from.length === 0) return;
  pool.forgetBounds(granularity, to, format);
  const heads = headsOf(pool, granularity);
  const copy = (buffer: GpuBuffer, list: CopyList, perPage: number) =>
    stage.dispatch(
      kernels.kvCopy,
      [
        heads(pool.parts[0]!.layers),
        pool.pages * perPage,
        0,
        list.width,
        list.count,
        list.at,
        list.stride,
      ],
      [stepData, whole(buffer)],
      [Math.ceil(heads(pool.parts[0]!.layers) * list.width / 64), list.count, 1],
    );
  const lists = listsOf(stage, pool, from, to, granularity, format);
  for (const part of pool.parts) {
    copy(part.keys, lists.keys, lists.apart);
    copy(part.values, lists.values, lists.apart);
    for (const { buffer, width, format: its } of part.records()) {
      if (its !== format) continue;
      copy(buffer, { ...lists.slots, width, stride: width }, pool.slotsPerPage(format));
    }
    if (turn !== undefined) {
      const at = lists.slots.at + from.length;
      turnKeys(stage, pool, part.keys, heads(part.layers), at, turn);
    }
  }
}

/** Sources, then targets, from word `at` on, counted in `stride` words; `width` words each. */
interface CopyList {
  readonly at: number;
  readonly count: number;
  readonly width: number;
  readonly stride: number;
}

/** Where vectors of a format are, in what kv_copy counts; `apart` is the same per page of a unit. */
function listsOf(
  stage: Stage,
  pool: GpuKvPool,
  from: Uint32Array,
  to: Uint32Array,
  granularity: KvGranularity,
  format: KvFormat,
): { keys: CopyList; values: CopyList; slots: CopyList; apart: number } {
  const put = (count: number, place: (list: Uint32Array, i: number) => number) =>
    stage.data.reserve(2 * count, (words) => {
      for (let i = 0; i < count; i++) words[i] = place(from, i);
      for (let i = 0; i < count; i++) words[count + i] = place(to, i);
    });
  const all = from.length;
  const slots = { at: put(all, (l, i) => pool.slotOffset(granularity, l[i]!, format)), count: all };
  if (format === "f32") {
    const words = pool.unitWords / pool.layout.pageSize;
    const list = { ...slots, width: words, stride: words };
    return { keys: list, values: list, slots: list, apart: pool.layout.pageSize };
  }
  const { headDim } = pool.layout, perPage = pool.slotsPerPage(format);
  const page = (slot: number) =>
    pool.unitOffset(granularity, Math.floor(slot / perPage)) * pool.unitWords;
  const step = vectorBytes(format === "kivi4" ? "int4" : format, headDim) / 4;
  const vector = (slot: number) => page(slot) + slot % perPage * step;
  const values = {
    at: put(all, (l, i) => vector(l[i]!)),
    count: all,
    width: step,
    stride: 1,
  };
  const own = { ...slots, width: 1, stride: 1 };
  if (format !== "kivi4") return { keys: values, values, slots: own, apart: pool.unitWords };
  const size = groupTokens(format), words = keyGroupBytes(headDim) / 4;
  requireGroups("kv_copy", format, from, to);
  const group = (slot: number) => page(slot) + Math.floor(slot % perPage / size) * words;
  const keys = {
    at: put(all / size, (l, i) => group(l[i * size]!)),
    count: all / size,
    width: words,
    stride: 1,
  };
  return { keys, values, slots: own, apart: pool.unitWords };
}

/** A sequence's slots are in every layer; others are wherever their unit is. */
function headsOf({ layout: { kvHeads } }: GpuKvPool, granularity: KvGranularity) {
  return (layers: number) =>
    ({ sequence: layers * kvHeads, layer: kvHeads, "kv-head": 1 })[granularity];
}

/** @throws {ShapeError} if the slots are no whole groups of consecutive ones, in one order */
function requireGroups(op: string, format: KvFormat, from: Uint32Array, to: Uint32Array): void {
  const size = groupTokens(format);
  const follow = (list: Uint32Array, i: number) =>
    i % size === 0 ? list[i]! % size === 0 : list[i] === list[i - 1]! + 1;
  const isWhole = from.length % size === 0 &&
    to.every((_, i) => follow(to, i) && (op === "kv_encode" || follow(from, i)));
  if (isWhole) return;
  throw new ShapeError(op, `slots of ${format} are stored ${size} at a time, one after the other`);
}

/** Rotates the keys of slots on; `at` is the word of their list. */
function turnKeys(
  stage: Stage,
  pool: GpuKvPool,
  keys: GpuBuffer,
  heads: number,
  at: number,
  { shifts, rope }: NonNullable<CopyOptions["turn"]>,
): void {
  const half = rope.headDim / 2;
  const turns = stage.data.once(shifts, () => {
    const table = new Float32Array(shifts.length * 2 * half);
    shifts.forEach((shift, i) => {
      for (let d = 0; d < half; d++) {
        table[i * 2 * half + d] = Math.cos(shift * rope.frequencies[d]!);
        table[(2 * i + 1) * half + d] = Math.sin(shift * rope.frequencies[d]!);
      }
    });
    return stage.data.put(new Uint32Array(table.buffer));
  });
  const gap = rope.layout === "half" ? half : 1;
  stage.dispatch(
    pool.kernel(kernels.kvTurn),
    [heads, pool.slots, pool.padded, half, gap, at, turns],
    [stepData, whole(keys)],
    [Math.ceil(heads * half / 64), shifts.length, 1],
  );
}

/**
 * Stores f32 slots in another format; what is recorded about them goes along.
 *
 * @throws {RangeError} if a slot is not in the pool
 * @throws {ShapeError} if there are not as many sources as targets, or they are no whole groups
 */
export function kvEncode(
  stage: Stage,
  pool: GpuKvPool,
  from: Uint32Array,
  to: Uint32Array,
  { granularity, format, signals }: {
    readonly granularity: KvGranularity;
    readonly format: Exclude<KvFormat, "f32">;
    readonly signals?: readonly KvSignal[];
  },
): void {
  if (from.length !== to.length) {
    throw new ShapeError("kv_encode", `${from.length} sources, ${to.length} targets`);
  }
  requireGroups("kv_encode", format, from, to);
  for (const slot of from) pool.requireSlot(granularity, slot);
  for (const slot of to) pool.requireSlot(granularity, slot, format);
  const count = from.length, { headDim } = pool.layout;
  if (count === 0) return;
  pool.forgetBounds(granularity, to, format);
  const perPage = pool.slotsPerPage(format);
  const at = stage.data.reserve(3 * count + 1, (words) => {
    words[3 * count] = headDim;
    from.forEach((slot, i) => words[i] = pool.slotOffset(granularity, slot) * pool.padded);
    to.forEach((slot, i) => {
      const unit = pool.unitOffset(granularity, Math.floor(slot / perPage));
      words[count + i] = unit * pool.unitWords;
      words[2 * count + i] = slot % perPage;
    });
  });
  const slots = stage.data.reserve(2 * count, (words) => {
    from.forEach((slot, i) => words[i] = pool.slotOffset(granularity, slot));
    to.forEach((slot, i) => words[count + i] = pool.slotOffset(granularity, slot, format));
  });
  for (const [p, part] of pool.parts.entries()) {
    const heads = headsOf(pool, granularity)(part.layers);
    for (const kind of ["keys", "values"] as const) {
      const isGrouped = kind === "keys" && format === "kivi4";
      const code = format === "kivi4" && !isGrouped ? formCodes.int4 : formCodes[format];
      const items = heads * (isGrouped ? count / groupTokens(format) : count);
      stage.dispatch(
        kernels.kvEncode,
        [heads, pool.pages * pool.unitWords, count, at],
        [stepData, whole(part[kind])],
        [Math.ceil(items / 64), 1, 1],
        { FORM: code },
      );
    }
    for (const record of [...part.records()]) {
      if (record.format !== "f32") continue;
      if (signals?.includes(record.signal) === false) continue; // another policy's
      const { signal, width, buffer } = record;
      const other = pool.record(signal, p * part.layers, format);
      stage.dispatch(
        kernels.recordMove,
        [heads, pool.slots, pool.pages * perPage, width, count, slots],
        [stepData, whole(buffer), whole(other)],
        [Math.ceil(heads * width / 64), count, 1],
      );
    }
  }
}

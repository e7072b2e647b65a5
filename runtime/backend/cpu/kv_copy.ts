/** kv_copy and kv_encode: move K, V and recorded signals between slots. */
import { ShapeError } from "../../errors.ts";
import type { KvFormat, KvGranularity } from "../../kv/policy.ts";
import { unitsOf } from "../../kv/units.ts";
import type { CopyOptions, Rope } from "../backend.ts";
import { type CpuKvPool, requireUnit, type SlotPool } from "./kv_pool.ts";

/**
 * Turning: pairs of each key rotate on by `shift` positions. Rotations add up, R(a) R(b) = R(a + b),
 * so keys that were rotated for one place are then rotated for another. Computed in f64, rounded once.
 *
 * @throws {RangeError} if a slot is not in the pool, or a target is also a source or repeated
 */
export function kvCopy(
  pool: CpuKvPool,
  from: Uint32Array,
  to: Uint32Array,
  { granularity = "sequence", format = "f32", turn }: CopyOptions = {},
): void {
  requireDistinct(from, to);
  eachUnitSlot(pool, from, to, [format, format], granularity, (source, target, i) => {
    const [unit, offset] = source, [toUnit, toOffset] = target;
    pool.copy(format, unit, offset, toUnit, toOffset);
    pool.records.move([format, unit, offset], [format, toUnit, toOffset]);
    const shift = turn?.shifts[i] ?? 0;
    if (turn === undefined || shift === 0) return;
    turnKey(pool.keys, pool.byteOf("f32", toUnit, toOffset) / 4, shift, turn.rope);
  });
}

/** What {@link kvEncode} needs of a pool: any in this process's memory. */
export interface EncodingPool extends SlotPool {
  /** Stores an f32 slot in `format` at a slot of a page of that format. */
  encode(
    format: Exclude<KvFormat, "f32">,
    unit: number,
    offset: number,
    toUnit: number,
    toOffset: number,
  ): void;
}

/** Stores f32 slots in another format. @throws as {@link kvCopy} */
export function kvEncode(
  pool: EncodingPool,
  from: Uint32Array,
  to: Uint32Array,
  { granularity, format }: {
    readonly granularity: KvGranularity;
    readonly format: Exclude<KvFormat, "f32">;
  },
): void {
  if (from.length !== to.length) {
    throw new ShapeError("kv_encode", `${from.length} sources, ${to.length} targets`);
  }
  eachUnitSlot(pool, from, to, ["f32", format], granularity, (source, target) => {
    const [unit, offset] = source, [toUnit, toOffset] = target;
    pool.encode(format, unit, offset, toUnit, toOffset);
    pool.records.move(["f32", unit, offset], [format, toUnit, toOffset]);
  });
}

/** @throws {RangeError} if a target is also a source or repeated */
export function requireDistinct(from: Uint32Array, to: Uint32Array): void {
  if (from.length !== to.length) {
    throw new ShapeError("kv_copy", `${from.length} sources, ${to.length} targets`);
  }
  const taken = new Set(from);
  for (const slot of to) {
    if (taken.has(slot)) throw new RangeError(`Slot ${slot} is copied to and is in use as well`);
    taken.add(slot);
  }
}

type Place = readonly [unit: number, offset: number];

/** Calls `move` for every unit behind each pair of slots. */
export function eachUnitSlot(
  pool: Pick<SlotPool, "layout" | "pages" | "slotsPerPage">,
  from: Uint32Array,
  to: Uint32Array,
  [format, toFormat]: readonly [KvFormat, KvFormat],
  granularity: KvGranularity,
  move: (from: Place, to: Place, index: number) => void,
): void {
  const perPage = pool.slotsPerPage(format), toPerPage = pool.slotsPerPage(toFormat);
  for (let i = 0; i < from.length; i++) {
    const id = Math.floor(from[i]! / perPage), toId = Math.floor(to[i]! / toPerPage);
    requireUnit(pool, granularity, id);
    requireUnit(pool, granularity, toId);
    const units = unitsOf(pool.layout, pool.pages, granularity, id);
    const toUnits = unitsOf(pool.layout, pool.pages, granularity, toId);
    units.forEach((unit, u) =>
      move([unit, from[i]! % perPage], [toUnits[u]!, to[i]! % toPerPage], i)
    );
  }
}

/** Rotates the key at `keys[at]` by `shift` positions. */
export function turnKey(keys: Float32Array, at: number, shift: number, rope: Rope): void {
  const half = rope.headDim / 2;
  const step = rope.layout === "half" ? 1 : 2, gap = rope.layout === "half" ? half : 1;
  for (let i = 0; i < half; i++) {
    const angle = shift * rope.frequencies[i]!, first = at + i * step;
    const a = keys[first]!, b = keys[first + gap]!;
    const cos = Math.cos(angle), sin = Math.sin(angle);
    keys[first] = a * cos - b * sin;
    keys[first + gap] = b * cos + a * sin;
  }
}

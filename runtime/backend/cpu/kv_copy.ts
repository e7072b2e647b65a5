/** kv_copy and kv_encode: move K, V and recorded signals between slots. */
import { ShapeError } from "../../errors.ts";
import { groupTokens } from "../../kv/formats.ts";
import type { KvFormat, KvGranularity } from "../../kv/policy.ts";
import { unitsOf } from "../../kv/units.ts";
import type { CopyOptions, Rope } from "../backend.ts";
import { type CpuKvPool, requireUnit, type SlotPool, type UnitSlot } from "./kv_pool.ts";

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
  const turnKey = turn && turner(turn.rope);
  eachUnitSlot(pool, from, to, [format, format], granularity, (source, target, i) => {
    const [unit, offset] = source, [toUnit, toOffset] = target;
    pool.copy(format, source, target);
    pool.records.move([format, unit, offset], [format, toUnit, toOffset]);
    const shift = turn?.shifts[i] ?? 0;
    if (shift !== 0) turnKey?.(pool.keys, pool.indexOf(toUnit, toOffset), shift);
  });
}

/** What {@link kvEncode} needs of a pool: any in this process's memory. */
export interface EncodingPool extends SlotPool {
  /** Stores f32 slots in `format` at consecutive slots of a page of that format: a whole group. */
  encode(format: Exclude<KvFormat, "f32">, from: readonly UnitSlot[], to: UnitSlot): void;
}

/**
 * Stores f32 slots in another format, as many at a time as the format stores together.
 *
 * @throws {ShapeError} if they are no whole groups
 * @throws as {@link kvCopy}
 */
export function kvEncode(
  pool: EncodingPool,
  from: Uint32Array,
  to: Uint32Array,
  { granularity, format }: {
    readonly granularity: KvGranularity;
    readonly format: Exclude<KvFormat, "f32">;
  },
): void {
  const size = groupTokens(format);
  if (from.length !== to.length || from.length % size !== 0) {
    throw new ShapeError(
      "kv_encode",
      `${from.length} sources, ${to.length} targets; ${format} takes ${size} at a time`,
    );
  }
  const groups = new Map<number, { readonly from: UnitSlot[]; readonly to: UnitSlot }>();
  eachUnitSlot(pool, from, to, ["f32", format], granularity, (source, target, i, u) => {
    if (i % size === 0) groups.set(u, { from: [], to: target });
    const group = groups.get(u)!, place = i % size;
    if (target[0] !== group.to[0] || target[1] !== group.to[1] + place) {
      throw new ShapeError("kv_encode", `slots of a ${format} group must follow each other`);
    }
    group.from.push(source);
    if (place === size - 1) pool.encode(format, group.from, group.to);
    pool.records.move(["f32", ...source], [format, ...target]);
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

/** Calls `move` for every unit behind each pair of slots; `u` counts the units of a slot. */
export function eachUnitSlot(
  pool: Pick<SlotPool, "layout" | "pages" | "slotsPerPage">,
  from: Uint32Array,
  to: Uint32Array,
  [format, toFormat]: readonly [KvFormat, KvFormat],
  granularity: KvGranularity,
  move: (from: UnitSlot, to: UnitSlot, index: number, u: number) => void,
): void {
  const perPage = pool.slotsPerPage(format), toPerPage = pool.slotsPerPage(toFormat);
  // Slots of a page mostly follow each other.
  const unitsBehind = () => {
    let known = -1, units: readonly number[] = [];
    return (id: number) => {
      if (id === known) return units;
      requireUnit(pool, granularity, id);
      units = unitsOf(pool.layout, pool.pages, granularity, known = id);
      return units;
    };
  };
  const unitsFrom = unitsBehind(), unitsTo = unitsBehind();
  for (let i = 0; i < from.length; i++) {
    const units = unitsFrom(Math.floor(from[i]! / perPage));
    const toUnits = unitsTo(Math.floor(to[i]! / toPerPage));
    units.forEach((unit, u) =>
      move([unit, from[i]! % perPage], [toUnits[u]!, to[i]! % toPerPage], i, u)
    );
  }
}

/** Rotates the key at `keys[at]` by `shift` positions. Angles are computed once per shift. */
export function turner(rope: Rope): (keys: Float32Array, at: number, shift: number) => void {
  const half = rope.headDim / 2;
  const step = rope.layout === "half" ? 1 : 2, gap = rope.layout === "half" ? half : 1;
  const known = new Map<number, { readonly cos: Float64Array; readonly sin: Float64Array }>();
  const anglesOf = (shift: number) => {
    let angles = known.get(shift);
    if (angles === undefined) {
      const cos = rope.frequencies.map((frequency) => Math.cos(shift * frequency));
      const sin = rope.frequencies.map((frequency) => Math.sin(shift * frequency));
      known.set(shift, angles = { cos, sin });
    }
    return angles;
  };
  return (keys, at, shift) => {
    const { cos, sin } = anglesOf(shift);
    for (let i = 0; i < half; i++) {
      const first = at + i * step;
      const a = keys[first]!, b = keys[first + gap]!;
      keys[first] = a * cos[i]! - b * sin[i]!;
      keys[first + gap] = b * cos[i]! + a * sin[i]!;
    }
  };
}

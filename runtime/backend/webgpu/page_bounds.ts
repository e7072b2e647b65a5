/**
 * Minima and maxima of the keys of full pages, by which rules of the score "bounds" judge pages without
 * reading them. They are computed when first asked for, once for as long as nobody writes to the page.
 */
import * as kernels from "../../../shaders/mod.ts";
import { groupOf, unitBase } from "../../kv/units.ts";
import type { AttentionRow } from "../backend.ts";
import type { GpuKvPool } from "./kv_pool.ts";
import type { GpuBuffer } from "./memory.ts";
import { stepData, target } from "./recorder.ts";
import type { Stage } from "./stage.ts";

/** Units of a dispatch at most. */
const MOST_UNITS = 65_535;

/**
 * The bounds of a layer's units, those of all full pages of `rows` before their new tokens among them.
 */
export function pageBounds(
  stage: Stage,
  pool: GpuKvPool,
  layer: number,
  rows: readonly AttentionRow[],
): GpuBuffer {
  const { buffer, known } = pool.bounds(layer), home = pool.home(layer);
  const { layout } = pool, { kvHeads, pageSize } = layout;
  const missing: number[] = [];
  stage.undo.push(() => missing.forEach((unit) => known[unit] = 0));
  for (const { granularity, pages, counts, length } of rows) {
    for (let head = 0; head < kvHeads; head++) {
      const group = groupOf(layout, granularity, layer, head);
      const base = unitBase(layout, pool.pages, granularity, home, head);
      const full = Math.floor((counts[group]! - length) / pageSize);
      for (let p = 0; p < full; p++) {
        const unit = base + pool.unitOffset(granularity, pages[group]![p]!);
        if (known[unit] === 1) continue;
        known[unit] = 1;
        missing.push(unit);
      }
    }
  }
  for (let first = 0; first < missing.length; first += MOST_UNITS) {
    const units = Uint32Array.from(missing.slice(first, first + MOST_UNITS));
    const keys = pool.keys(layer);
    stage.dispatch(
      kernels.pageBounds,
      [pool.padded, pageSize, stage.data.put(units)],
      [target(keys, 0, keys.size), stepData, target(buffer, 0, buffer.size)],
      [Math.ceil(pool.padded / 64), units.length, 1],
    );
  }
  return buffer;
}

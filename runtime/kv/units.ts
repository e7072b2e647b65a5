/**
 * Units: the pieces of memory behind page ids.
 *
 * A unit holds the K and V of one page of slots of one layer and KV head; a pool of `pages` pages has
 * `layers * kvHeads * pages` units. What a page id stands for depends on the granularity of the table
 * it is in:
 *
 *   sequence   id p < pages            units (layer * kvHeads + kvHead) * pages + p of all layers, heads
 *   layer      id < layers * pages     the kvHeads units that a sequence page has in one layer
 *   kv-head    id < all units          that unit
 *
 * A unit may serve any layer and head, so a head that keeps little leaves its memory to the others.
 * Physical slots are `id * slotsPerPage + offset`, in the ids of their granularity.
 */
import type { KvGranularity, KvLayout } from "./policy.ts";

/** How many tables a sequence has. */
export function groupCount({ layers, kvHeads }: KvLayout, granularity: KvGranularity): number {
  switch (granularity) {
    case "sequence":
      return 1;
    case "layer":
      return layers;
    case "kv-head":
      return layers * kvHeads;
  }
}

/** Which of the tables serves a layer and head. */
export function groupOf(
  { kvHeads }: KvLayout,
  granularity: KvGranularity,
  layer: number,
  kvHead: number,
): number {
  switch (granularity) {
    case "sequence":
      return 0;
    case "layer":
      return layer;
    case "kv-head":
      return layer * kvHeads + kvHead;
  }
}

/** The first unit that {@link unitOffset} counts from, for a layer and head. */
export function unitBase(
  { kvHeads }: KvLayout,
  pages: number,
  granularity: KvGranularity,
  layer: number,
  kvHead: number,
): number {
  switch (granularity) {
    case "sequence":
      return (layer * kvHeads + kvHead) * pages;
    case "layer":
      return kvHead * pages;
    case "kv-head":
      return 0;
  }
}

/** Distance of a page id's unit from {@link unitBase}; the same for every layer and head. */
export function unitOffset(
  { kvHeads }: KvLayout,
  pages: number,
  granularity: KvGranularity,
  id: number,
): number {
  if (granularity !== "layer") return id;
  const place = id % pages;
  return (id - place) * kvHeads + place;
}

/** All units behind a page id. */
export function unitsOf(
  layout: KvLayout,
  pages: number,
  granularity: KvGranularity,
  id: number,
): number[] {
  const { layers, kvHeads } = layout;
  const offset = unitOffset(layout, pages, granularity, id);
  const heads = granularity === "kv-head" ? 1 : kvHeads;
  const units: number[] = [];
  for (let layer = 0; layer < (granularity === "sequence" ? layers : 1); layer++) {
    for (let head = 0; head < heads; head++) {
      units.push(offset + unitBase(layout, pages, granularity, layer, head));
    }
  }
  return units;
}

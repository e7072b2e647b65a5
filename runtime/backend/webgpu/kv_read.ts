/** Reading what a pool knows about slots back to the host: K, V and what was recorded. */
import { type KvKind, loadSlots } from "../../kv/formats.ts";
import type { KvFormat, KvSignal } from "../../kv/policy.ts";
import { unitBase } from "../../kv/units.ts";
import type { SlotPlace } from "../backend.ts";
import type { GpuKvPool } from "./kv_pool.ts";

/** As `KvPool.readSignal`. */
export async function readSlots(
  pool: GpuKvPool,
  signal: KvSignal,
  layer: number,
  kvHead: number,
  slots: Uint32Array,
  { granularity, format }: SlotPlace,
): Promise<Float32Array> {
  const { layout, host } = pool;
  if (kvHead >= layout.kvHeads) throw new RangeError(`Head ${kvHead} is not in the pool`);
  for (const slot of slots) pool.requireSlot(granularity, slot, format);
  const isVector = signal === "key" || signal === "value";
  if (isVector && format !== "f32") {
    const kind = signal === "key" ? "keys" : "values";
    return await decoded(pool, kind, layer, kvHead, slots, { granularity, format });
  }
  const width = isVector ? layout.headDim : pool.widthOf(signal);
  const stride = isVector ? pool.unitWords / layout.pageSize : width;
  const vectors = { key: pool.keys(layer), value: pool.values(layer) };
  const buffer = isVector ? vectors[signal] : pool.record(signal, layer, format);
  const perPage = pool.slotsPerPage(format), home = pool.home(layer);
  const base = unitBase(layout, pool.pages, granularity, home, kvHead) * perPage;
  const rows = slots.map((slot) => base + pool.slotOffset(granularity, slot, format));
  const words = await host.gather(buffer, stride, rows);
  if (width === stride) return words;
  const data = isVector && host.isHalf
    ? new Float16Array(words.buffer, words.byteOffset, 2 * words.length)
    : words;
  const apart = isVector ? pool.padded : stride;
  const out = new Float32Array(slots.length * width);
  for (let i = 0; i < slots.length; i++) {
    out.set(data.subarray(i * apart, i * apart + width), i * width);
  }
  return out;
}

/** Vectors in another format, by whole pages. */
async function decoded(
  pool: GpuKvPool,
  kind: KvKind,
  layer: number,
  kvHead: number,
  slots: Uint32Array,
  { granularity, format }: SlotPlace & { readonly format: Exclude<KvFormat, "f32"> },
): Promise<Float32Array> {
  const { headDim } = pool.layout, perPage = pool.slotsPerPage(format);
  const base = unitBase(pool.layout, pool.pages, granularity, pool.home(layer), kvHead);
  const ids = [...new Set(Array.from(slots, (slot) => Math.floor(slot / perPage)))];
  const units = Uint32Array.from(ids, (id) => base + pool.unitOffset(granularity, id));
  const floats = await pool.host.gather(pool[kind](layer), pool.unitWords, units);
  const memory = { floats, bytes: new Uint8Array(floats.buffer, floats.byteOffset) };
  const out = new Float32Array(slots.length * headDim);
  slots.forEach((slot, i) => {
    const page = ids.indexOf(Math.floor(slot / perPage)) * 4 * pool.unitWords;
    loadSlots(kind, format, memory, page, slot % perPage, 1, headDim, out, i * headDim, 0);
  });
  return out;
}

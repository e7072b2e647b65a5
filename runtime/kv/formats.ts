/**
 * How K and V vectors are stored in a page. A page of any format has the same number of bytes; smaller
 * numbers mean more slots per page.
 *
 *   f32    as computed
 *   int8   symmetric: scale f32 = max|x| / 127, then one byte per number
 *   int4   affine in groups of 32: scale and minimum as f16, then half a byte per number, low half first
 *   kivi4  values as int4; keys affine per channel over groups of 32 tokens, see kivi.ts
 *
 * In all but kivi4 each vector is stored by itself (per token and head), so slots can be dropped and
 * gathered one by one without touching what is left. Keys of kivi4 are written, moved and dropped in
 * whole groups of {@link groupTokens} slots.
 *
 * Source: KIVI, https://arxiv.org/abs/2402.02750, section 3. int8 and int4 differ from it: keys are
 * grouped along the vector like values.
 */
import { fromHalf, readU16, toHalf, writeU16 } from "./_half.ts";
import { copyKey, decodeKeys, encodeKeys, keyGroupBytes, KIVI_GROUP } from "./kivi.ts";
import type { KvFormat, KvLayout } from "./policy.ts";

/** Memory as bytes and as f32, over the same buffer. */
export interface FormatMemory {
  readonly bytes: Uint8Array;
  readonly floats: Float32Array;
}

/** Numbers that share a scale in int4. */
const GROUP = 32;

/** Formats whose vectors are stored one by one. */
type VectorFormat = Exclude<KvFormat, "f32" | "kivi4">;

/** Slots that are stored together and can only be moved or dropped together. */
export function groupTokens(format: KvFormat): number {
  return format === "kivi4" ? KIVI_GROUP : 1;
}

/** Bytes of one stored vector, a multiple of 4. */
export function vectorBytes(format: Exclude<KvFormat, "kivi4">, headDim: number): number {
  switch (format) {
    case "f32":
      return 4 * headDim;
    case "int8":
      return 4 + 4 * Math.ceil(headDim / 4);
    case "int4":
      return 4 * Math.ceil(headDim / GROUP) + 4 * Math.ceil(headDim / 8);
  }
}

/**
 * Slots of a page in a format; 0 if a page is too small for a group.
 *
 * @param f32Bytes bytes of an f32 vector in the pool, where it is padded
 */
export function slotsPerPage(
  { pageSize, headDim }: KvLayout,
  format: KvFormat,
  f32Bytes: number = 4 * headDim,
): number {
  if (format === "f32") return pageSize;
  if (format === "kivi4") {
    const group = Math.max(keyGroupBytes(headDim), KIVI_GROUP * vectorBytes("int4", headDim));
    return KIVI_GROUP * Math.floor(pageSize * f32Bytes / group);
  }
  return Math.floor(pageSize * f32Bytes / vectorBytes(format, headDim));
}

/** Which of a slot's two vectors. */
export type KvKind = "keys" | "values";

/**
 * Stores a group of vectors ({@link groupTokens} of them) in consecutive slots of a page.
 *
 * @param ats where each vector begins in `from`
 * @param page byte at which the page's K (or V) begins
 * @param slot first of the slots, a multiple of the group
 */
export function storeGroup(
  kind: KvKind,
  format: Exclude<KvFormat, "f32">,
  from: Float32Array,
  ats: readonly number[],
  headDim: number,
  memory: FormatMemory,
  page: number,
  slot: number,
): void {
  if (format === "kivi4" && kind === "keys") {
    return encodeKeys(from, ats, headDim, memory.bytes, page, slot);
  }
  const form = format === "kivi4" ? "int4" : format, step = vectorBytes(form, headDim);
  ats.forEach((at, i) => encodeVector(form, from, at, headDim, memory, page + (slot + i) * step));
}

/** Reads `count` slots of a page from `slot` on, to `to[at]`, `to[at + stride]` and so on. */
export function loadSlots(
  kind: KvKind,
  format: Exclude<KvFormat, "f32">,
  memory: FormatMemory,
  page: number,
  slot: number,
  count: number,
  headDim: number,
  to: Float32Array,
  at: number,
  stride: number,
): void {
  if (format === "kivi4" && kind === "keys") {
    return decodeKeys(memory.bytes, page, slot, count, headDim, to, at, stride);
  }
  const form = format === "kivi4" ? "int4" : format;
  const from = page + slot * vectorBytes(form, headDim);
  decodeVectors(form, memory, from, count, headDim, to, at, stride);
}

/**
 * Copies a slot bit for bit. Of kivi4, slots move in whole groups: the first one's copy takes the
 * group's scales along.
 */
export function copySlot(
  kind: KvKind,
  format: Exclude<KvFormat, "f32">,
  bytes: Uint8Array,
  [page, slot]: readonly [page: number, slot: number],
  [toPage, toSlot]: readonly [page: number, slot: number],
  headDim: number,
): void {
  if (format === "kivi4" && kind === "keys") {
    return copyKey(bytes, page, slot, toPage, toSlot, headDim);
  }
  const length = vectorBytes(format === "kivi4" ? "int4" : format, headDim);
  const from = page + slot * length;
  bytes.copyWithin(toPage + toSlot * length, from, from + length);
}

/** Stores `headDim` numbers from `from[at]` on at byte `to`, a multiple of 4. */
export function encodeVector(
  format: VectorFormat,
  from: Float32Array,
  at: number,
  headDim: number,
  memory: FormatMemory,
  to: number,
): void {
  if (format === "int8") encodeInt8(from, at, headDim, memory, to);
  else encodeInt4(from, at, headDim, memory, to);
}

/** Reads a vector stored by {@link encodeVector} into `to[at]` and following. */
export function decodeVector(
  format: VectorFormat,
  memory: FormatMemory,
  from: number,
  headDim: number,
  to: Float32Array,
  at: number,
): void {
  if (format === "int8") decodeInt8(memory, from, headDim, to, at);
  else decodeInt4(memory, from, headDim, to, at);
}

/**
 * Reads `count` vectors stored one after the other from byte `from` on, to `to[at]`, `to[at + stride]`
 * and so on.
 */
export function decodeVectors(
  format: VectorFormat,
  memory: FormatMemory,
  from: number,
  count: number,
  headDim: number,
  to: Float32Array,
  at: number,
  stride: number,
): void {
  const step = vectorBytes(format, headDim);
  if (format !== "int8") {
    for (let i = 0; i < count; i++) {
      decodeInt4(memory, from + i * step, headDim, to, at + i * stride);
    }
    return;
  }
  const { bytes, floats } = memory;
  const signed = new Int8Array(bytes.buffer, bytes.byteOffset, bytes.length);
  for (let i = 0; i < count; i++) {
    const scale = floats[(from + i * step) / 4]!;
    const source = from + i * step + 4, target = at + i * stride;
    for (let d = 0; d < headDim; d++) to[target + d] = signed[source + d]! * scale;
  }
}

function encodeInt8(
  from: Float32Array,
  at: number,
  headDim: number,
  { bytes, floats }: FormatMemory,
  to: number,
): void {
  let most = 0;
  for (let d = 0; d < headDim; d++) most = Math.max(most, Math.abs(from[at + d]!));
  const scale = Math.fround(most / 127);
  floats[to / 4] = scale;
  for (let d = 0; d < headDim; d++) {
    const q = scale === 0 ? 0 : Math.round(from[at + d]! / scale);
    bytes[to + 4 + d] = Math.max(-127, Math.min(127, q));
  }
}

function decodeInt8(
  { bytes, floats }: FormatMemory,
  from: number,
  headDim: number,
  to: Float32Array,
  at: number,
): void {
  const scale = floats[from / 4]!;
  for (let d = 0; d < headDim; d++) to[at + d] = ((bytes[from + 4 + d]! << 24) >> 24) * scale;
}

function encodeInt4(
  from: Float32Array,
  at: number,
  headDim: number,
  { bytes }: FormatMemory,
  to: number,
): void {
  const groups = Math.ceil(headDim / GROUP), packed = to + 4 * groups;
  for (let i = 0; i < (headDim + 1) >> 1; i++) bytes[packed + i] = 0;
  for (let g = 0; g < groups; g++) {
    const start = g * GROUP, end = Math.min(headDim, start + GROUP);
    let least = Infinity, most = -Infinity;
    for (let d = start; d < end; d++) {
      least = Math.min(least, from[at + d]!);
      most = Math.max(most, from[at + d]!);
    }
    const scale = toHalf((most - least) / 15), low = toHalf(least);
    writeU16(bytes, to + 4 * g, scale);
    writeU16(bytes, to + 4 * g + 2, low);
    const step = fromHalf(scale) || 1, zero = fromHalf(low);
    for (let d = start; d < end; d++) {
      const q = Math.max(0, Math.min(15, Math.round((from[at + d]! - zero) / step)));
      bytes[packed + (d >> 1)]! |= q << (4 * (d & 1));
    }
  }
}

function decodeInt4(
  { bytes }: FormatMemory,
  from: number,
  headDim: number,
  to: Float32Array,
  at: number,
): void {
  const groups = Math.ceil(headDim / GROUP), packed = from + 4 * groups;
  for (let g = 0; g < groups; g++) {
    const scale = fromHalf(readU16(bytes, from + 4 * g)) || 1;
    const zero = fromHalf(readU16(bytes, from + 4 * g + 2));
    for (let d = g * GROUP; d < Math.min(headDim, (g + 1) * GROUP); d++) {
      to[at + d] = zero + scale * (bytes[packed + (d >> 1)]! >> (4 * (d & 1)) & 15);
    }
  }
}

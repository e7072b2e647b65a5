/**
 * Keys of the format kivi4: 4 bits per number, affine per channel over 32 tokens.
 *
 * Source: KIVI, https://arxiv.org/abs/2402.02750, section 3.2: keys have a few channels of large numbers, so a
 * scale per channel costs the others nothing, and keys can be stored once a group of tokens is complete.
 * Its values are per token over 32 channels, which is int4 of formats.ts.
 *
 * Layout of a page's keys: groups one after the other. A group, little-endian:
 *
 *   headDim x (scale f16, minimum f16)              one u32 per channel, scale in the low half
 *   32 x ceil(headDim / 8) u32                      per token headDim half bytes, low half first
 *
 * so that x[token][d] = minimum[d] + scale[d] * n[token][d], and q . k = q . minimum + (q * scale) . n
 * needs the scales once per group. 5 bits per number.
 */
import { fromHalf, readU16, toHalf, writeU16 } from "./_half.ts";

/** Tokens that share scales. */
export const KIVI_GROUP = 32;

/** Bytes of a group of keys, a multiple of 4. */
export function keyGroupBytes(headDim: number): number {
  return 4 * headDim + KIVI_GROUP * nibbleBytes(headDim);
}

function nibbleBytes(headDim: number): number {
  return 4 * Math.ceil(headDim / 8);
}

/** Byte of the group of a slot. */
function groupAt(page: number, slot: number, headDim: number): number {
  return page + Math.floor(slot / KIVI_GROUP) * keyGroupBytes(headDim);
}

/**
 * Stores a group.
 *
 * @param ats where the 32 keys begin in `from`
 * @param page byte at which the page begins, a multiple of 4
 * @param slot first slot, a multiple of 32
 * @throws {RangeError} if that is no whole group
 */
export function encodeKeys(
  from: Float32Array,
  ats: readonly number[],
  headDim: number,
  bytes: Uint8Array,
  page: number,
  slot: number,
): void {
  if (ats.length !== KIVI_GROUP || slot % KIVI_GROUP !== 0) {
    throw new RangeError(
      `Cannot store ${ats.length} keys at slot ${slot}: kivi4 takes 32 at a time`,
    );
  }
  const group = groupAt(page, slot, headDim), step = nibbleBytes(headDim);
  const numbers = group + 4 * headDim;
  bytes.fill(0, numbers, numbers + KIVI_GROUP * step);
  for (let d = 0; d < headDim; d++) {
    let least = Infinity, most = -Infinity;
    for (const at of ats) {
      least = Math.min(least, from[at + d]!);
      most = Math.max(most, from[at + d]!);
    }
    const scale = toHalf((most - least) / 15), low = toHalf(least);
    writeU16(bytes, group + 4 * d, scale);
    writeU16(bytes, group + 4 * d + 2, low);
    const unit = fromHalf(scale) || 1, zero = fromHalf(low);
    ats.forEach((at, i) => {
      const n = Math.max(0, Math.min(15, Math.round((from[at + d]! - zero) / unit)));
      bytes[numbers + i * step + (d >> 1)]! |= n << (4 * (d & 1));
    });
  }
}

/** Reads `count` keys of a page from `slot` on, to `to[at]`, `to[at + stride]` and so on. */
export function decodeKeys(
  bytes: Uint8Array,
  page: number,
  slot: number,
  count: number,
  headDim: number,
  to: Float32Array,
  at: number,
  stride: number,
): void {
  const scales = new Float64Array(headDim), minima = new Float64Array(headDim);
  const step = nibbleBytes(headDim);
  let read = -1;
  for (let i = 0; i < count; i++) {
    const group = groupAt(page, slot + i, headDim);
    if (group !== read) {
      for (let d = 0; d < headDim; d++) {
        scales[d] = fromHalf(readU16(bytes, group + 4 * d)) || 1;
        minima[d] = fromHalf(readU16(bytes, group + 4 * d + 2));
      }
      read = group;
    }
    const from = group + 4 * headDim + (slot + i) % KIVI_GROUP * step, target = at + i * stride;
    for (let d = 0; d < headDim; d++) {
      to[target + d] = minima[d]! + scales[d]! * (bytes[from + (d >> 1)]! >> (4 * (d & 1)) & 15);
    }
  }
}

/**
 * Copies one key; the first of a group takes the scales along.
 *
 * @throws {RangeError} if its place in the group would change
 */
export function copyKey(
  bytes: Uint8Array,
  page: number,
  slot: number,
  toPage: number,
  toSlot: number,
  headDim: number,
): void {
  const place = slot % KIVI_GROUP;
  if (place !== toSlot % KIVI_GROUP) {
    throw new RangeError(
      `Cannot move slot ${slot} to ${toSlot}: keys of kivi4 move in whole groups`,
    );
  }
  const from = groupAt(page, slot, headDim), to = groupAt(toPage, toSlot, headDim);
  if (place === 0) bytes.copyWithin(to, from, from + 4 * headDim);
  const step = nibbleBytes(headDim), at = 4 * headDim + place * step;
  bytes.copyWithin(to + at, from + at, from + at + step);
}

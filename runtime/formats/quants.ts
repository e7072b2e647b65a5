/**
 * Block-quantised weights to f32, bit for bit as ggml's reference functions do it.
 *
 * Source: ggml `dequantize_row_*`, https://github.com/ggml-org/ggml/blob/master/src/ggml-quants.c;
 * block layouts in the comments below. A block's products fit a double exactly, so the one
 * rounding is the store into f32, as in the reference.
 */
import { FormatError } from "../errors.ts";
import { bf16ToF32, f16ToF32, f16Values, f32ToF32 } from "./floats.ts";
import { type GgmlType, ggmlTypes } from "./ggml_types.ts";
import type { ByteSource } from "./reader.ts";

/** Decodes whole blocks; `bytes` and `out` have matching lengths. */
type Decoder = (bytes: Uint8Array, out: Float32Array) => void;

const decoders: ReadonlyMap<string, Decoder> = new Map([
  ["F32", f32ToF32],
  ["F16", f16ToF32],
  ["BF16", bf16ToF32],
  ["Q8_0", Q8_0],
  ["Q4_0", Q4_0],
  ["Q4_1", Q4_1],
  ["Q5_0", Q5_0],
  ["Q5_1", Q5_1],
  ["Q4_K", Q4_K],
  ["Q5_K", Q5_K],
  ["Q6_K", Q6_K],
]);

/** Names of the types that can be used as weights. */
export const weightTypes: readonly string[] = [...decoders.keys()];

/**
 * Dequantises `bytes`, which hold whole blocks of the ggml type `name`.
 *
 * @returns one value per weight, in the order of the file
 * @throws {FormatError} naming the type if it cannot be used as weights, or if a block is cut off
 */
export function dequantize(
  name: string,
  bytes: Uint8Array,
  source: string,
): Float32Array<ArrayBuffer> {
  const { type, decode } = requireDecoder(name, source);
  if (bytes.length % type.bytes !== 0) {
    throw new FormatError(
      `${bytes.length} bytes are not a whole number of ${name} blocks of ${type.bytes} bytes`,
      { source },
    );
  }
  const out = new Float32Array(bytes.length / type.bytes * type.block);
  decode(bytes, out);
  return out;
}

/** Bytes decoded at a time, so that a large tensor is not held twice. */
const CHUNK_BYTES = 1 << 20;

/**
 * Reads and dequantises `bytes` bytes at `offset`, piece by piece.
 *
 * @throws {FormatError} as {@link dequantize} does
 */
export function readWeights(
  source: ByteSource,
  range: { readonly offset: number; readonly bytes: number },
  name: string,
): Float32Array<ArrayBuffer> {
  const { type, decode } = requireDecoder(name, source.name);
  const blocks = range.bytes / type.bytes;
  const out = new Float32Array(blocks * type.block);
  const step = Math.max(1, Math.floor(CHUNK_BYTES / type.bytes));
  for (let block = 0; block < blocks; block += step) {
    const count = Math.min(step, blocks - block);
    const bytes = source.read(range.offset + block * type.bytes, count * type.bytes);
    decode(bytes, out.subarray(block * type.block, (block + count) * type.block));
  }
  return out;
}

/** How rows of a storage type lie in a file, and how they are read. */
export interface RowFormat {
  /** Bytes of one row of `cols` values; a fraction if rows are not whole blocks. */
  bytes(cols: number): number;
  /** Dequantises whole blocks into `out`, which is as long as they say. */
  decode(bytes: Uint8Array, out: Float32Array): void;
}

/** @throws {FormatError} naming the type if it cannot be used as weights */
export function rowFormat(name: string, source: string): RowFormat {
  const { type, decode } = requireDecoder(name, source);
  return { bytes: (cols) => cols / type.block * type.bytes, decode };
}

function requireDecoder(name: string, source: string): { type: GgmlType; decode: Decoder } {
  const decode = decoders.get(name);
  const type = typesByName.get(name);
  if (decode && type) return { type, decode };
  throw new FormatError(
    `weights of type ${name} are not supported; supported are ${weightTypes.join(", ")}`,
    { source },
  );
}

const typesByName: ReadonlyMap<string, GgmlType> = new Map(
  [...ggmlTypes.values()].map((type) => [type.name, type]),
);

const half = (bytes: Uint8Array, at: number): number =>
  f16Values[bytes[at]! | (bytes[at + 1]! << 8)]!;
const int8 = (byte: number): number => (byte << 24) >> 24;

/** [d f16][32 x i8]: d * q. */
function Q8_0(bytes: Uint8Array, out: Float32Array): void {
  for (let at = 0, o = 0; at < bytes.length; at += 34, o += 32) {
    const d = half(bytes, at);
    for (let i = 0; i < 32; i++) out[o + i] = d * int8(bytes[at + 2 + i]!);
  }
}

/** [d f16][16 bytes: value i in the low half of byte i, value i + 16 in the high]: d * (q - 8). */
function Q4_0(bytes: Uint8Array, out: Float32Array): void {
  for (let at = 0, o = 0; at < bytes.length; at += 18, o += 32) {
    const d = half(bytes, at);
    for (let i = 0; i < 16; i++) {
      const q = bytes[at + 2 + i]!;
      out[o + i] = d * ((q & 15) - 8);
      out[o + i + 16] = d * ((q >> 4) - 8);
    }
  }
}

/** [d f16][m f16][16 bytes as in Q4_0]: d * q + m. */
function Q4_1(bytes: Uint8Array, out: Float32Array): void {
  for (let at = 0, o = 0; at < bytes.length; at += 20, o += 32) {
    const d = half(bytes, at);
    const m = half(bytes, at + 2);
    for (let i = 0; i < 16; i++) {
      const q = bytes[at + 4 + i]!;
      out[o + i] = d * (q & 15) + m;
      out[o + i + 16] = d * (q >> 4) + m;
    }
  }
}

/** [d f16][4 bytes: fifth bit of value i is bit i][16 bytes as in Q4_0]: d * (q - 16). */
function Q5_0(bytes: Uint8Array, out: Float32Array): void {
  for (let at = 0, o = 0; at < bytes.length; at += 22, o += 32) {
    const d = half(bytes, at);
    for (let i = 0; i < 16; i++) {
      const q = bytes[at + 6 + i]!;
      out[o + i] = d * (((q & 15) | fifthBit(bytes, at + 2, i)) - 16);
      out[o + i + 16] = d * (((q >> 4) | fifthBit(bytes, at + 2, i + 16)) - 16);
    }
  }
}

/** [d f16][m f16][4 bytes of fifth bits][16 bytes]: d * q + m. */
function Q5_1(bytes: Uint8Array, out: Float32Array): void {
  for (let at = 0, o = 0; at < bytes.length; at += 24, o += 32) {
    const d = half(bytes, at);
    const m = half(bytes, at + 2);
    for (let i = 0; i < 16; i++) {
      const q = bytes[at + 8 + i]!;
      out[o + i] = d * ((q & 15) | fifthBit(bytes, at + 4, i)) + m;
      out[o + i + 16] = d * ((q >> 4) | fifthBit(bytes, at + 4, i + 16)) + m;
    }
  }
}

function fifthBit(bytes: Uint8Array, at: number, i: number): number {
  return ((bytes[at + (i >> 3)]! >> (i & 7)) & 1) << 4;
}

/**
 * 256 values in 8 groups of 32. [d f16][dmin f16][12 bytes: 8 scales and 8 minima of 6 bits]
 * [128 bytes: groups 2j and 2j + 1 in the low and high halves of 32 bytes]:
 * d * scale * q - dmin * minimum.
 */
function Q4_K(bytes: Uint8Array, out: Float32Array): void {
  for (let at = 0, o = 0; at < bytes.length; at += 144, o += 256) {
    for (let group = 0; group < 8; group++) {
      const { scale, min } = groupScale(bytes, at, group);
      const shift = (group & 1) * 4;
      const qs = at + 16 + (group >> 1) * 32;
      for (let i = 0; i < 32; i++) {
        out[o + group * 32 + i] = scale * ((bytes[qs + i]! >> shift) & 15) - min;
      }
    }
  }
}

/** As Q4_K, with 32 bytes before the halves: fifth bit of value i of group j is bit j of byte i. */
function Q5_K(bytes: Uint8Array, out: Float32Array): void {
  for (let at = 0, o = 0; at < bytes.length; at += 176, o += 256) {
    for (let group = 0; group < 8; group++) {
      const { scale, min } = groupScale(bytes, at, group);
      const shift = (group & 1) * 4;
      const qs = at + 48 + (group >> 1) * 32;
      for (let i = 0; i < 32; i++) {
        const high = ((bytes[at + 16 + i]! >> group) & 1) << 4;
        out[o + group * 32 + i] = scale * (((bytes[qs + i]! >> shift) & 15) | high) - min;
      }
    }
  }
}

/**
 * Scale and minimum of one group, multiplied out. Groups 0 to 3 use the low six bits of bytes g
 * and g + 4; the others take four bits from byte g + 4 and two from the tops of those bytes.
 */
function groupScale(bytes: Uint8Array, at: number, group: number): { scale: number; min: number } {
  const s = at + 4;
  let scale = bytes[s + group]! & 63;
  let min = bytes[s + group + 4]! & 63;
  if (group >= 4) {
    const low = bytes[s + group + 4]!;
    scale = (low & 15) | ((bytes[s + group - 4]! >> 6) << 4);
    min = (low >> 4) | ((bytes[s + group]! >> 6) << 4);
  }
  return { scale: half(bytes, at) * scale, min: half(bytes, at + 2) * min };
}

/**
 * 256 values in two halves of 128. [128 bytes: low four bits][64 bytes: high two bits]
 * [16 x i8 scales, one per 16 values][d f16]: d * scale * (q - 32).
 */
function Q6_K(bytes: Uint8Array, out: Float32Array): void {
  for (let at = 0, o = 0; at < bytes.length; at += 210, o += 256) {
    const d = half(bytes, at + 208);
    for (let i = 0; i < 256; i++) {
      const part = i >> 7; // which half
      const quarter = (i >> 5) & 3; // which 32 of it
      const low = bytes[at + part * 64 + (quarter & 1) * 32 + (i & 31)]! >> ((quarter >> 1) * 4);
      const high = bytes[at + 128 + part * 32 + (i & 31)]! >> (quarter * 2);
      const q = ((low & 15) | ((high & 3) << 4)) - 32;
      out[o + i] = d * int8(bytes[at + 192 + (i >> 4)]!) * q;
    }
  }
}

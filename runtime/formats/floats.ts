/**
 * Half-precision floats to f32. Both conversions are exact: every f16 and bf16 value is an f32
 * value.
 *
 * Source: IEEE 754-2019 binary16; bfloat16 is the upper half of a binary32.
 */

/** f32 value of every f16 bit pattern; 256 KiB, faster than decoding and used by all quants. */
export const f16Values: Float32Array = f16Table();

function f16Table(): Float32Array {
  const bits = new Uint32Array(65_536);
  for (let half = 0; half < bits.length; half++) bits[half] = f16ToF32Bits(half);
  return new Float32Array(bits.buffer);
}

function f16ToF32Bits(half: number): number {
  const sign = (half & 0x8000) << 16;
  const exponent = (half >> 10) & 0x1f;
  const fraction = half & 0x3ff;
  if (exponent === 0x1f) return sign | 0x7f800000 | (fraction << 13); // infinity, NaN with payload
  if (exponent > 0) return sign | ((exponent + 112) << 23) | (fraction << 13);
  if (fraction === 0) return sign;
  // Subnormal f16, normal f32: move the leading one to the hidden bit.
  const shift = Math.clz32(fraction) - 21;
  return sign | ((113 - shift) << 23) | ((fraction << (shift + 13)) & 0x7fffff);
}

/** Little-endian f16 values to f32. `bytes` holds two bytes per value of `out`. */
export function f16ToF32(bytes: Uint8Array, out: Float32Array): void {
  // Bit patterns are copied as integers: going through a number may change a NaN's payload.
  const table = new Uint32Array(f16Values.buffer);
  const target = new Uint32Array(out.buffer, out.byteOffset, out.length);
  for (let i = 0, at = 0; i < target.length; i++, at += 2) {
    target[i] = table[bytes[at]! | (bytes[at + 1]! << 8)]!;
  }
}

/** Little-endian bf16 values to f32. `bytes` holds two bytes per value of `out`. */
export function bf16ToF32(bytes: Uint8Array, out: Float32Array): void {
  const target = new Uint32Array(out.buffer, out.byteOffset, out.length);
  for (let i = 0, at = 0; i < target.length; i++, at += 2) {
    target[i] = (bytes[at]! << 16) | (bytes[at + 1]! << 24);
  }
}

/** Little-endian f32 values. `bytes` holds four bytes per value of `out`. */
export function f32ToF32(bytes: Uint8Array, out: Float32Array): void {
  new Uint8Array(out.buffer, out.byteOffset, out.byteLength).set(
    bytes.subarray(0, out.byteLength),
  );
}

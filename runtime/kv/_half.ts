/** f16 numbers in bytes. */

const bits = new DataView(new ArrayBuffer(2));

/** Rounded to nearest, ties to even. */
export function toHalf(value: number): number {
  bits.setFloat16(0, value);
  return bits.getUint16(0);
}

export function fromHalf(half: number): number {
  bits.setUint16(0, half);
  return bits.getFloat16(0);
}

/** Little-endian, as are all formats. */
export function writeU16(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = value & 255;
  bytes[at + 1] = value >> 8;
}

export function readU16(bytes: Uint8Array, at: number): number {
  return bytes[at]! | bytes[at + 1]! << 8;
}

/** UTF-8 in pieces: where a byte string may be cut without changing its text. */

/**
 * How many trailing bytes are the beginning of a character that is not complete yet. Bytes that can
 * no longer become one are not counted: the decoder has replaced them already.
 *
 * Source: WHATWG Encoding Standard, UTF-8 decoder.
 */
export function incompleteSuffix(bytes: ArrayLike<number>, end: number = bytes.length): number {
  for (let length = 1; length <= 3 && length <= end; length++) {
    const byte = bytes[end - length]!;
    if (byte < 0x80) return 0;
    if (byte < 0xc0) continue; // a continuation byte: look for its lead
    const needed = byte >= 0xc2 && byte <= 0xdf
      ? 2
      : byte >= 0xe0 && byte <= 0xef
      ? 3
      : byte >= 0xf0 && byte <= 0xf4
      ? 4
      : 0;
    if (length >= needed) return 0;
    return length === 1 || isSecondByte(byte, bytes[end - length + 1]!) ? length : 0;
  }
  return 0;
}

function isSecondByte(lead: number, byte: number): boolean {
  const low = lead === 0xe0 ? 0xa0 : lead === 0xf0 ? 0x90 : 0x80;
  const high = lead === 0xed ? 0x9f : lead === 0xf4 ? 0x8f : 0xbf;
  return byte >= low && byte <= high;
}

const decoder = new TextDecoder("utf-8", { ignoreBOM: true });

/** Text of some bytes; what is not UTF-8 becomes U+FFFD. */
export function textOf(bytes: readonly number[] | Uint8Array): string {
  return decoder.decode(bytes instanceof Uint8Array ? bytes : Uint8Array.from(bytes));
}

const encoder = new TextEncoder();

/** Bytes of a text. */
export function bytesOf(text: string): Uint8Array {
  return encoder.encode(text);
}

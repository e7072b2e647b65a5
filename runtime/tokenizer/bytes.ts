/** UTF-8 helpers: encoding without a call into the platform, joining, decoding with U+FFFD. */

/** Bytes that a well-formed string takes in UTF-8. */
export function utf8Length(text: string): number {
  let length = 0;
  for (let i = 0; i < text.length; i++) {
    const unit = text.charCodeAt(i);
    // Each half of a surrogate pair counts two of its four bytes.
    length += unit < 0x80 ? 1 : unit < 0x800 || (unit >= 0xd800 && unit < 0xe000) ? 2 : 3;
  }
  return length;
}

/** Writes a well-formed string as UTF-8 to the front of `out`. */
export function writeUtf8(text: string, out: Uint8Array): void {
  let at = 0;
  for (let i = 0; i < text.length; i++) {
    let code = text.charCodeAt(i);
    if (code < 0x80) {
      out[at++] = code;
      continue;
    }
    if (code >= 0xd800 && code < 0xdc00) code = text.codePointAt(i++)!;
    if (code < 0x800) out[at++] = 0xc0 | (code >> 6);
    else {
      if (code < 0x10000) out[at++] = 0xe0 | (code >> 12);
      else {
        out[at++] = 0xf0 | (code >> 18);
        out[at++] = 0x80 | ((code >> 12) & 0x3f);
      }
      out[at++] = 0x80 | ((code >> 6) & 0x3f);
    }
    out[at++] = 0x80 | (code & 0x3f);
  }
}

/** UTF-8 of a well-formed string. */
export function toUtf8(text: string): Uint8Array {
  const bytes = new Uint8Array(utf8Length(text));
  writeUtf8(text, bytes);
  return bytes;
}

const decoder = new TextDecoder("utf-8", { ignoreBOM: true });

/** Text of bytes; malformed sequences become U+FFFD as the Encoding Standard says. */
export function fromUtf8(bytes: Uint8Array): string {
  return decoder.decode(bytes);
}

/** All parts, one after the other. */
export function concatBytes(parts: readonly Uint8Array[]): Uint8Array {
  const joined = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    joined.set(part, at);
    at += part.length;
  }
  return joined;
}

/**
 * How many bytes at the front are settled: all but an incomplete character at the end that later
 * bytes could still complete.
 */
export function settledLength(bytes: Uint8Array): number {
  const first = Math.max(0, bytes.length - 3);
  for (let at = bytes.length - 1; at >= first; at--) {
    const lead = bytes[at]!;
    if (lead < 0x80) return bytes.length;
    if (lead < 0xc0) continue; // a continuation byte: look further back
    return completable(bytes.subarray(at)) ? at : bytes.length;
  }
  return bytes.length;
}

/** Whether the bytes, starting at a lead byte, are a proper prefix of a character. */
function completable(bytes: Uint8Array): boolean {
  const lead = bytes[0]!;
  const length = lead < 0xc2 ? 1 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : lead < 0xf5 ? 4 : 1;
  if (bytes.length >= length) return false;
  const second = bytes[1];
  if (second === undefined) return true;
  // Overlong forms, surrogates and code points above U+10FFFF fail at the second byte.
  if (lead === 0xe0) return second >= 0xa0;
  if (lead === 0xed) return second <= 0x9f;
  if (lead === 0xf0) return second >= 0x90;
  if (lead === 0xf4) return second <= 0x8f;
  return true;
}

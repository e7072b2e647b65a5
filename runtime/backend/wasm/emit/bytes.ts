/** Numbers and lists as WebAssembly's binary format writes them. */

/** Unsigned LEB128. Source: WebAssembly core specification, section 5.2.2. */
export function unsigned(value: number): number[] {
  const out: number[] = [];
  let rest = value;
  do {
    const byte = rest % 128;
    rest = Math.floor(rest / 128);
    out.push(rest > 0 ? byte | 128 : byte);
  } while (rest > 0);
  return out;
}

/** Signed LEB128 of a 32-bit integer. */
export function signed(value: number): number[] {
  const out: number[] = [];
  let rest = value | 0;
  for (;;) {
    const byte = rest & 127;
    rest >>= 7;
    const done = (rest === 0 && (byte & 64) === 0) || (rest === -1 && (byte & 64) !== 0);
    out.push(done ? byte : byte | 128);
    if (done) return out;
  }
}

/** IEEE 754 single, little-endian. */
export function single(value: number): number[] {
  return [...new Uint8Array(Float32Array.of(value).buffer)];
}

/** IEEE 754 double, little-endian. */
export function double(value: number): number[] {
  return [...new Uint8Array(Float64Array.of(value).buffer)];
}

/** A count, then the items. */
export function list(items: readonly (readonly number[])[]): number[] {
  return [...unsigned(items.length), ...items.flat()];
}

/** A length in bytes, then the bytes. */
export function sized(bytes: readonly number[]): number[] {
  return [...unsigned(bytes.length), ...bytes];
}

/** A name: UTF-8 with its length. */
export function name(text: string): number[] {
  return sized([...new TextEncoder().encode(text)]);
}

/**
 * SHA-256 that answers at once. The platform's own (`crypto.subtle`) answers with a promise, and
 * `node:crypto` is missing on some edge platforms.
 *
 * Source: FIPS 180-4, section 6.2.
 */

/** First 32 bits of the fractional parts of the cube roots of the first 64 primes. */
const roundConstants = Uint32Array.from(primes(64), (p) => fraction(Math.cbrt(p)));
/** First 32 bits of the fractional parts of the square roots of the first 8 primes. */
const initialState = Uint32Array.from(primes(8), (p) => fraction(Math.sqrt(p)));

/** A digest that is fed piece by piece. */
export interface Sha256 {
  update(data: Uint8Array | string): Sha256;
  /** Hex digits, lower case. Nothing may be added afterwards. */
  hex(): string;
}

/** An empty digest. */
export function createSha256(): Sha256 {
  const state = initialState.slice();
  const words = new Uint32Array(64);
  const block = new Uint8Array(64);
  const view = new DataView(block.buffer);
  let filled = 0;
  let length = 0;

  function take(bytes: Uint8Array): void {
    for (let at = 0; at < bytes.length;) {
      const count = Math.min(64 - filled, bytes.length - at);
      block.set(bytes.subarray(at, at + count), filled);
      filled += count;
      at += count;
      if (filled < 64) return;
      compress(state, words, view);
      filled = 0;
    }
  }

  function pad(): void {
    const bits = BigInt(length) * 8n;
    take(Uint8Array.of(0x80));
    take(new Uint8Array((120 - filled) % 64));
    const end = new Uint8Array(8);
    new DataView(end.buffer).setBigUint64(0, bits);
    take(end);
  }

  const digest: Sha256 = {
    update(data) {
      const bytes = typeof data === "string" ? new TextEncoder().encode(data) : data;
      length += bytes.length;
      take(bytes);
      return digest;
    },
    hex() {
      pad();
      return Array.from(state, (word) => word.toString(16).padStart(8, "0")).join("");
    },
  };
  return digest;
}

function compress(state: Uint32Array, w: Uint32Array, block: DataView): void {
  for (let t = 0; t < 16; t++) w[t] = block.getUint32(4 * t);
  for (let t = 16; t < 64; t++) {
    const x = w[t - 15]!, y = w[t - 2]!;
    const s0 = rotate(x, 7) ^ rotate(x, 18) ^ (x >>> 3);
    const s1 = rotate(y, 17) ^ rotate(y, 19) ^ (y >>> 10);
    w[t] = w[t - 16]! + s0 + w[t - 7]! + s1;
  }
  let a = state[0]!, b = state[1]!, c = state[2]!, d = state[3]!;
  let e = state[4]!, f = state[5]!, g = state[6]!, h = state[7]!;
  for (let t = 0; t < 64; t++) {
    const s1 = rotate(e, 6) ^ rotate(e, 11) ^ rotate(e, 25);
    const t1 = (h + s1 + ((e & f) ^ (~e & g)) + roundConstants[t]! + w[t]!) | 0;
    const s0 = rotate(a, 2) ^ rotate(a, 13) ^ rotate(a, 22);
    const t2 = (s0 + ((a & b) ^ (a & c) ^ (b & c))) | 0;
    [h, g, f, e, d, c, b, a] = [g, f, e, (d + t1) | 0, c, b, a, (t1 + t2) | 0];
  }
  [a, b, c, d, e, f, g, h].forEach((value, i) => state[i] = state[i]! + value);
}

function rotate(x: number, by: number): number {
  return (x >>> by) | (x << (32 - by));
}

/** First 32 bits behind the point; exact, since doubles hold 52 and the whole parts are below 20. */
function fraction(x: number): number {
  return Math.floor((x - Math.floor(x)) * 2 ** 32);
}

function primes(count: number): number[] {
  const found: number[] = [];
  for (let n = 2; found.length < count; n++) if (found.every((p) => n % p !== 0)) found.push(n);
  return found;
}

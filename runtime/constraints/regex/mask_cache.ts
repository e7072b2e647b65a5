/** Masks by state, bounded in bytes. */

/** Keeps the most recently used masks. At least one is kept whatever its size. */
export class MaskCache {
  readonly #masks = new Map<string, Uint32Array>();
  readonly #words: number;
  readonly #maxBytes: number;
  #bytes = 0;

  constructor(words: number, maxBytes: number) {
    this.#words = words;
    this.#maxBytes = maxBytes;
  }

  /** The mask of a state, made by `fill` in a zeroed array if it is not here. */
  get(key: string, fill: (bits: Uint32Array) => void): Uint32Array {
    let bits = this.#masks.get(key);
    if (bits) {
      this.#masks.delete(key);
    } else {
      bits = new Uint32Array(this.#words);
      fill(bits);
      this.#bytes += sizeOf(key, bits);
    }
    this.#masks.set(key, bits);
    this.#evict();
    return bits;
  }

  #evict(): void {
    for (const [key, bits] of this.#masks) {
      if (this.#bytes <= this.#maxBytes || this.#masks.size === 1) break;
      this.#masks.delete(key);
      this.#bytes -= sizeOf(key, bits);
    }
  }
}

function sizeOf(key: string, bits: Uint32Array): number {
  return bits.byteLength + 2 * key.length;
}

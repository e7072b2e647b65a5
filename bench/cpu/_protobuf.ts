/** Messages of Protocol Buffers as lists of pieces, so that large fields are never copied together. */

/** A message under construction, or a finished one as a field of another. */
export class Message {
  readonly chunks: Uint8Array[] = [];
  #size = 0;

  get size(): number {
    return this.#size;
  }

  /** A whole number that is not negative. */
  int(field: number, value: number): this {
    return this.#add(varint(field << 3), varint(value));
  }

  float(field: number, value: number): this {
    const bytes = new Uint8Array(Float32Array.of(value).buffer);
    return this.#add(varint(field << 3 | 5), bytes);
  }

  text(field: number, value: string): this {
    return this.bytes(field, new TextEncoder().encode(value));
  }

  bytes(field: number, value: Uint8Array): this {
    return this.#add(varint(field << 3 | 2), varint(value.length), value);
  }

  message(field: number, value: Message): this {
    return this.#add(varint(field << 3 | 2), varint(value.size), ...value.chunks);
  }

  #add(...pieces: readonly Uint8Array[]): this {
    for (const piece of pieces) {
      this.chunks.push(piece);
      this.#size += piece.length;
    }
    return this;
  }
}

function varint(value: number): Uint8Array {
  const bytes: number[] = [];
  for (let rest = value;; rest = Math.floor(rest / 128)) {
    if (rest < 128) return Uint8Array.from([...bytes, rest]);
    bytes.push(rest % 128 | 128);
  }
}

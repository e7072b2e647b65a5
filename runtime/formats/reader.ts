/**
 * Bounds-checked access to the bytes of a model file. Every parser of this folder reads through
 * {@link ByteSource} and {@link Cursor}, so that no length from a file is used before it was
 * compared with the bytes that are really there.
 *
 * Numbers are little endian. Typed-array views elsewhere in this folder rely on the host being
 * little endian too, which every platform Deno supports is.
 */
import { FormatError, NotFoundError } from "../errors.ts";

/** Bytes of known length that can be read at any place. Closed with `using`. */
export interface ByteSource extends Disposable {
  /** Length in bytes, fixed when the source was opened. */
  readonly size: number;
  /** File name without folder, for messages. */
  readonly name: string;
  /**
   * A fresh copy of `length` bytes at `offset`; changing it changes nothing else.
   *
   * @throws {FormatError} if the range is not inside the source, or the file has shrunk since
   */
  read(offset: number, length: number): Uint8Array<ArrayBuffer>;
  /** Fills `out` with the bytes at `offset`. @throws {FormatError} as {@link read} */
  readInto(offset: number, out: Uint8Array): void;
}

/** A source over bytes in memory. The bytes must not change while it is in use. */
export function bytesSource(bytes: Uint8Array, name: string): ByteSource {
  return {
    size: bytes.length,
    name,
    read(offset, length) {
      checkRange(name, bytes.length, offset, length);
      return new Uint8Array(bytes.subarray(offset, offset + length));
    },
    readInto(offset, out) {
      checkRange(name, bytes.length, offset, out.length);
      out.set(bytes.subarray(offset, offset + out.length));
    },
    [Symbol.dispose]() {},
  };
}

/**
 * A source over a file, read synchronously (models are loaded before the server listens).
 *
 * @throws {NotFoundError} if there is no such file
 * @throws {FormatError} if it is not a regular file or may not be read
 */
export function fileSource(path: string): ByteSource {
  const name = baseName(path);
  const file = openRegularFile(path, name);
  const { size } = file.statSync();
  const readInto = (offset: number, out: Uint8Array): void => {
    checkRange(name, size, offset, out.length);
    file.seekSync(offset, Deno.SeekMode.Start);
    for (let filled = 0; filled < out.length;) {
      const count = file.readSync(out.subarray(filled));
      if (count === null || count === 0) {
        throw new FormatError("the file became shorter while it was read", {
          source: name,
          offset: offset + filled,
        });
      }
      filled += count;
    }
  };
  return {
    size,
    name,
    read(offset, length) {
      checkRange(name, size, offset, length); // before anything is allocated
      const out = new Uint8Array(length);
      readInto(offset, out);
      return out;
    },
    readInto,
    [Symbol.dispose]() {
      file.close();
    },
  };
}

/** The part of a path after its last separator; messages name files by this alone. */
export function baseName(path: string): string {
  return path.replace(/[/\\]+$/, "").split(/[/\\]/).at(-1) ?? path;
}

function openRegularFile(path: string, name: string): Deno.FsFile {
  try {
    // Looked at before opening: opening a pipe would wait for a writer.
    if (!Deno.statSync(path).isFile) {
      throw new FormatError("it is not a regular file", { source: name });
    }
    return Deno.openSync(path, { read: true });
  } catch (error) {
    if (error instanceof FormatError) throw error;
    // The system's message holds the full path, so it is kept out of ours.
    if (error instanceof Deno.errors.NotFound) throw new NotFoundError("file", name);
    throw new FormatError("it cannot be opened", { source: name, cause: error });
  }
}

function checkRange(name: string, size: number, offset: number, length: number): void {
  const valid = Number.isSafeInteger(offset) && Number.isSafeInteger(length) && offset >= 0 &&
    length >= 0 && length <= size - offset;
  if (valid) return;
  throw new FormatError(`${length} bytes wanted, the file has ${size}`, { source: name, offset });
}

/** How much a cursor fetches at once; small reads are served from this window. */
const WINDOW_BYTES = 64 * 1024;

/**
 * Reads fields one after another and never past `end`. Each method takes the field's name, which
 * the error carries together with the offset.
 */
export class Cursor {
  readonly #source: ByteSource;
  readonly #end: number;
  readonly #utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
  #offset: number;
  #window = new Uint8Array(0);
  #view = new DataView(new ArrayBuffer(0));
  #windowStart = 0;

  /** @param range the part of the source to stay in @default the whole source */
  constructor(source: ByteSource, range: { readonly start?: number; readonly end?: number } = {}) {
    this.#source = source;
    this.#offset = range.start ?? 0;
    this.#end = Math.min(range.end ?? source.size, source.size);
  }

  /** Where the next field starts, from the start of the source. */
  get offset(): number {
    return this.#offset;
  }

  /** Bytes left. */
  get remaining(): number {
    return this.#end - this.#offset;
  }

  u8(field: string): number {
    const at = this.#take(1, field);
    return this.#view.getUint8(at);
  }

  i8(field: string): number {
    const at = this.#take(1, field);
    return this.#view.getInt8(at);
  }

  u16(field: string): number {
    const at = this.#take(2, field);
    return this.#view.getUint16(at, true);
  }

  i16(field: string): number {
    const at = this.#take(2, field);
    return this.#view.getInt16(at, true);
  }

  u32(field: string): number {
    const at = this.#take(4, field);
    return this.#view.getUint32(at, true);
  }

  i32(field: string): number {
    const at = this.#take(4, field);
    return this.#view.getInt32(at, true);
  }

  f32(field: string): number {
    const at = this.#take(4, field);
    return this.#view.getFloat32(at, true);
  }

  f64(field: string): number {
    const at = this.#take(8, field);
    return this.#view.getFloat64(at, true);
  }

  /** All 64 bits. */
  u64(field: string): bigint {
    const at = this.#take(8, field);
    return this.#view.getBigUint64(at, true);
  }

  i64(field: string): bigint {
    const at = this.#take(8, field);
    return this.#view.getBigInt64(at, true);
  }

  /** A u64 used as size or offset: at most `max`, which is at most 2^53 - 1. */
  size(field: string, max: number = Number.MAX_SAFE_INTEGER): number {
    const at = this.#take(8, field);
    // Exact up to 2^53; above, rounding cannot bring it back below `max`. Avoids a bigint each.
    const value = this.#view.getUint32(at + 4, true) * 2 ** 32 + this.#view.getUint32(at, true);
    if (value <= max) return value;
    const exact = this.#view.getBigUint64(at, true);
    throw this.error(`${field} is ${exact}, more than the limit of ${max}`, this.#offset - 8);
  }

  /**
   * A u64 that counts items of at least `itemBytes` bytes each, all of which must still fit into
   * the bytes left. Nothing is allocated before this was checked.
   */
  count(field: string, itemBytes: number, max: number = Number.MAX_SAFE_INTEGER): number {
    const start = this.#offset;
    const count = this.size(field, max);
    if (BigInt(count) * BigInt(itemBytes) > BigInt(this.remaining)) {
      throw this.error(`${field} is ${count}, but only ${this.remaining} bytes follow`, start);
    }
    return count;
  }

  /** A copy of the next `length` bytes. */
  bytes(length: number, field: string): Uint8Array<ArrayBuffer> {
    this.#need(length, field);
    const out = this.#source.read(this.#offset, length);
    this.#offset += length;
    return out;
  }

  /** Moves past `length` bytes. */
  skip(length: number, field: string): void {
    this.#need(length, field);
    this.#offset += length;
  }

  /** The next `length` bytes as UTF-8; a byte order mark is kept, malformed text is refused. */
  utf8(length: number, field: string): string {
    const start = this.#offset;
    const at = length <= WINDOW_BYTES ? this.#take(length, field) : -1;
    const bytes = at < 0 ? this.bytes(length, field) : this.#window.subarray(at, at + length);
    try {
      return this.#utf8.decode(bytes);
    } catch (cause) {
      throw this.error(`${field} is not valid UTF-8`, start, cause);
    }
  }

  /** An error about the field that starts at `offset`. @default offset the current one */
  error(message: string, offset: number = this.#offset, cause?: unknown): FormatError {
    return new FormatError(message, { source: this.#source.name, offset, cause });
  }

  #need(length: number, field: string): void {
    if (length <= this.remaining) return;
    throw this.error(`${field} needs ${length} bytes, ${this.remaining} are left`);
  }

  /** Moves past `length` (at most one window) bytes; returns where in the window they start. */
  #take(length: number, field: string): number {
    this.#need(length, field);
    const at = this.#offset - this.#windowStart;
    if (at < 0 || at + length > this.#window.length) {
      this.#windowStart = this.#offset;
      this.#window = this.#source.read(this.#offset, Math.min(WINDOW_BYTES, this.remaining));
      this.#view = new DataView(this.#window.buffer, this.#window.byteOffset, this.#window.length);
    }
    const start = this.#offset - this.#windowStart;
    this.#offset += length;
    return start;
  }
}

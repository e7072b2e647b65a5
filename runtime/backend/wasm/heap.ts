/** Blocks of one WebAssembly memory: explicit allocation and release, growth up to 4 GiB. */
import { MAX_PAGES } from "./emit/module.ts";

const PAGE = 65_536;
/** Everything is a multiple of it: whole vectors, and no two blocks in one cache line. */
const ALIGN = 64;
/** Growth beyond what was asked for, so that small steps do not grow memory each time. */
const EXTRA_PAGES = 16;

/** A free stretch, [at, at + bytes). */
interface Gap {
  at: number;
  bytes: number;
}

/** First-fit allocator; neighbouring gaps are joined on release. */
export class Heap {
  readonly memory: WebAssembly.Memory;
  /** By address. Address 0 is never given out: kernels take it for "none". */
  readonly #gaps: Gap[] = [];
  #floats: Float32Array<ArrayBuffer>;
  #words: Uint32Array<ArrayBuffer>;
  #bytes: Uint8Array<ArrayBuffer>;
  #used = 0;

  /**
   * @param maxPages limit in pages of 64 KiB, below {@link MAX_PAGES}: the end of a memory of exactly
   * 2^32 bytes has no address of 32 bits
   * @param shared whether threads share the memory
   */
  constructor(readonly maxPages = MAX_PAGES - 1, shared = false) {
    this.memory = new WebAssembly.Memory({ initial: 1, maximum: maxPages, shared });
    this.#gaps.push({ at: ALIGN, bytes: PAGE - ALIGN });
    this.#floats = new Float32Array(this.memory.buffer as ArrayBuffer);
    this.#words = new Uint32Array(this.memory.buffer as ArrayBuffer);
    this.#bytes = new Uint8Array(this.memory.buffer as ArrayBuffer);
  }

  /** All of memory as f32. Valid until the next allocation. */
  get floats(): Float32Array<ArrayBuffer> {
    return this.#floats;
  }

  /** All of memory as u32. Valid until the next allocation. */
  get words(): Uint32Array<ArrayBuffer> {
    return this.#words;
  }

  /** All of memory. Valid until the next allocation. */
  get bytes(): Uint8Array<ArrayBuffer> {
    return this.#bytes;
  }

  /** Bytes given out. */
  get used(): number {
    return this.#used;
  }

  /** Bytes of it that KV pools hold; they say so themselves. */
  poolBytes = 0;

  /** Bytes taken from the system. */
  get size(): number {
    return this.#floats.byteLength;
  }

  /**
   * A block of at least `bytes` bytes, with arbitrary contents.
   *
   * @throws {RangeError} naming `label` if memory cannot grow so far
   */
  take(label: string, bytes: number): number {
    const size = rounded(bytes);
    let index = this.#gaps.findIndex((gap) => gap.bytes >= size);
    if (index < 0) {
      this.#grow(label, size);
      index = this.#gaps.length - 1;
    }
    const gap = this.#gaps[index]!;
    const at = gap.at;
    gap.at += size;
    gap.bytes -= size;
    if (gap.bytes === 0) this.#gaps.splice(index, 1);
    this.#used += size;
    return at;
  }

  /** As {@link take}, all bytes 0. */
  takeZeroed(label: string, bytes: number): number {
    const at = this.take(label, bytes);
    this.#words.fill(0, at / 4, (at + rounded(bytes)) / 4);
    return at;
  }

  /** Gives back what `take` gave for the same number of bytes. */
  give(at: number, bytes: number): void {
    const size = rounded(bytes);
    this.#used -= size;
    let index = this.#gaps.findIndex((gap) => gap.at > at);
    if (index < 0) index = this.#gaps.length;
    const before = this.#gaps[index - 1], after = this.#gaps[index];
    const joinsBefore = before !== undefined && before.at + before.bytes === at;
    const joinsAfter = after !== undefined && at + size === after.at;
    if (joinsBefore && joinsAfter) {
      before.bytes += size + after.bytes;
      this.#gaps.splice(index, 1);
    } else if (joinsBefore) before.bytes += size;
    else if (joinsAfter) {
      after.at = at;
      after.bytes += size;
    } else this.#gaps.splice(index, 0, { at, bytes: size });
  }

  /** Makes the last gap at least `size` bytes. */
  #grow(label: string, size: number): void {
    const end = this.size;
    const last = this.#gaps.at(-1);
    const open = last !== undefined && last.at + last.bytes === end ? last.bytes : 0;
    const needed = Math.ceil((size - open) / PAGE);
    const current = end / PAGE;
    const wanted = Math.min(needed + EXTRA_PAGES, this.maxPages - current);
    if (needed > wanted) throw this.#tooLarge(label, size);
    try {
      this.memory.grow(wanted);
    } catch {
      throw this.#tooLarge(label, size);
    }
    this.#floats = new Float32Array(this.memory.buffer as ArrayBuffer);
    this.#words = new Uint32Array(this.memory.buffer as ArrayBuffer);
    this.#bytes = new Uint8Array(this.memory.buffer as ArrayBuffer);
    if (open > 0) last!.bytes += wanted * PAGE;
    else this.#gaps.push({ at: end, bytes: wanted * PAGE });
  }

  #tooLarge(label: string, size: number): RangeError {
    const mib = (bytes: number) => `${Math.ceil(bytes / 2 ** 20)} MiB`;
    return new RangeError(
      `Cannot make ${label} of ${mib(size)}: ${mib(this.used)} are in use and the WebAssembly ` +
        `backend holds at most ${mib(this.maxPages * PAGE)}, or the system gives no more. ` +
        "Use a smaller model, a smaller KV pool or another backend",
    );
  }
}

function rounded(bytes: number): number {
  return Math.max(ALIGN, Math.ceil(bytes / ALIGN) * ALIGN);
}

/** The block of memory through which the threads of a team talk; see team.ts. */

/** Words of 32 bits. Arguments of the parts follow as doubles. */
export const word = {
  /**
   * The running call: bits 0 to 7 count the parts that were taken, 8 to 15 are the number of parts,
   * the others change from call to call. -1 ends the team. Whoever adds 1 to it owns a part; the
   * arguments stay as they are until all parts are done.
   */
  ticket: 0,
  /** Parts that are done. */
  done: 1,
  /** The kernel's number. */
  kernel: 2,
  /** Workers that have joined. */
  joined: 3,
  /** 1: a kernel failed in a Worker. */
  failed: 4,
  /** Which argument is an address of memory for one thread alone, and bytes per thread; -1: none. */
  privateArgument: 5,
  privateBytes: 6,
} as const;

const WORDS = 16;
/** Parts of one call; longer lists are several calls. */
export const MAX_PARTS = 128;
/** Arguments of one part. */
export const MAX_ARGUMENTS = 16;

export const CONTROL_BYTES = 4 * WORDS + 8 * MAX_ARGUMENTS * MAX_PARTS;

/** Words and arguments of a block. */
export function viewsOf(block: ArrayBufferLike): {
  readonly words: Int32Array;
  readonly parts: readonly Float64Array[];
} {
  return {
    words: new Int32Array(block, 0, WORDS),
    parts: Array.from(
      { length: MAX_PARTS },
      (_, i) => new Float64Array(block, 4 * WORDS + 8 * MAX_ARGUMENTS * i, MAX_ARGUMENTS),
    ),
  };
}

/** Turns of a waiting loop before a thread sleeps: some tens of microseconds. */
export const SPINS = 20_000;

/** Takes the next part of the running call; -1 if there is none. */
export function takePart(words: Int32Array): number {
  for (;;) {
    const ticket = Atomics.load(words, word.ticket);
    const next = ticket & 255;
    if (ticket < 0 || next >= ((ticket >> 8) & 255)) return -1;
    if (Atomics.compareExchange(words, word.ticket, ticket, ticket + 1) === ticket) return next;
  }
}

/** The arguments of a part for thread `thread`, 0 being the caller. */
export function argumentsOf(words: Int32Array, part: Float64Array, thread: number): Float64Array {
  const at = words[word.privateArgument]!;
  if (at >= 0) part[at]! += thread * words[word.privateBytes]!;
  return part;
}

/** What a Worker is started with. */
export interface TeamMessage {
  readonly module: WebAssembly.Module;
  readonly memory: WebAssembly.Memory;
  readonly block: SharedArrayBuffer;
  /** Names of the functions in the module, by kernel number. */
  readonly names: readonly string[];
}

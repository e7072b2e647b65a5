/** Ranges of code points as sequences of byte ranges. */

/** One to four byte ranges, [lo, hi, lo, hi, ...], both ends inclusive. */
export type ByteSequence = readonly number[];

/** Last code points of one, two and three bytes. */
const lastOfLength = [0x7f, 0x7ff, 0xffff];

/**
 * The UTF-8 forms of all scalar values from `lo` to `hi`. A range is cut until all its members have
 * the same length and every byte varies over its own range independently of the others.
 */
export function byteSequences(lo: number, hi: number): ByteSequence[] {
  const out: ByteSequence[] = [];
  const todo: [number, number][] = [[lo, hi]];
  for (let range = todo.pop(); range; range = todo.pop()) {
    const cut = cutOf(range[0], range[1]);
    if (cut === undefined) out.push(zip(range[0], range[1]));
    else todo.push([cut + 1, range[1]], [range[0], cut]);
  }
  return out;
}

/** Where the range must be cut: the last member of the first part. */
function cutOf(lo: number, hi: number): number | undefined {
  for (const end of lastOfLength) if (lo <= end && end < hi) return end;
  if (hi <= 0x7f) return undefined;
  for (let bits = 6; bits <= 18; bits += 6) {
    const low = (1 << bits) - 1;
    if ((lo & ~low) === (hi & ~low)) continue;
    if ((lo & low) !== 0) return lo | low;
    if ((hi & low) !== low) return (hi & ~low) - 1;
  }
  return undefined;
}

function zip(lo: number, hi: number): ByteSequence {
  const from = encode(lo);
  const to = encode(hi);
  return from.flatMap((byte, i) => [byte, to[i]!]);
}

function encode(point: number): number[] {
  if (point <= 0x7f) return [point];
  const tail = (shift: number) => 0x80 | ((point >> shift) & 0x3f);
  if (point <= 0x7ff) return [0xc0 | (point >> 6), tail(0)];
  if (point <= 0xffff) return [0xe0 | (point >> 12), tail(6), tail(0)];
  return [0xf0 | (point >> 18), tail(12), tail(6), tail(0)];
}

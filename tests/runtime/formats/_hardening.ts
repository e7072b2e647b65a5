/** Damage that every parser must survive: a typed error or a valid parse, soon, in little memory. */
import { assertInstanceOf, fail } from "@std/assert";
import { FormatError } from "../../../runtime/errors.ts";

/** Parses and uses everything in the file; must release what it opened. */
export type Reader = (bytes: Uint8Array) => void;

/** Whether `read` accepts the bytes; anything but a FormatError fails the test. */
export function accepts(read: Reader, bytes: Uint8Array, what: string): boolean {
  try {
    read(bytes);
    return true;
  } catch (error) {
    assertInstanceOf(error, FormatError, `${what}: ${String(error)}`);
    return false;
  }
}

/** Lengths at which a truncated file is still accepted, the full one left out. */
export function acceptedTruncations(read: Reader, bytes: Uint8Array): number[] {
  const lengths = [...bytes.keys()];
  return lengths.filter((length) => accepts(read, bytes.subarray(0, length), `cut at ${length}`));
}

/** Flips each bit of the first `limit` bytes in turn. @returns [accepted, refused] */
export function flipBits(read: Reader, bytes: Uint8Array, limit = 4096): [number, number] {
  const copy = new Uint8Array(bytes);
  const counts: [number, number] = [0, 0];
  for (let at = 0; at < Math.min(limit, copy.length); at++) {
    for (let bit = 0; bit < 8; bit++) {
      copy[at] = copy[at]! ^ (1 << bit);
      counts[accepts(read, copy, `byte ${at} bit ${bit}`) ? 0 : 1]++;
      copy[at] = copy[at]! ^ (1 << bit);
    }
  }
  return counts;
}

/** Sizes around the places where integers of some width wrap or lose precision. */
export const absurdSizes: readonly bigint[] = [31n, 32n, 53n, 63n, 64n]
  .flatMap((bits) => [-33n, -1n, 0n, 1n, 33n].map((delta) => (1n << bits) + delta))
  .filter((size) => size < 1n << 64n);

/**
 * Runs `work`; fails if it takes longer than `seconds` or the heap grows by more than `mebibytes`.
 * A run that is over the budget is repeated twice, since other work on the machine counts as well.
 */
export function withinBudget(seconds: number, mebibytes: number, work: () => void): void {
  let report = "";
  for (let run = 0; run < 3; run++) {
    const [elapsed, grown] = measure(work);
    if (elapsed < seconds && grown < mebibytes) return;
    report = `${elapsed.toFixed(2)} s of ${seconds}, ${grown.toFixed(0)} MiB of ${mebibytes}`;
  }
  fail(`over the budget three times, last with ${report}`);
}

/** @returns seconds and MiB the heap grew by */
function measure(work: () => void): [number, number] {
  const before = Deno.memoryUsage();
  const start = performance.now();
  work();
  const elapsed = (performance.now() - start) / 1000;
  const after = Deno.memoryUsage();
  const grown = after.heapUsed + after.external - before.heapUsed - before.external;
  return [elapsed, grown / 2 ** 20];
}

/** Sets of Unicode scalar values and the named classes of regular expressions. */

/** Bounds of ranges, both inclusive: [lo, hi, lo, hi, ...], ascending and not touching. */
export type CodePoints = readonly number[];

const last = 0x10ffff;

/** Any list of ranges as a set. UTF-8 has no surrogates, so no set does. */
export function codePoints(ranges: readonly (readonly [number, number])[]): CodePoints {
  const sorted = ranges.flatMap(withoutSurrogates).sort((a, b) => a[0] - b[0]);
  const out: number[] = [];
  for (const [lo, hi] of sorted) {
    const end = out.at(-1);
    if (end !== undefined && lo <= end + 1) out[out.length - 1] = Math.max(end, hi);
    else out.push(lo, hi);
  }
  return out;
}

function withoutSurrogates([lo, hi]: readonly [number, number]): [number, number][] {
  if (hi < 0xd800 || lo > 0xdfff) return [[lo, hi]];
  const parts: [number, number][] = [[lo, 0xd7ff], [0xe000, hi]];
  return parts.filter(([from, to]) => from <= to);
}

/** The ranges of a set. */
export function rangesOf(set: CodePoints): [number, number][] {
  const out: [number, number][] = [];
  for (let i = 0; i < set.length; i += 2) out.push([set[i]!, set[i + 1]!]);
  return out;
}

/** Everything else. */
export function complement(set: CodePoints): CodePoints {
  const out: [number, number][] = [];
  let from = 0;
  for (const [lo, hi] of rangesOf(set)) {
    if (from < lo) out.push([from, lo - 1]);
    from = hi + 1;
  }
  if (from <= last) out.push([from, last]);
  return codePoints(out);
}

/** `.`: all but the line terminators of ECMAScript. */
export const anyButLineEnds: CodePoints = complement(
  codePoints([[0x0a, 0x0a], [0x0d, 0x0d], [0x2028, 0x2029]]),
);

const digit = codePoints([[0x30, 0x39]]);
const word = codePoints([[0x30, 0x39], [0x41, 0x5a], [0x5f, 0x5f], [0x61, 0x7a]]);
const space = codePoints([
  [0x09, 0x0d],
  [0x20, 0x20],
  [0xa0, 0xa0],
  [0x1680, 0x1680],
  [0x2000, 0x200a],
  [0x2028, 0x2029],
  [0x202f, 0x202f],
  [0x205f, 0x205f],
  [0x3000, 0x3000],
  [0xfeff, 0xfeff],
]);

/** `\d`, `\w`, `\s` and their opposites, as ECMAScript defines them. */
export const letterClasses: ReadonlyMap<string, CodePoints> = new Map([
  ["d", digit],
  ["w", word],
  ["s", space],
  ["D", complement(digit)],
  ["W", complement(word)],
  ["S", complement(space)],
]);

/** The general categories `\p{...}` knows. */
export const categories: readonly string[] = [
  "L",
  "Lu",
  "Ll",
  "Lt",
  "Lm",
  "Lo",
  "M",
  "N",
  "Nd",
  "P",
  "S",
  "Z",
  "Zs",
];

const known = new Map<string, readonly [CodePoints, CodePoints]>();

/** A general category or its opposite, or undefined if the name is not in {@link categories}. */
export function category(name: string, isNegated: boolean): CodePoints | undefined {
  if (!categories.includes(name)) return undefined;
  let pair = known.get(name);
  if (!pair) {
    const set = codePoints(readCategory(name));
    known.set(name, pair = [set, complement(set)]);
  }
  return pair[isNegated ? 1 : 0];
}

/**
 * Where letters, marks, numbers, punctuation, symbols and separators are: planes 0 to 3 and 14. The
 * others are unassigned or private.
 */
export const assignedPlanes: readonly (readonly [number, number])[] = [
  [0, 0x3ffff],
  [0xe0000, 0xeffff],
];

/** Asks the host's own tables, so that they follow its Unicode version. */
function readCategory(name: string): [number, number][] {
  const member = new RegExp(`\\p{${name}}`, "u");
  const out: [number, number][] = [];
  for (const [lo, hi] of assignedPlanes) {
    let from = -1;
    for (let point = lo; point <= hi + 1; point++) {
      const isIn = point <= hi && member.test(String.fromCodePoint(point));
      if (isIn && from < 0) from = point;
      if (!isIn && from >= 0) {
        out.push([from, point - 1]);
        from = -1;
      }
    }
  }
  return out;
}

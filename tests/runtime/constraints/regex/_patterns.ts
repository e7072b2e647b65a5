/** Random patterns that both we and ECMAScript understand, each with a text it matches. */
import fc from "fast-check";

/** A pattern and a text made along with it. */
export interface PatternCase {
  readonly source: string;
  readonly sample: string;
}

/** Characters of one to four bytes, at borders of lengths and of classes. */
export const alphabet = [..."ab0_ \n-ZéÿĀ߿ࠀ€\u2028\ud7ff\ue000\uffff😀\u{10000}\u{10ffff}"];

const escaped = (text: string) => text.replaceAll(/[\\^$.*+?()[\]{}|\/-]/g, (c) => `\\${c}`);
const inPattern = (text: string) => text === "-" ? text : escaped(text);

const literal = fc.constantFrom(...alphabet).map((sample) => ({
  source: inPattern(sample),
  sample,
}));

const named = fc.constantFrom<readonly [string, string]>(
  [".", "a"],
  [".", "€"],
  [".", "\u{10ffff}"],
  ["\\d", "0"],
  ["\\D", "é"],
  ["\\w", "Z"],
  ["\\W", "😀"],
  ["\\s", "\u2028"],
  ["\\S", "\ue000"],
  ["\\p{Lu}", "Ā"],
  ["\\P{L}", "€"],
  ["\\x61", "a"],
  ["\\u{1F600}", "😀"],
  ["\\uD83D\\uDE00", "😀"],
  ["[^]", "\n"],
).map(([source, sample]) => ({ source, sample }));

/** A bracket class and one of its members, if ECMAScript finds one in the alphabet. */
const bracket = fc.tuple(
  fc.boolean(),
  fc.array(
    fc.oneof(
      fc.constantFrom(...alphabet).map(escaped),
      fc.constantFrom("\\d", "\\S", "\\w", "\\p{L}"),
      fc.tuple(fc.constantFrom(...alphabet), fc.constantFrom(...alphabet)).map((ends) => {
        const [lo, hi] = ends.toSorted((a, b) => a.codePointAt(0)! - b.codePointAt(0)!);
        return `${escaped(lo!)}-${escaped(hi!)}`;
      }),
    ),
    { minLength: 1, maxLength: 3 },
  ),
).map(([isNegated, parts]) => {
  const source = `[${isNegated ? "^" : ""}${parts.join("")}]`;
  const sample = alphabet.find((character) => new RegExp(`^${source}$`, "u").test(character));
  return sample === undefined ? { source: "a", sample: "a" } : { source, sample };
});

/** Patterns up to a few levels deep. */
export const patternCase: fc.Arbitrary<PatternCase> = fc.letrec<{ node: PatternCase }>((tie) => ({
  node: fc.oneof(
    { maxDepth: 4, withCrossShrink: true },
    { arbitrary: literal, weight: 3 },
    { arbitrary: named, weight: 1 },
    { arbitrary: bracket, weight: 1 },
    {
      weight: 3,
      arbitrary: fc.array(tie("node"), { maxLength: 4 }).map((parts) => ({
        source: parts.map(({ source }) => source).join(""),
        sample: parts.map(({ sample }) => sample).join(""),
      })),
    },
    {
      weight: 2,
      arbitrary: fc.tuple(
        fc.array(tie("node"), { minLength: 1, maxLength: 3 }),
        fc.nat({ max: 2 }),
        fc.constantFrom("(", "(?:"),
      ).map(([parts, pick, open]) => ({
        source: `${open}${parts.map(({ source }) => source).join("|")})`,
        sample: parts[pick % parts.length]!.sample,
      })),
    },
    {
      weight: 2,
      arbitrary: fc.tuple(
        tie("node"),
        fc.constantFrom<readonly [string, number]>(
          ["*", 0],
          ["*", 2],
          ["+", 1],
          ["+", 3],
          ["?", 0],
          ["?", 1],
          ["*?", 1],
          ["{2}", 2],
          ["{1,}", 2],
          ["{0,2}", 2],
          ["{1,3}?", 3],
        ),
      ).map(([{ source, sample }, [suffix, times]]) => ({
        source: `(?:${source})${suffix}`,
        sample: sample.repeat(times),
      })),
    },
  ),
})).node;

/** Texts near a sample: itself, or with one character dropped, doubled, replaced or added. */
export function nearby(sample: string, place: number, other: string, kind: number): string {
  const characters = [...sample];
  const at = characters.length === 0 ? 0 : place % characters.length;
  if (kind === 0) return sample;
  if (kind === 1) return characters.toSpliced(at, 1).join("");
  if (kind === 2) return characters.toSpliced(at, 0, characters[at] ?? "a").join("");
  if (kind === 3) return characters.toSpliced(at, 1, other).join("");
  return characters.toSpliced(at + 1, 0, other).join("");
}

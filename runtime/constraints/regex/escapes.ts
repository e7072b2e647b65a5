/** Escapes and bracket classes. */
import type { Cursor } from "../cursor.ts";
import { categories, category, type CodePoints, codePoints, complement } from "./code_points.ts";
import { letterClasses, rangesOf } from "./code_points.ts";

const controls: ReadonlyMap<string, number> = new Map([
  ["t", 0x09],
  ["n", 0x0a],
  ["v", 0x0b],
  ["f", 0x0c],
  ["r", 0x0d],
]);

const punctuation = /^[!-/:-@[-`{-~]$/;

/** One character, or a whole set that cannot bound a range. */
type Atom = { readonly point: number } | { readonly set: CodePoints };

/** The set an escape stands for; the cursor is behind the backslash. @throws {FormatError} */
export function readEscape(cursor: Cursor): CodePoints {
  return setOf(readAtomEscape(cursor, false));
}

/** A bracket class; the cursor is behind the bracket. @throws {FormatError} */
export function readClass(cursor: Cursor): CodePoints {
  const open = cursor.offset - 1;
  const isNegated = cursor.eat("^");
  const ranges: [number, number][] = [];
  /** Named sets are large: each is merged once, however often it is written. */
  const sets = new Set<CodePoints>();
  while (!cursor.eat("]")) {
    if (cursor.peek() === "") throw cursor.error('the class is not closed with "]"', open);
    const item = readItem(cursor);
    if ("set" in item) sets.add(item.set);
    else ranges.push(item.range);
  }
  const set = codePoints(ranges.concat(...Array.from(sets, rangesOf)));
  return isNegated ? complement(set) : set;
}

function readItem(cursor: Cursor): { readonly set: CodePoints } | { range: [number, number] } {
  const start = cursor.offset;
  const from = readClassAtom(cursor);
  const isRange = cursor.peek() === "-" && cursor.text[cursor.offset + 1] !== "]";
  if (!isRange) return "set" in from ? from : { range: [from.point, from.point] };
  cursor.next();
  if (cursor.peek() === "") throw cursor.error("the class is not closed", start);
  const to = readClassAtom(cursor);
  if ("set" in from || "set" in to) throw cursor.error("a range needs two characters", start);
  if (from.point > to.point) throw cursor.error("the range is the wrong way round", start);
  return { range: [from.point, to.point] };
}

function readClassAtom(cursor: Cursor): Atom {
  if (cursor.eat("\\")) return readAtomEscape(cursor, true);
  return { point: scalar(cursor, cursor.offset, cursor.next().codePointAt(0)!) };
}

function setOf(atom: Atom): CodePoints {
  return "set" in atom ? atom.set : codePoints([[atom.point, atom.point]]);
}

function readAtomEscape(cursor: Cursor, isInClass: boolean): Atom {
  const start = cursor.offset - 1;
  const letter = cursor.next();
  const set = letterClasses.get(letter);
  if (set) return { set };
  const control = controls.get(letter);
  if (control !== undefined) return { point: control };
  if (letter === "b" && isInClass) return { point: 0x08 };
  if (letter === "0" && !/[0-9]/.test(cursor.peek())) return { point: 0 };
  if (letter === "p" || letter === "P") return { set: readCategory(cursor, letter === "P", start) };
  if (letter === "x" || letter === "u") return { point: readHex(cursor, letter, start) };
  if (punctuation.test(letter)) return { point: letter.codePointAt(0)! };
  throw cursor.error(refusal(letter), start);
}

function refusal(letter: string): string {
  if (letter === "") return "nothing follows the backslash";
  if (letter === "b" || letter === "B") return `the word boundary \\${letter} is not supported`;
  if (letter === "k" || /[1-9]/.test(letter)) return "references to groups are not supported";
  return `the escape \\${letter} is not supported`;
}

function readCategory(cursor: Cursor, isNegated: boolean, start: number): CodePoints {
  const name = cursor.match(/\{([^{}]*)\}/y)?.[1];
  if (name === undefined) throw cursor.error("\\p needs a name in braces", start);
  const set = category(name, isNegated);
  if (!set) {
    const list = categories.join(", ");
    throw cursor.error(
      `the property ${JSON.stringify(name)} is not supported, only ${list}`,
      start,
    );
  }
  return set;
}

function readHex(cursor: Cursor, letter: string, start: number): number {
  if (letter === "x") {
    const digits = cursor.match(/[0-9a-fA-F]{2}/y);
    if (digits) return parseInt(digits[0], 16);
    throw cursor.error("\\x needs two hexadecimal digits", start);
  }
  const pair = cursor.match(/([dD][89abAB][0-9a-fA-F]{2})\\u([dD][c-fC-F][0-9a-fA-F]{2})/y);
  if (pair) {
    return 0x10000 + ((parseInt(pair[1]!, 16) & 0x3ff) << 10) + (parseInt(pair[2]!, 16) & 0x3ff);
  }
  const digits = cursor.match(/([0-9a-fA-F]{4})|\{([0-9a-fA-F]+)\}/y);
  if (!digits) throw cursor.error("\\u needs four hexadecimal digits, or some in braces", start);
  const point = parseInt(digits[1] ?? digits[2]!, 16);
  if (point > 0x10ffff) throw cursor.error("the code point is above 10FFFF", start);
  return scalar(cursor, start, point);
}

function scalar(cursor: Cursor, start: number, point: number): number {
  if (point < 0xd800 || point > 0xdfff) return point;
  throw cursor.error("a lone surrogate cannot be written in UTF-8", start);
}

/**
 * Parser of a subset of ECMAScript's regular expressions (flag `u`): literals, `.`, classes with
 * ranges and negation, `\d \w \s \D \W \S`, `\p{...}` for general categories, `\t \n \v \f \r \0`,
 * `\xHH`, `\uHHHH`, `\u{...}`, escaped punctuation, groups (plain, `(?:`, named), `|`, `*`, `+`, `?`,
 * `{m}`, `{m,}`, `{m,n}` and their lazy forms.
 *
 * Source: ECMA-262, 16th edition, section 22.2.
 * Differs: the whole text must match, so `^` and `$` may stand at the ends of the outermost
 * alternatives and mean nothing; laziness and groups choose no text and mean nothing either; any
 * ASCII punctuation may be escaped. Refused by name: look-around, references, word boundaries, other
 * anchors, modifiers, lone surrogates, other properties.
 */
import { Cursor } from "../cursor.ts";
import { ConstraintTooComplexError, type RegexLimits } from "./budget.ts";
import { anyButLineEnds, codePoints } from "./code_points.ts";
import { readClass, readEscape } from "./escapes.ts";
import type { Expression } from "./syntax.ts";

/**
 * @param isSearch whether the pattern may match anywhere in the text, as `RegExp.test` and JSON
 *   Schema have it: then `^` and `$` at the ends of the outermost alternatives mean what they say
 * @throws {FormatError} with the offset of what is malformed or not supported
 * @throws {ConstraintTooComplexError} above a limit on length, nesting or repetition
 */
export function parseRegex(pattern: string, limits: RegexLimits, isSearch = false): Expression {
  if (pattern.length > limits.maxPatternBytes || utf8Length(pattern) > limits.maxPatternBytes) {
    throw new ConstraintTooComplexError("bytes in the pattern", limits.maxPatternBytes);
  }
  const cursor = new Cursor(pattern, "regular expression");
  const expression = readChoice(cursor, limits, 0, isSearch);
  if (cursor.peek() !== "") throw cursor.error('")" closes no group');
  return expression;
}

function utf8Length(text: string): number {
  return new TextEncoder().encode(text).length;
}

function readChoice(
  cursor: Cursor,
  limits: RegexLimits,
  depth: number,
  isSearch = false,
): Expression {
  const parts = [readSequence(cursor, limits, depth, isSearch)];
  while (cursor.eat("|")) parts.push(readSequence(cursor, limits, depth, isSearch));
  return parts.length === 1 ? parts[0]! : { kind: "choice", parts };
}

const anyText: Expression = {
  kind: "repeat",
  part: { kind: "set", set: codePoints([[0, 0x10ffff]]) },
  min: 0,
  max: Infinity,
};

function readSequence(
  cursor: Cursor,
  limits: RegexLimits,
  depth: number,
  isSearch: boolean,
): Expression {
  const parts: Expression[] = [];
  const hasStart = depth === 0 && cursor.eat("^");
  if (isSearch && !hasStart) parts.push(anyText);
  for (;;) {
    const character = cursor.peek();
    if (character === "" || character === "|" || character === ")") {
      if (isSearch) parts.push(anyText);
      break;
    }
    if (character === "$" && depth === 0 && isLast(cursor)) {
      cursor.next();
      break;
    }
    parts.push(readRepeat(cursor, readAtom(cursor, limits, depth), limits));
  }
  return parts.length === 1 ? parts[0]! : { kind: "sequence", parts };
}

function isLast({ text, offset }: Cursor): boolean {
  const after = text[offset + 1];
  return after === undefined || after === "|";
}

function readAtom(cursor: Cursor, limits: RegexLimits, depth: number): Expression {
  const start = cursor.offset;
  const character = cursor.next();
  if (character === "(") return readGroup(cursor, limits, depth + 1);
  if (character === "[") return { kind: "set", set: readClass(cursor) };
  if (character === "\\") return { kind: "set", set: readEscape(cursor) };
  if (character === ".") return { kind: "set", set: anyButLineEnds };
  if ("*+?".includes(character)) throw cursor.error("nothing to repeat", start);
  if ("^$".includes(character)) {
    const place = "only at the ends of the outermost alternatives";
    throw cursor.error(`the anchor "${character}" is supported ${place}`, start);
  }
  if ("]{}".includes(character)) {
    throw cursor.error(`"${character}" must be escaped with a backslash`, start);
  }
  const point = character.codePointAt(0)!;
  if (point >= 0xd800 && point <= 0xdfff) {
    throw cursor.error("a lone surrogate cannot be written in UTF-8", start);
  }
  return { kind: "set", set: codePoints([[point, point]]) };
}

const unsupportedGroups = [
  ["?=", "look-ahead"],
  ["?!", "look-ahead"],
  ["?<=", "look-behind"],
  ["?<!", "look-behind"],
] as const;

function readGroup(cursor: Cursor, limits: RegexLimits, depth: number): Expression {
  const start = cursor.offset - 1;
  if (depth > limits.maxDepth) {
    throw new ConstraintTooComplexError("groups inside each other", limits.maxDepth);
  }
  for (const [text, name] of unsupportedGroups) {
    if (cursor.eat(text)) throw cursor.error(`${name} is not supported`, start);
  }
  const isKnown = cursor.eat("?:") || cursor.match(/\?<[\p{L}_$][\p{L}\p{N}_$]*>/yu);
  if (!isKnown && cursor.peek() === "?") throw cursor.error("unknown kind of group", start);
  const inner = readChoice(cursor, limits, depth);
  if (!cursor.eat(")")) throw cursor.error('the group is not closed with ")"', start);
  return inner;
}

function readRepeat(cursor: Cursor, part: Expression, limits: RegexLimits): Expression {
  const start = cursor.offset;
  const bounds = readBounds(cursor);
  if (!bounds) return part;
  const [min, max] = bounds;
  if (min > max) throw cursor.error("the repetition's bounds are the wrong way round", start);
  if (min > limits.maxRepeat || (max > limits.maxRepeat && max !== Infinity)) {
    throw new ConstraintTooComplexError("repetitions", limits.maxRepeat);
  }
  cursor.eat("?");
  return { kind: "repeat", part, min, max };
}

function readBounds(cursor: Cursor): [number, number] | undefined {
  if (cursor.eat("*")) return [0, Infinity];
  if (cursor.eat("+")) return [1, Infinity];
  if (cursor.eat("?")) return [0, 1];
  const found = cursor.match(/\{(\d{1,400})(?:(,)(\d{1,400})?)?\}/y);
  if (!found) return undefined;
  const min = countOf(found[1]!);
  if (!found[2]) return [min, min];
  return [min, found[3] === undefined ? Infinity : countOf(found[3])];
}

/** Digits as a number; one too large for a number is still not "no bound". */
function countOf(digits: string): number {
  return Math.min(Number(digits), Number.MAX_SAFE_INTEGER);
}

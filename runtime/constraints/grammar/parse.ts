/**
 * Parser of GBNF, the grammar notation of llama.cpp, and of the EBNF of engines that follow it:
 * `name ::= body`, `"text"`, `'text'`, `[a-z]`, `[^a-z]`, `.`, names of rules, `( )`, `|`, `*`, `+`,
 * `?`, `{m}`, `{m,}`, `{m,n}`, `# comments`; the escapes `\n \r \t \\ \" \' \[ \] \^ \- \xHH
 * \uHHHH \UHHHHHHHH`.
 *
 * Source: llama.cpp, grammars/README.md. Differs: a rule ends where the next one begins, so bodies
 * may break lines anywhere, and may end with a semicolon.
 */
import { FormatError } from "../../errors.ts";
import { Cursor } from "../cursor.ts";
import { ConstraintTooComplexError } from "../regex/budget.ts";
import { type CodePoints, codePoints, complement } from "../regex/code_points.ts";
import type { Body, Rules } from "./syntax.ts";

/** Bounds of a grammar's text. */
export const grammarLimits = {
  maxDepth: 100,
  maxRepeat: 1000,
  maxRepeatsInRow: 16,
  maxRules: 2000,
} as const;

const name = /[A-Za-z_][A-Za-z0-9_-]*/y;
const ruleStart = /([A-Za-z_][A-Za-z0-9_-]*)\s*::=/y;
const blank = /(?:[ \t\r\n]+|#[^\n]*)+/y;

/** @throws {FormatError} with the offset of what is malformed @throws {ConstraintTooComplexError} */
export function parseGrammar(text: string): Rules {
  const reader = new Cursor(text, "grammar");
  const rules = new Map<string, Body>();
  skip(reader);
  while (!reader.isAtEnd) {
    const start = reader.match(ruleStart);
    if (!start) throw reader.error("a rule must begin with its name and ::=");
    const [, ruleName = ""] = start;
    if (rules.has(ruleName)) throw reader.error(`the rule ${ruleName} is there twice`);
    if (rules.size >= grammarLimits.maxRules) {
      throw new ConstraintTooComplexError("rules", grammarLimits.maxRules);
    }
    skip(reader);
    rules.set(ruleName, readChoice(reader, 0));
    if (reader.eat(";")) skip(reader);
  }
  if (!rules.has("root")) throw new FormatError("there is no rule root", { source: "grammar" });
  return rules;
}

/** Takes white space and comments. */
function skip(reader: Cursor): void {
  reader.match(blank);
}

function readChoice(reader: Cursor, depth: number): Body {
  const parts = [readSequence(reader, depth)];
  while (reader.eat("|")) {
    skip(reader);
    parts.push(readSequence(reader, depth));
  }
  return parts.length === 1 ? parts[0]! : { kind: "choice", parts };
}

function readSequence(reader: Cursor, depth: number): Body {
  const parts: Body[] = [];
  for (;;) {
    const character = reader.peek();
    if (character === "" || "|);".includes(character)) break;
    if (depth === 0 && reader.look(ruleStart)) break;
    parts.push(readRepeats(reader, readAtom(reader, depth)));
  }
  return parts.length === 1 ? parts[0]! : { kind: "sequence", parts };
}

/** What stands behind a part: `*`, `+`, `?` or a count, several in a row too. */
function readRepeats(reader: Cursor, atom: Body): Body {
  let part = atom;
  skip(reader);
  for (let count = 0;; count++) {
    const bounds = readBounds(reader);
    if (!bounds) return part;
    if (count >= grammarLimits.maxRepeatsInRow) {
      throw new ConstraintTooComplexError("repetitions in a row", grammarLimits.maxRepeatsInRow);
    }
    const [min, max] = bounds;
    // (x*)+ and its like are one repetition: nested ones would only cost readings.
    const isOne = max === Infinity && part.kind === "repeat" && part.max === Infinity &&
      part.min <= 1;
    part = isOne && part.kind === "repeat"
      ? { ...part, min: part.min === 0 ? 0 : min }
      : { kind: "repeat", part, min, max };
    skip(reader);
  }
}

function readAtom(reader: Cursor, depth: number): Body {
  const start = reader.offset;
  const character = reader.peek();
  if (character === '"' || character === "'") return readText(reader);
  if (character === "[") return { kind: "set", set: readClass(reader) };
  if (reader.eat(".")) return { kind: "set", set: codePoints([[0, 0x10ffff]]) };
  if (reader.eat("(")) {
    if (depth >= grammarLimits.maxDepth) {
      throw new ConstraintTooComplexError("groups inside each other", grammarLimits.maxDepth);
    }
    skip(reader);
    const body = readChoice(reader, depth + 1);
    if (!reader.eat(")")) throw reader.error('the group is not closed with ")"', start);
    return body;
  }
  const found = reader.match(name);
  if (!found) throw reader.error(`unexpected ${JSON.stringify(character)}`);
  return { kind: "rule", name: found[0], offset: start };
}

function readText(reader: Cursor): Body {
  const start = reader.offset;
  const quote = reader.next();
  const parts: Body[] = [];
  while (!reader.eat(quote)) {
    if (reader.isAtEnd || reader.peek() === "\n") {
      throw reader.error("the text is not closed", start);
    }
    const point = readPoint(reader);
    parts.push({ kind: "set", set: codePoints([[point, point]]) });
  }
  return parts.length === 1 ? parts[0]! : { kind: "sequence", parts };
}

function readClass(reader: Cursor): CodePoints {
  const start = reader.offset;
  reader.next();
  const isNegated = reader.eat("^");
  const ranges: [number, number][] = [];
  while (!reader.eat("]")) {
    if (reader.isAtEnd) throw reader.error('the class is not closed with "]"', start);
    const lo = readPoint(reader);
    const isRange = reader.peek() === "-" && reader.text[reader.offset + 1] !== "]";
    if (isRange) reader.next();
    const hi = isRange ? readPoint(reader) : lo;
    if (hi < lo) throw reader.error("the range is the wrong way round", start);
    ranges.push([lo, hi]);
  }
  const set = codePoints(ranges);
  const chosen = isNegated ? complement(set) : set;
  if (chosen.length === 0) throw reader.error("the class has no characters", start);
  return chosen;
}

const letters: Readonly<Record<string, string>> = { n: "\n", r: "\r", t: "\t" };
const digits: Readonly<Record<string, RegExp>> = {
  x: /[0-9A-Fa-f]{2}/y,
  u: /[0-9A-Fa-f]{4}/y,
  U: /[0-9A-Fa-f]{8}/y,
};

function readPoint(reader: Cursor): number {
  const start = reader.offset;
  const character = reader.next();
  const point = character === "\\" ? readEscape(reader, start) : character.codePointAt(0)!;
  if (point > 0x10ffff || (point >= 0xd800 && point <= 0xdfff)) {
    throw reader.error("no such character", start);
  }
  return point;
}

function readEscape(reader: Cursor, start: number): number {
  const kind = reader.next();
  const hex = digits[kind];
  if (hex) {
    const found = reader.match(hex);
    if (!found) throw reader.error("the escape lacks digits", start);
    return parseInt(found[0], 16);
  }
  if (letters[kind] !== undefined) return letters[kind]!.codePointAt(0)!;
  if (kind !== "" && /[!-/:-@[-`{-~]/.test(kind)) return kind.codePointAt(0)!;
  throw reader.error("unknown escape", start);
}

function readBounds(reader: Cursor): [number, number] | undefined {
  const start = reader.offset;
  if (reader.eat("*")) return [0, Infinity];
  if (reader.eat("+")) return [1, Infinity];
  if (reader.eat("?")) return [0, 1];
  const found = reader.match(/\{\s*(\d{1,9})\s*(?:(,)\s*(\d{1,9})?\s*)?\}/y);
  if (!found) return undefined;
  const min = Number(found[1]);
  const max = !found[2] ? min : found[3] === undefined ? Infinity : Number(found[3]);
  if (min > max) throw reader.error("the repetition's bounds are the wrong way round", start);
  const largest = max === Infinity ? min : max;
  if (largest > grammarLimits.maxRepeat) {
    throw new ConstraintTooComplexError("repetitions", grammarLimits.maxRepeat);
  }
  return [min, max];
}

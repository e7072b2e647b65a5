/**
 * Covering: telling text that came from a request from text that came from the template.
 *
 * Every character of the request's strings that also occurs in some control token is replaced by a
 * private-use character before the template runs. In what the template makes, covered characters are
 * those of the request: a control token with a covered character in it was not written by the
 * template, wherever the pieces came from.
 */
import { TemplateError } from "../errors.ts";

/** Every UTF-16 unit to itself. */
const identity = new Uint16Array(65_536);
for (let unit = 0; unit < identity.length; unit++) identity[unit] = unit;
const FIRST_PRIVATE = 0xe000;
const PRIVATE = 6400;

/** One-to-one replacement of characters. Lengths in UTF-16 units never change. */
export interface Cover {
  /** Covers a text, except for stretches equal to one of `keep` (longest first). */
  cover(text: string, keep: readonly string[]): string;
  uncover(text: string): string;
}

/**
 * A cover for the characters of `controls`.
 *
 * @param controls texts of the control tokens
 * @param used all texts that are going to be covered or rendered; none of the substitutes is in them
 * @param punctuation leave letters and digits as they are. @default false
 * @throws {TemplateError} if the texts use up the private-use characters
 */
export function createCover(
  controls: readonly string[],
  used: readonly string[],
  punctuation: boolean = false,
): Cover {
  const covered = coveredUnits(controls, punctuation);
  const base = freePrivateUnits(used, covered.length);
  const there = identity.slice();
  const back = identity.slice();
  covered.forEach((unit, i) => {
    there[unit] = base + i;
    back[base + i] = unit;
  });
  return {
    cover: (text, keep) => coverExcept(text, keep, there),
    uncover: (text) => substitute(text, back),
  };
}

/** Characters that no escaping, trimming or splitting at white space treats specially. */
function coveredUnits(controls: readonly string[], punctuation: boolean): number[] {
  const units = new Set<number>();
  for (const control of controls) {
    for (const character of control) {
      if (character.length > 1 || /[\p{White_Space}\p{Cc}"\\]/u.test(character)) continue;
      if (punctuation && /[\p{L}\p{N}]/u.test(character)) continue;
      units.add(character.charCodeAt(0));
    }
  }
  return [...units];
}

function freePrivateUnits(used: readonly string[], count: number): number {
  const taken = new Uint8Array(PRIVATE);
  for (const text of used) {
    if (!/[\ue000-\uf8ff]/.test(text)) continue;
    for (let i = 0; i < text.length; i++) {
      const unit = text.charCodeAt(i) - FIRST_PRIVATE;
      if (unit >= 0 && unit < PRIVATE) taken[unit] = 1;
    }
  }
  for (let start = 0, free = 0; start + free < PRIVATE;) {
    if (taken[start + free]) {
      start += free + 1;
      free = 0;
    } else if (++free >= count) return FIRST_PRIVATE + start;
  }
  throw new TemplateError("Cannot render messages that use most private-use characters");
}

function coverExcept(text: string, keep: readonly string[], table: Uint16Array): string {
  const kept = keep.filter((literal) => literal !== "" && text.includes(literal));
  if (kept.length === 0) return substitute(text, table);
  const longestFirst = kept.toSorted((a, b) => b.length - a.length);
  const pattern = new RegExp(longestFirst.map((literal) => RegExp.escape(literal)).join("|"), "g");
  let covered = "";
  let end = 0;
  for (const match of text.matchAll(pattern)) {
    covered += substitute(text.slice(end, match.index), table) + match[0];
    end = match.index + match[0].length;
  }
  return covered + substitute(text.slice(end), table);
}

/** Units per call; engines limit the number of arguments. */
const CHUNK = 8192;

/** Unit by unit, so that lone surrogates stay what they are. */
function substitute(text: string, table: Uint16Array): string {
  const units = new Uint16Array(Math.min(text.length, CHUNK));
  let out = "";
  for (let start = 0; start < text.length; start += CHUNK) {
    const count = Math.min(CHUNK, text.length - start);
    for (let i = 0; i < count; i++) units[i] = table[text.charCodeAt(start + i)]!;
    out += String.fromCharCode(...units.subarray(0, count));
  }
  return out;
}

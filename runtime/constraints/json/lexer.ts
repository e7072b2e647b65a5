/** The inside of a JSON string, byte by byte. Source: RFC 8259, section 7, and RFC 3629 for UTF-8. */

/** Place in a string. */
export interface Lex {
  /**
   * "char": between characters; "utf8": inside one; "escape": after a backslash; "hex": among the
   * digits of \u; "pair", "pairU": before the second half of a surrogate pair; "end": after the
   * closing quote.
   */
  readonly kind: "char" | "utf8" | "escape" | "hex" | "pair" | "pairU" | "end";
  /** Digits of \u so far. */
  readonly hex: string;
  /** First half of a surrogate pair, or 0. */
  readonly high: number;
  /** Further bytes of the character and the range of the next one. */
  readonly need: number;
  readonly lo: number;
  readonly hi: number;
  /** Bytes of the decoded string that this place adds; undefined = the byte that led here. */
  readonly out: readonly number[] | undefined;
}

const nothing = { hex: "", high: 0, need: 0, lo: 0, hi: 0 };

/** After a whole character that stands for itself. */
export const plain: Lex = { kind: "char", ...nothing, out: undefined };
const end: Lex = { kind: "end", ...nothing, out: [] };
const escape: Lex = { kind: "escape", ...nothing, out: [] };

const quote = 0x22;
const backslash = 0x5c;

/** Letters of two-character escapes and what they mean. */
export const shortEscapes: ReadonlyMap<number, number> = new Map([
  [0x22, 0x22],
  [0x5c, 0x5c],
  [0x2f, 0x2f],
  [0x62, 0x08],
  [0x66, 0x0c],
  [0x6e, 0x0a],
  [0x72, 0x0d],
  [0x74, 0x09],
]);
const shortLex = new Map(
  [...shortEscapes].map(([letter, byte]): [number, Lex] => [letter, {
    kind: "char",
    ...nothing,
    out: [byte],
  }]),
);

/** The place after a byte, or null if no JSON string goes on with it. Lone surrogates do not. */
export function lexString(lex: Lex, byte: number): Lex | null {
  switch (lex.kind) {
    case "char":
      return lexCharacter(byte);
    case "utf8":
      if (byte < lex.lo || byte > lex.hi) return null;
      return lex.need === 1 ? plain : utf8(lex.need - 1, 0x80, 0xbf);
    case "escape":
      if (byte === 0x75) return { ...escape, kind: "hex" };
      return shortLex.get(byte) ?? null;
    case "hex":
      return lexHex(lex, byte);
    case "pair":
      return byte === backslash ? { ...lex, kind: "pairU" } : null;
    case "pairU":
      return byte === 0x75 ? { ...lex, kind: "hex" } : null;
    case "end":
      return null;
  }
}

const utf8Places = new Map<number, Lex>();

function utf8(need: number, lo: number, hi: number): Lex {
  const key = need << 16 | lo << 8 | hi;
  let lex = utf8Places.get(key);
  if (!lex) {
    lex = { kind: "utf8", hex: "", high: 0, need, lo, hi, out: undefined };
    utf8Places.set(key, lex);
  }
  return lex;
}

function lexCharacter(byte: number): Lex | null {
  if (byte === quote) return end;
  if (byte === backslash) return escape;
  if (byte < 0x20) return null;
  if (byte < 0x80) return plain;
  return lexLead(byte);
}

/** The place after the first byte of a longer character: RFC 3629, section 4. */
export function lexLead(byte: number): Lex | null {
  if (byte < 0xc2 || byte > 0xf4) return null;
  if (byte < 0xe0) return utf8(1, 0x80, 0xbf);
  if (byte === 0xe0) return utf8(2, 0xa0, 0xbf);
  if (byte === 0xed) return utf8(2, 0x80, 0x9f);
  if (byte < 0xf0) return utf8(2, 0x80, 0xbf);
  if (byte === 0xf0) return utf8(3, 0x90, 0xbf);
  return byte === 0xf4 ? utf8(3, 0x80, 0x8f) : utf8(3, 0x80, 0xbf);
}

function lexHex(lex: Lex, byte: number): Lex | null {
  const digit = String.fromCharCode(byte);
  if (!/[0-9A-Fa-f]/.test(digit)) return null;
  const hex = lex.hex + digit;
  if (lex.high > 0 && !/^d([c-f]|$)/i.test(hex)) return null;
  if (lex.high === 0 && /^d[c-f]/i.test(hex)) return null;
  if (hex.length < 4) return { ...lex, hex };
  const unit = parseInt(hex, 16);
  if (lex.high > 0) {
    const point = 0x10000 + ((lex.high - 0xd800) << 10) + (unit - 0xdc00);
    return { ...plain, out: bytesOf(point) };
  }
  if (unit >= 0xd800 && unit <= 0xdbff) return { ...lex, kind: "pair", hex: "", high: unit };
  return { ...plain, out: bytesOf(unit) };
}

function bytesOf(point: number): readonly number[] {
  return [...new TextEncoder().encode(String.fromCodePoint(point))];
}

/** Control characters without a two-character escape: the only ones strict strings write as \u. */
const controls = Array.from({ length: 0x20 }, (_, point) => point)
  .filter((point) => ![...shortEscapes.values()].includes(point));

/**
 * Characters that may come from an escape whose beginning is `lex`, where every character has one
 * spelling: \" \\ \b \f \n \r \t, and \u for the other control characters.
 */
export function strictTargets(lex: Lex): readonly number[] {
  const hex = lex.hex.toLowerCase();
  const byHex = controls.filter((p) => p.toString(16).padStart(4, "0").startsWith(hex));
  if (lex.kind === "hex") return byHex;
  return [...[...shortEscapes.values()].filter((point) => point !== 0x2f), ...byHex];
}

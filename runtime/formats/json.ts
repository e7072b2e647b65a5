/**
 * A strict JSON reader for files from strangers. Unlike `JSON.parse` it refuses duplicate keys and
 * deep nesting, gives objects as maps (so no key can reach a prototype), and says where an error
 * is. Linear in the length of the text.
 *
 * Source: RFC 8259. Differs: the depth and the kind of numbers are limited by the caller.
 */
import { FormatError } from "../errors.ts";

export type Json = null | boolean | number | string | readonly Json[] | JsonObject;
export type JsonObject = ReadonlyMap<string, Json>;

export interface JsonOptions {
  /** What is being read, for messages. */
  readonly source: string;
  /** How many arrays and objects may be open at once. */
  readonly maxDepth: number;
  /**
   * "whole": only numbers written as digits, from 0 to 2^53 - 1; sizes and offsets lose nothing.
   * "any": every JSON number, as the nearest double.
   * @default "any"
   */
  readonly numbers?: "any" | "whole";
  /**
   * How many values the text may hold, since a short text of empty objects takes much memory.
   * @default 5,000,000
   */
  readonly maxValues?: number;
  /** Added to offsets in messages. @default 0 */
  readonly baseOffset?: number;
}

/**
 * Parses one JSON text. Offsets in errors count UTF-16 units of `text`.
 *
 * @throws {FormatError} on malformed text, a duplicate key, too deep nesting or a refused number
 */
export function parseJson(text: string, options: JsonOptions): Json {
  return new Parser(text, options).document();
}

export function isJsonObject(value: Json | undefined): value is JsonObject {
  return value instanceof Map;
}

const numberToken = /-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?/y;
const wholeToken = /^(?:0|[1-9][0-9]{0,15})$/;

class Parser {
  readonly #text: string;
  readonly #options: JsonOptions;
  readonly #maxValues: number;
  #at = 0;
  #depth = 0;
  #values = 0;

  constructor(text: string, options: JsonOptions) {
    this.#text = text;
    this.#options = options;
    this.#maxValues = options.maxValues ?? 5_000_000;
  }

  document(): Json {
    const value = this.#value();
    this.#space();
    if (this.#at < this.#text.length) throw this.#error("text after the end of the JSON value");
    return value;
  }

  /** Recursion is safe: `maxDepth` bounds it. */
  #value(): Json {
    this.#space();
    if (++this.#values > this.#maxValues) throw this.#error(`more than ${this.#maxValues} values`);
    switch (this.#text[this.#at]) {
      case "{":
        return this.#nested(() => this.#object());
      case "[":
        return this.#nested(() => this.#array());
      case '"':
        return this.#string();
      case "t":
        return this.#literal("true", true);
      case "f":
        return this.#literal("false", false);
      case "n":
        return this.#literal("null", null);
      default:
        return this.#number();
    }
  }

  #nested<T>(read: () => T): T {
    if (++this.#depth > this.#options.maxDepth) {
      throw this.#error(`nesting is deeper than ${this.#options.maxDepth}`);
    }
    this.#at++;
    const value = read();
    this.#depth--;
    return value;
  }

  #object(): JsonObject {
    const entries = new Map<string, Json>();
    if (this.#skip("}")) return entries;
    do {
      this.#space();
      const start = this.#at;
      const key = this.#string();
      if (entries.has(key)) throw this.#error(`duplicate key ${quote(key)}`, start);
      this.#expect(":");
      entries.set(key, this.#value());
    } while (this.#skip(","));
    this.#expect("}");
    return entries;
  }

  #array(): readonly Json[] {
    const items: Json[] = [];
    if (this.#skip("]")) return items;
    do items.push(this.#value()); while (this.#skip(","));
    this.#expect("]");
    return items;
  }

  #string(): string {
    const start = this.#at;
    if (this.#text[start] !== '"') throw this.#error("expected a string in double quotes");
    let escaped = false;
    for (let at = start + 1; at < this.#text.length; at++) {
      const unit = this.#text.charCodeAt(at);
      if (unit === 0x22) {
        this.#at = at + 1;
        return escaped
          ? this.#unescape(this.#text.slice(start, at + 1), start)
          : this.#text.slice(start + 1, at);
      }
      if (unit < 0x20) throw this.#error("control character in a string", at);
      if (unit === 0x5c) {
        escaped = true;
        at++; // whatever follows, it does not end the string
      }
    }
    throw this.#error("string without end", start);
  }

  /** One string token has no keys and no depth, so the platform's parser may read it. */
  #unescape(token: string, start: number): string {
    try {
      return String(JSON.parse(token));
    } catch (cause) {
      throw this.#error("malformed escape in a string", start, cause);
    }
  }

  #number(): number {
    numberToken.lastIndex = this.#at;
    const token = numberToken.exec(this.#text)?.[0];
    if (token === undefined) {
      throw this.#error(
        this.#at < this.#text.length ? "expected a JSON value" : "the text ends too early",
      );
    }
    const value = Number(token);
    if (this.#options.numbers === "whole") {
      if (!wholeToken.test(token) || !Number.isSafeInteger(value)) {
        throw this.#error(`${cut(token)} is not a whole number from 0 to 2^53 - 1`);
      }
    } else if (!Number.isFinite(value)) {
      throw this.#error(`${cut(token)} is too large for a number`);
    }
    this.#at += token.length;
    return value;
  }

  #literal<T>(word: string, value: T): T {
    if (!this.#text.startsWith(word, this.#at)) throw this.#error("expected a JSON value");
    this.#at += word.length;
    return value;
  }

  #space(): void {
    for (;;) {
      const unit = this.#text.charCodeAt(this.#at);
      if (unit !== 0x20 && unit !== 0x0a && unit !== 0x0d && unit !== 0x09) return;
      this.#at++;
    }
  }

  #skip(mark: string): boolean {
    this.#space();
    if (this.#text[this.#at] !== mark) return false;
    this.#at++;
    return true;
  }

  #expect(mark: string): void {
    if (!this.#skip(mark)) throw this.#error(`expected ${quote(mark)}`);
  }

  #error(message: string, at = this.#at, cause?: unknown): FormatError {
    const offset = (this.#options.baseOffset ?? 0) + at;
    return new FormatError(message, { source: this.#options.source, offset, cause });
  }
}

/** A name from a file, quoted and short enough for a message. */
export function quote(text: string): string {
  return JSON.stringify(cut(text));
}

function cut(text: string): string {
  return text.length > 80 ? `${text.slice(0, 80)}...` : text;
}

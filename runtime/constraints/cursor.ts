/** A place in a pattern or grammar, and how to complain about it. */
import { FormatError } from "../errors.ts";

/** Reads a text by code points; offsets count UTF-16 units. */
export class Cursor {
  offset = 0;

  /** @param source what errors call the text */
  constructor(readonly text: string, readonly source: "regular expression" | "grammar") {}

  get isAtEnd(): boolean {
    return this.offset >= this.text.length;
  }

  /** The next character, or the empty string at the end. */
  peek(): string {
    const point = this.text.codePointAt(this.offset);
    return point === undefined ? "" : String.fromCodePoint(point);
  }

  /** Takes the next character. */
  next(): string {
    const character = this.peek();
    this.offset += character.length;
    return character;
  }

  /** Takes `text` if it comes next. */
  eat(text: string): boolean {
    if (!this.text.startsWith(text, this.offset)) return false;
    this.offset += text.length;
    return true;
  }

  /** What a sticky expression matches here. */
  look(sticky: RegExp): RegExpExecArray | undefined {
    sticky.lastIndex = this.offset;
    return sticky.exec(this.text) ?? undefined;
  }

  /** Takes what a sticky expression matches here. */
  match(sticky: RegExp): RegExpExecArray | undefined {
    const found = this.look(sticky);
    if (found) this.offset += found[0].length;
    return found;
  }

  error(message: string, offset: number = this.offset): FormatError {
    return new FormatError(message, { source: this.source, offset });
  }
}

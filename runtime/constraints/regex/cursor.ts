/** A place in a pattern, and how to complain about it. */
import { FormatError } from "../../errors.ts";

/** Reads a pattern by code points; offsets count UTF-16 units. */
export class Cursor {
  offset = 0;
  constructor(readonly pattern: string) {}

  /** The next character, or the empty string at the end. */
  peek(): string {
    const point = this.pattern.codePointAt(this.offset);
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
    if (!this.pattern.startsWith(text, this.offset)) return false;
    this.offset += text.length;
    return true;
  }

  /** Takes what a sticky expression matches here. */
  match(sticky: RegExp): RegExpExecArray | undefined {
    sticky.lastIndex = this.offset;
    const found = sticky.exec(this.pattern) ?? undefined;
    if (found) this.offset = sticky.lastIndex;
    return found;
  }

  error(message: string, offset: number = this.offset): FormatError {
    return new FormatError(message, { source: "regular expression", offset });
  }
}

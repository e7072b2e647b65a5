/**
 * Server-sent events, read strictly and within bounds.
 *
 * Source: WHATWG HTML, "Server-sent events", section 9.2.6 (parsing an event stream).
 * Differs: input that is not UTF-8 is an error instead of U+FFFD, and sizes are bounded.
 */

/** A stream that is not what it claims to be. */
export class SseError extends Error {
  override readonly name = "SseError";
}

/** Bounds in UTF-16 code units of text. */
export interface SseLimits {
  /** @default 1 MiB */
  readonly event?: number;
  /** @default 256 MiB */
  readonly total?: number;
}

/** Takes bytes, gives the data of the events they complete. One per stream. */
export interface SseParser {
  /** @throws {SseError} */
  push(bytes: Uint8Array): readonly string[];
  /** Lines so far, comments included: a sign of life where no event is complete. */
  readonly lines: number;
}

const MIB = 1024 * 1024;
const COLON = 58, SPACE = 32;

/** A parser at the beginning of a stream. */
export function createSseParser({ event = MIB, total = 256 * MIB }: SseLimits = {}): SseParser {
  const decoder = new TextDecoder("utf-8", { fatal: true }); // drops a byte-order mark at the start
  let rest: string[] = []; // pieces of a line that is not complete, joined once it is
  let restLength = 0;
  let data: string | undefined; // lines of the event that is not complete
  let seen = 0;
  let lines = 0;
  let afterReturn = false; // the text so far ended with a carriage return

  function line(text: string, out: string[]): void {
    lines++;
    if (text === "") {
      if (data !== undefined) out.push(data);
      data = undefined;
      return;
    }
    if (!text.startsWith("data")) return; // comment, or a field without use
    if (text.length > 4 && text.charCodeAt(4) !== COLON) return; // "database"
    const value = text.slice(text.charCodeAt(5) === SPACE ? 6 : 5);
    data = data === undefined ? value : `${data}\n${value}`;
    if (data.length > event) throw new SseError(`an event is longer than ${event} characters`);
  }

  function decode(bytes: Uint8Array): string {
    try {
      return decoder.decode(bytes, { stream: true });
    } catch (cause) {
      throw new SseError("the stream is not UTF-8", { cause });
    }
  }

  /** Line breaks of all three kinds as "\n"; one that is split between two reads counts once. */
  function normalise(text: string): string {
    const fresh = afterReturn && text.startsWith("\n") ? text.slice(1) : text;
    if (text !== "") afterReturn = text.endsWith("\r");
    return fresh.includes("\r") ? fresh.replaceAll(/\r\n?/g, "\n") : fresh;
  }

  return {
    get lines() {
      return lines;
    },
    push(bytes) {
      const text = normalise(decode(bytes));
      seen += text.length;
      if (seen > total) throw new SseError(`the stream is longer than ${total} characters`);
      const out: string[] = [];
      let start = 0;
      for (let at = text.indexOf("\n"); at >= 0; at = text.indexOf("\n", start)) {
        const end = text.slice(start, at);
        line(rest.length > 0 ? rest.join("") + end : end, out);
        rest = [];
        restLength = 0;
        start = at + 1;
      }
      if (start < text.length) {
        rest.push(text.slice(start));
        restLength += text.length - start;
      }
      if (restLength > event) throw new SseError(`a line is longer than ${event} characters`);
      return out;
    },
  };
}

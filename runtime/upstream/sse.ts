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

/** Bounds in bytes. */
export interface SseLimits {
  /** @default 1 MiB */
  readonly event?: number;
  /** @default 256 MiB */
  readonly total?: number;
}

/** Takes bytes, gives the data of the events they complete. One per stream. */
export interface SseParser {
  /** Never throws: what came before a mistake is given out, then {@link error} is set. */
  push(bytes: Uint8Array): readonly string[];
  /** Lines so far, comments included: a sign of life where no event is complete. */
  readonly lines: number;
  /** What is wrong with the stream; nothing is read after it. */
  readonly error: SseError | undefined;
}

const MIB = 1024 * 1024;
const LINE_FEED = 10, RETURN = 13, SPACE = 32, COLON = 58;
const nothing = new Uint8Array();

/** A parser at the beginning of a stream. */
export function createSseParser({ event = MIB, total = 256 * MIB }: SseLimits = {}): SseParser {
  const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
  let rest: Uint8Array[] = []; // pieces of a line that is not complete, joined once it is
  let restLength = 0;
  let data: string | undefined; // lines of the event that is not complete
  let seen = 0;
  let lines = 0;
  let afterReturn = false; // a line feed that comes next belongs to the line before
  let error: SseError | undefined;

  /** One whole line. No byte of a longer character looks like a line break, so none is cut. */
  function line(bytes: Uint8Array, out: string[]): void {
    lines++;
    if (bytes.length === 0) {
      if (data !== undefined) out.push(data);
      data = undefined;
      return;
    }
    let text: string;
    try {
      text = decoder.decode(bytes);
    } catch (cause) {
      throw new SseError("the stream is not UTF-8", { cause });
    }
    if (lines === 1 && text.startsWith("\uFEFF")) text = text.slice(1);
    if (!text.startsWith("data")) return; // comment, or a field without use
    if (text.length > 4 && text.charCodeAt(4) !== COLON) return; // "database"
    const value = text.slice(text.charCodeAt(5) === SPACE ? 6 : 5);
    data = data === undefined ? value : `${data}\n${value}`;
    if (data.length > event) throw new SseError(`an event is longer than ${event} bytes`);
  }

  function read(bytes: Uint8Array, out: string[]): void {
    seen += bytes.length;
    if (seen > total) throw new SseError(`the stream is longer than ${total} bytes`);
    const hasReturns = bytes.includes(RETURN);
    let start = 0;
    if (afterReturn && bytes.length > 0) {
      if (bytes[0] === LINE_FEED) start = 1;
      afterReturn = false;
    }
    for (;;) {
      const end = hasReturns ? nextBreak(bytes, start) : bytes.indexOf(LINE_FEED, start);
      if (end < 0) break;
      line(joined(rest, restLength, bytes.subarray(start, end)), out);
      rest = [];
      restLength = 0;
      start = end + 1;
      if (bytes[end] !== RETURN) continue;
      if (start === bytes.length) afterReturn = true;
      else if (bytes[start] === LINE_FEED) start++;
    }
    if (start < bytes.length) {
      rest.push(bytes.slice(start));
      restLength += bytes.length - start;
    }
    if (restLength > event) throw new SseError(`a line is longer than ${event} bytes`);
  }

  return {
    get lines() {
      return lines;
    },
    get error() {
      return error;
    },
    push(bytes) {
      const out: string[] = [];
      if (error) return out;
      try {
        read(bytes, out);
      } catch (cause) {
        if (!(cause instanceof SseError)) throw cause;
        error = cause;
        rest = [];
      }
      return out;
    },
  };
}

function nextBreak(bytes: Uint8Array, start: number): number {
  for (let at = start; at < bytes.length; at++) {
    if (bytes[at] === LINE_FEED || bytes[at] === RETURN) return at;
  }
  return -1;
}

function joined(pieces: readonly Uint8Array[], length: number, last: Uint8Array): Uint8Array {
  if (pieces.length === 0) return last.length === 0 ? nothing : last;
  const all = new Uint8Array(length + last.length);
  let at = 0;
  for (const piece of [...pieces, last]) {
    all.set(piece, at);
    at += piece.length;
  }
  return all;
}

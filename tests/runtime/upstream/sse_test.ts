import { assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { createSseParser, SseError } from "../../../runtime/upstream/sse.ts";

const bytes = (text: string) => new TextEncoder().encode(text);

function parse(text: string | Uint8Array, cuts: readonly number[] = []): string[] {
  const parser = createSseParser();
  const all = typeof text === "string" ? bytes(text) : text;
  const ends = [...cuts, all.length].sort((a, b) => a - b);
  let start = 0;
  return ends.flatMap((end) => {
    const part = all.subarray(start, end);
    start = Math.max(start, end);
    const events = parser.push(part);
    if (parser.error && events.length === 0) throw parser.error;
    return [...events];
  });
}

const tricky = [
  "data: one\n\ndata:two\r\n\r\ndata: three\r\rdata: é日🐕\n\n",
  ": comment\n\ndata\ndata: a\ndata: b\n\nevent: error\nid: 7\nretry: 1\ndatabase: no\n\n",
  "data:  two spaces\n\ndata: [DONE]\n\n",
];
const expected = ["one", "two", "three", "é日🐕", "\na\nb", " two spaces", "[DONE]"];

Deno.test("SSE: every kind of line break, comments, fields without use, several data lines", () => {
  assertEquals(tricky.flatMap((text) => parse(text)), expected);
});

Deno.test("SSE: the same events however the bytes are cut", () => {
  const text = tricky.join("");
  const { length } = bytes(text);
  for (let cut = 0; cut <= length; cut++) assertEquals(parse(text, [cut]), expected, `${cut}`);
  assertEquals(parse(text, Array.from({ length }, (_, i) => i)), expected);
});

Deno.test("SSE: a byte-order mark at the start is not part of the first field", () => {
  assertEquals(parse("\uFEFFdata: a\n\n"), ["a"]);
});

Deno.test("SSE: an event without its blank line is not an event", () => {
  assertEquals(parse("data: a\n\ndata: b\n"), ["a"]);
  assertEquals(parse("data: a\n\ndata: b"), ["a"]);
});

Deno.test("SSE: what is not UTF-8 is refused", () => {
  for (const bad of [[0xff], [0xc3, 0x28], [0xed, 0xa0, 0x80], [0xf8, 0x88]]) {
    assertThrows(
      () => parse(Uint8Array.of(...bytes("data: "), ...bad, 10, 10)),
      SseError,
      "not UTF-8",
    );
  }
});

Deno.test("SSE: what came before a mistake is given out, nothing after it", () => {
  const parser = createSseParser();
  const good = bytes("data: a\n\ndata: b\n\n");
  const events = parser.push(Uint8Array.of(...good, ...bytes("data: "), 0xff, 10, 10, ...good));
  assertEquals([events, parser.error?.message], [["a", "b"], "the stream is not UTF-8"]);
  assertEquals(parser.push(good), []);
});

Deno.test("SSE: sizes of lines, events and streams are bounded", () => {
  const push = (limits: { event?: number; total?: number }, ...parts: string[]) => () => {
    const parser = createSseParser(limits);
    for (const part of parts) parser.push(bytes(part));
    if (parser.error) throw parser.error;
  };
  push({ event: 10 }, "data: 0123456789\n\n")();
  assertThrows(push({ event: 10 }, "data: 0123456789a\n\n"), SseError, "event");
  assertThrows(push({ event: 10 }, "data: 01234\ndata: 567890\n\n"), SseError, "event");
  assertThrows(push({ event: 10 }, ": 01234", "5678", "9a"), SseError, "line");
  push({ total: 20 }, "data: 0\n\n", "data: 1\n\n")();
  assertThrows(
    push({ total: 20 }, "data: 0\n\n", "data: 1\n\n", "data: 2\n\n"),
    SseError,
    "stream",
  );
});

Deno.test("SSE: any bytes give events or an SseError, whatever the cuts", () => {
  const lines = fc.constantFrom(
    "data: x",
    "data",
    "data:",
    ":",
    "",
    "\r",
    "event: e",
    "é",
    "\uFEFF",
  );
  fc.assert(
    fc.property(
      fc.oneof(
        fc.uint8Array({ maxLength: 64 }),
        fc.array(lines, { maxLength: 12 }).map((all) => bytes(all.join("\n"))),
      ),
      fc.array(fc.nat(64), { maxLength: 6 }),
      (input, cuts) => {
        const attempt = (where: readonly number[]) => {
          const parser = createSseParser();
          const ends = [...where.filter((cut) => cut < input.length), input.length];
          let start = 0;
          const events = ends.sort((a, b) => a - b).flatMap((end) => {
            const part = input.subarray(start, end);
            start = end;
            return [...parser.push(part)];
          });
          return [events, parser.error?.message];
        };
        assertEquals(attempt(cuts), attempt([]));
      },
    ),
    { seed: 7, numRuns: 300 },
  );
});

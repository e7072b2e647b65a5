/**
 * Ways in which an upstream fails, and what has to come of each. Source: the list of faults that every
 * release must pass, plus what broke other gateways.
 */
import {
  begun,
  chatStream,
  chunk,
  dataOf,
  type Fault,
  lastPart,
  part,
  status,
  stream,
  streamHead,
} from "../fakes/fake_upstream_server.ts";

/** What has to come of a fault. */
export interface Mode {
  readonly name: string;
  readonly fault: Fault;
  /**
   * `fine`: the answer is whole. `early`: it fails before its first text, so that another server can
   * answer instead. `final`: it fails before its first text in a way that no other server would mend.
   * `late`: it fails after some text, which must be passed on, and then an error event.
   */
  readonly when: "fine" | "early" | "final" | "late";
  /** Text of the answer, or what of it came before the fault. */
  readonly text: string;
  readonly status?: number;
  readonly code?: string;
  /** Most bytes the server may get rid of. */
  readonly bytes?: number;
}

const fine = (name: string, text: string, fault: Fault): Mode => ({
  name,
  fault,
  when: "fine",
  text,
});
const early = (name: string, status: number, code: string, fault: Fault): Mode => ({
  name,
  fault,
  when: "early",
  text: "",
  status,
  code,
});
const final = (name: string, status: number, code: string, fault: Fault): Mode => ({
  ...early(name, status, code, fault),
  when: "final",
});
const late = (name: string, text: string, code: string, fault: Fault): Mode => ({
  name,
  fault,
  when: "late",
  text,
  code,
});

const problem = JSON.stringify({ error: { message: "secret", type: "x", param: null, code: "x" } });
const json = { "content-type": "application/json" };
const [opening, ...rest] = chatStream(["one ", "two"]);
const whole = chatStream(["one ", "two"]).join("");
const big = 50 * 1024 * 1024;
const invalid = "upstream_invalid_response";
const cut = "upstream_stream_truncated";

/** Writes until the other side has had enough, at most so much. */
function flood(head: string, unit: Uint8Array, most: number): Fault {
  return async (line) => {
    await line.write(streamHead);
    if (head) await line.write(part(head));
    for (let sent = 0; sent < most; sent += unit.length) await line.write(part(unit));
    await line.write(lastPart);
  };
}

async function gzip(bytes: number): Promise<Uint8Array> {
  const zeros = new Uint8Array(1024 * 1024);
  const source = new ReadableStream<Uint8Array<ArrayBuffer>>({
    start(controller) {
      for (let at = 0; at < bytes; at += zeros.length) controller.enqueue(zeros);
      controller.close();
    },
  });
  return new Uint8Array(
    await new Response(source.pipeThrough(new CompressionStream("gzip"))).arrayBuffer(),
  );
}

/** A thousand times as long when unpacked; made once, since that takes a while. */
const bomb = await gzip(64 * 1024 * 1024);

const split = (text: string): string[] => [...text];
const encoded = new TextEncoder();

/** A stream whose body goes out byte by byte. */
function bytewise(text: string): Fault {
  return stream(...Array.from(encoded.encode(text), (byte) => Uint8Array.of(byte)));
}

const logged = (index: unknown, content = "x") =>
  dataOf({ id: "c", choices: [{ index, delta: { content }, finish_reason: null }] });

/** All modes, by what goes wrong. */
export const modes: readonly Mode[] = [
  // Connection
  early("closes without an answer", 502, "upstream_error", async () => {}),
  early("accepts and never answers", 504, "upstream_timeout", (line) => line.gone()),
  early(
    "answers garbage instead of HTTP",
    502,
    "upstream_error",
    (line) => line.write("hello\r\n\r\n"),
  ),
  early("head, then silence", 504, "upstream_timeout", async (line) => {
    await line.write(streamHead);
    await line.gone();
  }),
  early("head, then close", 502, cut, stream()),
  early("opening event, then silence", 504, "upstream_timeout", async (line) => {
    await line.write(streamHead);
    await line.write(part(opening!));
    await line.gone();
  }),
  fine(
    "HTTP/1.0 with close",
    "one two",
    (line) => line.write(`HTTP/1.0 200 OK\r\ncontent-type: text/event-stream\r\n\r\n${whole}`),
  ),
  fine("trailers after the body", "one two", async (line) => {
    await line.write(streamHead.replace("\r\n\r\n", "\r\ntrailer: x-sum\r\n\r\n"));
    await line.write(part(whole));
    await line.write("0\r\nx-sum: 1\r\n\r\n");
  }),

  // Statuses
  ...[400, 413, 422].map((code) =>
    final(
      `status ${code}`,
      code === 413 ? 413 : 400,
      "upstream_rejected",
      status(code, problem, json),
    )
  ),
  ...[401, 403, 404].map((code) =>
    final(`status ${code}`, 502, "upstream_error", status(code, problem, json))
  ),
  ...[408, 409, 500, 502, 504].map((code) =>
    early(`status ${code}`, 502, "upstream_error", status(code, problem, json))
  ),
  early("status 429 without Retry-After", 429, "rate_limit_exceeded", status(429, problem, json)),
  early(
    "status 429, Retry-After in seconds",
    429,
    "rate_limit_exceeded",
    status(429, problem, { ...json, "retry-after": "1" }),
  ),
  early(
    "status 429, Retry-After as a date",
    429,
    "rate_limit_exceeded",
    status(429, problem, { ...json, "retry-after": new Date(Date.now() + 2000).toUTCString() }),
  ),
  ...[503, 529].map((code) =>
    early(`status ${code}`, 503, "overloaded", status(code, problem, json))
  ),
  early(
    "redirect to another host",
    502,
    invalid,
    status(302, "", { location: "http://127.0.0.1:9/v1/chat/completions" }),
  ),
  early("error body of 50 MiB", 502, "upstream_error", async (line) => {
    await line.write(`HTTP/1.1 500 X\r\ncontent-length: ${big}\r\nconnection: close\r\n\r\n`);
    for (let i = 0; i < 50; i++) await line.write(new Uint8Array(1024 * 1024));
  }),

  // 200 that is none
  early("200 with HTML", 502, invalid, status(200, "<html>", { "content-type": "text/html" })),
  early("200 with an error object", 502, "upstream_error", status(200, problem, json)),
  early("200 with JSON instead of events", 502, invalid, status(200, "{}", json)),
  early("error event at once", 502, "upstream_error", stream(dataOf(JSON.parse(problem)))),

  // Cuts and stalls
  early("cut after the opening", 502, cut, stream(opening!)),
  ...[1, 2].map((count) =>
    late(
      `clean close after ${count} tokens`,
      ["one ", "two"].slice(0, count).join(""),
      cut,
      stream(...begun(...["one ", "two"].slice(0, count))),
    )
  ),
  late("reset after one token", "one ", cut, async (line) => {
    await line.write(streamHead);
    for (const one of begun("one ")) await line.write(part(one));
    await line.write("fff\r\nda");
  }),
  late("stall after one token", "one ", "upstream_timeout", async (line) => {
    await line.write(streamHead);
    for (const one of begun("one ")) await line.write(part(one));
    await line.gone();
  }),
  late("bytes that never make a line", "one ", "upstream_timeout", async (line) => {
    await line.write(streamHead);
    for (const one of begun("one ")) await line.write(part(one));
    const isGone = line.gone().then(() => true, () => true);
    const pause = () => new Promise<boolean>((resolve) => setTimeout(resolve, 50, false));
    while (!await Promise.race([isGone, pause()])) await line.write(part(" "));
  }),
  late(
    "error event after one token",
    "one ",
    "upstream_error",
    stream(...begun("one "), dataOf(JSON.parse(problem))),
  ),
  late("[DONE] before the finish", "one ", cut, stream(...begun("one "), "data: [DONE]\n\n")),

  // Events that are damaged
  late(
    "one malformed event among good ones",
    "one ",
    invalid,
    stream(...begun("one "), 'data: {"choices":\n\n', ...rest),
  ),
  late(
    "malformed in the same read as a good one",
    "one ",
    invalid,
    stream(begun("one ").join("") + "data: nonsense\n\n" + rest.join("")),
  ),
  late(
    "invalid UTF-8",
    "one ",
    invalid,
    stream(...begun("one "), Uint8Array.of(...encoded.encode("data: "), 0xff, 0xfe, 10, 10)),
  ),
  late(
    "invalid UTF-8 in the same read",
    "one ",
    invalid,
    stream(Uint8Array.of(...encoded.encode(begun("one ").join("")), 100, 0xff, 10, 10)),
  ),
  late("an event that is an array", "one ", invalid, stream(...begun("one "), "data: []\n\n")),
  late(
    "choices of a wrong type",
    "one ",
    invalid,
    stream(...begun("one "), 'data: {"choices":7}\n\n'),
  ),
  late(
    "content of a wrong type",
    "one ",
    invalid,
    stream(...begun("one "), dataOf({ choices: [{ index: 0, delta: { content: 7 } }] })),
  ),
  ...[1, -1, 0.5, 1e9, "0", "__proto__"].map((index) =>
    late(`index ${index}`, "one ", invalid, stream(...begun("one "), logged(index)))
  ),
  late(
    "text after the finish",
    "one two",
    invalid,
    stream(...chatStream(["one ", "two"]).slice(0, -1), logged(0, "more")),
  ),
  late(
    "an unknown finish reason",
    "one ",
    invalid,
    stream(...begun("one "), dataOf(chunk(0, {}, "because"))),
  ),
  late(
    "its content filter",
    "one ",
    invalid,
    stream(...begun("one "), dataOf(chunk(0, {}, "content_filter"))),
  ),
  late(
    "a tool call nobody offered",
    "one ",
    invalid,
    stream(
      ...begun("one "),
      dataOf(chunk(0, {
        tool_calls: [{ index: 0, id: "t", function: { name: "f", arguments: '{"a":"\\' } }],
      })),
    ),
  ),
  fine(
    "__proto__ as a key",
    "one two",
    stream(
      'data: {"__proto__":{"error":1},"choices":[{"index":0,"delta":{"content":"one "},"__proto__":{"index":9}}]}\n\n',
      ...rest.slice(1),
    ),
  ),

  // Events that are unusual
  fine("split at every byte", "one two", bytewise(whole)),
  fine("split at every character", "é 日🐕", stream(...split(chatStream(["é ", "日🐕"]).join("")))),
  fine("CRLF", "one two", stream(whole.replaceAll("\n", "\r\n"))),
  fine("CR", "one two", stream(whole.replaceAll("\n", "\r"))),
  fine("byte-order mark", "one two", stream("\uFEFF" + whole)),
  fine(
    "comments and unknown fields",
    "one two",
    stream(
      ": hello\n\nevent: x\nid: 1\nretry: 5\n",
      ...chatStream(["one ", "two"]).map((one) => `: c\n${one}`),
    ),
  ),
  fine(
    "data over several lines",
    "one two",
    stream(
      ...chatStream(["one ", "two"]).map((one) => one.replace(',"choices"', ',\ndata: "choices"')),
    ),
  ),
  fine("no [DONE]", "one two", stream(...chatStream(["one ", "two"]).slice(0, -1))),
  fine("no [DONE] and no close", "one two", async (line) => {
    await line.write(streamHead);
    for (const one of chatStream(["one ", "two"]).slice(0, -1)) await line.write(part(one));
    await line.gone();
  }),
  fine("reset after the finish", "one two", async (line) => {
    await line.write(streamHead);
    for (const one of chatStream(["one ", "two"]).slice(0, -1)) await line.write(part(one));
    await line.write("fff\r\nda");
  }),
  fine(
    "[DONE] inside the content",
    "data: [DONE]\n\n",
    stream(...chatStream(["data: [DONE]\n\n"])),
  ),
  fine(
    "finish twice",
    "one two",
    stream(
      ...chatStream(["one ", "two"]).slice(0, -1),
      dataOf(chunk(0, {}, "stop")),
      "data: [DONE]\n\n",
    ),
  ),
  fine(
    "role in every chunk, ids that change",
    "one two",
    stream(
      ...["one ", "two"].map((content, i) =>
        dataOf({ ...chunk(0, { role: "assistant", content }), id: `c${i}` })
      ),
      dataOf(chunk(0, {}, "stop")),
      "data: [DONE]\n\n",
    ),
  ),
  fine(
    "usage before the end",
    "one two",
    stream(
      ...begun("one "),
      dataOf({ choices: [], usage: { prompt_tokens: 3, completion_tokens: 1 } }),
      ...rest.slice(1),
    ),
  ),
  fine(
    "usage of wrong types",
    "one two",
    stream(
      ...chatStream(["one ", "two"]).slice(0, -1),
      dataOf({ choices: [], usage: { prompt_tokens: "many", completion_tokens: -5 } }),
      "data: [DONE]\n\n",
    ),
  ),
  fine(
    "text in the finishing chunk",
    "one two",
    stream(
      ...begun("one "),
      dataOf(chunk(0, { content: "two" }, "stop")),
      "data: [DONE]\n\n",
    ),
  ),
  fine(
    "null choices, null delta",
    "one two",
    stream(
      dataOf({ choices: null }),
      dataOf({ choices: [{ index: 0, delta: null }] }),
      ...rest.slice(0),
    ),
  ),

  // Too much
  {
    ...late(
      "an event of 50 MiB",
      "one ",
      invalid,
      flood(begun("one ").join("") + "data: ", new Uint8Array(64 * 1024).fill(97), big),
    ),
    bytes: 16 * 1024 * 1024,
  },
  {
    ...late(
      "lines without end",
      "one ",
      invalid,
      flood(begun("one ").join("") + ": ", new Uint8Array(64 * 1024).fill(32), big),
    ),
    bytes: 16 * 1024 * 1024,
  },
  {
    ...early("a compression bomb, which nobody unpacks", 502, cut, async (line) => {
      await line.write(
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-encoding: gzip\r\n" +
          `content-length: ${bomb.length}\r\nconnection: close\r\n\r\n`,
      );
      await line.write(bomb);
    }),
    bytes: 1024 * 1024,
  },
];

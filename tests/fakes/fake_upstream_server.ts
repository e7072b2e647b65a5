/**
 * A server that misbehaves on purpose, on a real socket of 127.0.0.1: what it does is chosen by the
 * model's name. It writes HTTP by hand, since a well-behaved library would not let it break the rules.
 */
import { chatStream, chunk, dataOf } from "./fake_upstream.ts";

const encoder = new TextEncoder();

/** What a fault may do with its connection. */
export interface Line {
  /** Writes bytes as they are. @throws if the other side is gone */
  write(data: string | Uint8Array): Promise<void>;
  /** Waits until the other side is gone. */
  gone(): Promise<void>;
}

/** One way to misbehave. The connection is closed when it returns. */
export type Fault = (line: Line) => Promise<void>;

/** Head of an event stream. */
export const streamHead = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n" +
  "connection: close\r\ntransfer-encoding: chunked\r\n\r\n";

/** One part of a chunked body. */
export function part(data: string | Uint8Array): Uint8Array {
  const body = typeof data === "string" ? encoder.encode(data) : data;
  const head = encoder.encode(`${body.length.toString(16)}\r\n`);
  const all = new Uint8Array(head.length + body.length + 2);
  all.set(head);
  all.set(body, head.length);
  all.set([13, 10], head.length + body.length);
  return all;
}

/** The end of a chunked body. */
export const lastPart = "0\r\n\r\n";

/** Writes a whole event stream. */
export function stream(...parts: readonly (string | Uint8Array)[]): Fault {
  return async (line) => {
    await line.write(streamHead);
    for (const one of parts) await line.write(part(one));
    await line.write(lastPart);
  };
}

/** Answers with a status and a body. */
export function status(
  code: number,
  body: string,
  headers: Readonly<Record<string, string>> = {},
): Fault {
  const extra = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`).join("");
  const { length } = encoder.encode(body);
  return (line) =>
    line.write(
      `HTTP/1.1 ${code} X\r\ncontent-length: ${length}\r\nconnection: close\r\n${extra}\r\n${body}`,
    );
}

/** Text events without an end. */
export function begun(...words: readonly string[]): string[] {
  return chatStream(words).slice(0, 1 + words.length);
}

export { chatStream, chunk, dataOf };

/** A running server. */
export interface FakeServer extends AsyncDisposable {
  /** Base address. */
  readonly url: string;
  /** Connections that are open. */
  readonly open: number;
  /** Requests for generations, per model. */
  readonly asked: ReadonlyMap<string, number>;
  /** Bytes taken by the other side, per model. */
  readonly taken: ReadonlyMap<string, number>;
  /** Bearer tokens that came. */
  readonly keys: ReadonlySet<string>;
  /** Resolves when no connection is open. */
  idle(): Promise<void>;
}

/** Starts a server. Models without a fault answer "fallback works". */
export function serveFaults(faults: ReadonlyMap<string, Fault>): FakeServer {
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const open = new Set<Deno.Conn>();
  const asked = new Map<string, number>();
  const taken = new Map<string, number>();
  const keys = new Set<string>();
  let waiting: (() => void)[] = [];
  const served = (async () => {
    for await (const connection of listener) void answer(connection);
  })();

  async function answer(connection: Deno.Conn): Promise<void> {
    open.add(connection);
    try {
      const request = await readRequest(connection);
      if (!request) return;
      if (request.key) keys.add(request.key);
      const model = request.body?.model ?? "";
      const isGeneration = request.body?.stream === true;
      if (isGeneration) asked.set(model, (asked.get(model) ?? 0) + 1);
      const fault = isGeneration
        ? faults.get(model) ?? stream(...chatStream(["fallback works"]))
        : listing;
      await fault(lineOf(connection, (bytes) => taken.set(model, (taken.get(model) ?? 0) + bytes)));
    } catch {
      // The other side left, which many faults are there to make it do.
    } finally {
      open.delete(connection);
      try {
        connection.close();
      } catch { /* closed already */ }
      if (open.size === 0) {
        for (const wake of waiting) wake();
        waiting = [];
      }
    }
  }

  return {
    url: `http://127.0.0.1:${listener.addr.port}/v1`,
    asked,
    taken,
    keys,
    get open() {
      return open.size;
    },
    idle: () =>
      open.size === 0 ? Promise.resolve() : new Promise((resolve) => waiting.push(resolve)),
    async [Symbol.asyncDispose]() {
      listener.close();
      for (const connection of open) connection.close();
      await served;
    },
  };
}

const listing: Fault = status(200, JSON.stringify({ object: "list", data: [] }), {
  "content-type": "application/json",
});

interface FaultRequest {
  readonly key: string | undefined;
  // deno-lint-ignore no-explicit-any -- JSON, to look around in
  readonly body: any;
}

async function readRequest(connection: Deno.Conn): Promise<FaultRequest | undefined> {
  const decoder = new TextDecoder();
  const buffer = new Uint8Array(64 * 1024);
  let text = "";
  for (;;) {
    const end = text.indexOf("\r\n\r\n");
    if (end >= 0) {
      const head = text.slice(0, end);
      const length = Number(/content-length: (\d+)/i.exec(head)?.[1] ?? 0);
      if (text.length >= end + 4 + length) {
        const body = text.slice(end + 4);
        return {
          key: /authorization: Bearer (\S+)/i.exec(head)?.[1],
          body: body === "" ? undefined : JSON.parse(body),
        };
      }
    }
    const count = await connection.read(buffer);
    if (count === null) return undefined;
    text += decoder.decode(buffer.subarray(0, count), { stream: true });
  }
}

function lineOf(connection: Deno.Conn, took: (bytes: number) => void): Line {
  return {
    async write(data) {
      let bytes = typeof data === "string" ? encoder.encode(data) : data;
      while (bytes.length > 0) {
        const count = await connection.write(bytes);
        took(count);
        bytes = bytes.subarray(count);
      }
    },
    async gone() {
      const buffer = new Uint8Array(1024);
      while (await connection.read(buffer) !== null) { /* nobody speaks twice */ }
    },
  };
}

/**
 * A small HTTP/1.1 client on one kept-alive connection. `fetch` would cost more than what is
 * measured.
 */

/** One connection. */
export interface Connection extends Disposable {
  /** Sends a request and resolves with status and body. */
  request(method: string, path: string, body?: string): Promise<{ status: number; body: string }>;
  /** Sends a request and calls `onEvent` for each server-sent event as it arrives. */
  stream(path: string, body: string, onEvent: (data: string) => void): Promise<void>;
}

const encoder = new TextEncoder();
const decoder = new TextDecoder();

/**
 * Opens a connection to a server on this machine.
 *
 * @param headers sent with every request
 */
export async function connect(
  port: number,
  headers: Readonly<Record<string, string>> = {},
): Promise<Connection> {
  const extra = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`).join("");
  const socket = await Deno.connect({ hostname: "127.0.0.1", port });
  socket.setNoDelay(true);
  const buffer = new Uint8Array(65536);
  let text = "";

  async function more(): Promise<void> {
    const length = await socket.read(buffer);
    if (length === null) throw new Error("The server closed the connection");
    text += decoder.decode(buffer.subarray(0, length)); // bodies here are ASCII
  }

  async function take(end: string): Promise<string> {
    let at = text.indexOf(end);
    for (; at < 0; at = text.indexOf(end)) await more();
    const part = text.slice(0, at);
    text = text.slice(at + end.length);
    return part;
  }

  async function takeLength(length: number): Promise<string> {
    while (text.length < length) await more();
    const part = text.slice(0, length);
    text = text.slice(length);
    return part;
  }

  async function send(method: string, path: string, body: string): Promise<string> {
    const head = `${method} ${path} HTTP/1.1\r\nHost: 127.0.0.1\r\n${extra}` +
      (body ? `Content-Type: application/json\r\nContent-Length: ${body.length}\r\n` : "");
    const bytes = encoder.encode(`${head}\r\n${body}`);
    for (let sent = 0; sent < bytes.length;) sent += await socket.write(bytes.subarray(sent));
    return (await take("\r\n\r\n")).toLowerCase();
  }

  async function* chunks(): AsyncGenerator<string> {
    while (true) {
      const length = parseInt(await take("\r\n"), 16);
      const chunk = await takeLength(length);
      await take("\r\n");
      if (length === 0) return;
      yield chunk;
    }
  }

  return {
    async request(method, path, body = "") {
      const head = await send(method, path, body);
      const length = /content-length: (\d+)/.exec(head)?.[1];
      let answer = "";
      if (length !== undefined) answer = await takeLength(Number(length));
      else for await (const chunk of chunks()) answer += chunk;
      return { status: Number(head.slice(9, 12)), body: answer };
    },
    async stream(path, body, onEvent) {
      const head = await send("POST", path, body);
      if (!head.startsWith("http/1.1 200")) throw new Error(`The server answered ${head}`);
      let rest = "";
      for await (const chunk of chunks()) {
        rest += chunk;
        for (let at = rest.indexOf("\n\n"); at >= 0; at = rest.indexOf("\n\n")) {
          if (rest.startsWith("data: ")) onEvent(rest.slice(6, at));
          rest = rest.slice(at + 2);
        }
      }
    },
    [Symbol.dispose]: () => socket.close(),
  };
}

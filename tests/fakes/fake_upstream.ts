/** A scripted OpenAI-compatible server, called in process: no port, no time of its own. */
import type { UpstreamHost } from "../../runtime/mod.ts";

/** What a server is asked. */
export interface UpstreamRequest {
  /** Below the base address, e.g. "/chat/completions". */
  readonly path: string;
  readonly origin: string;
  readonly headers: Headers;
  // deno-lint-ignore no-explicit-any -- JSON, to look around in
  readonly body: any;
  readonly signal: AbortSignal;
}

/** Answers a request; undefined = with what the fake answers by itself. */
export type Script = (
  request: UpstreamRequest,
) => Response | undefined | Promise<Response | undefined>;

/** A fake and what it saw. */
export interface FakeUpstream {
  readonly fetch: UpstreamHost["fetch"];
  /** Generations asked for, probes not counted. */
  readonly calls: UpstreamRequest[];
  /** Answers that somebody may still read. */
  readonly open: number;
}

/** How a fake answers by itself. */
export interface FakeUpstreamOptions {
  readonly script?: Script;
  /** Pieces of the answer to a request, by choice. @default "w0 w1 ..." of the last message */
  readonly pieces?: (request: UpstreamRequest, choice: number) => readonly string[];
  readonly n?: boolean;
  readonly logprobs?: boolean;
  readonly ownedBy?: string;
}

const encoder = new TextEncoder();

/** A server that answers chats. */
export function fakeUpstream(options: FakeUpstreamOptions = {}): FakeUpstream {
  const calls: UpstreamRequest[] = [];
  let open = 0;
  const follow = (response: Response, signal: AbortSignal): Response => {
    if (!response.body) return response;
    open++;
    const body = followed(response.body, signal, () => open--);
    return new Response(body, { status: response.status, headers: response.headers });
  };
  return {
    calls,
    get open() {
      return open;
    },
    async fetch(url, init) {
      const { origin, pathname } = new URL(url);
      const text = typeof init.body === "string" ? init.body : undefined;
      const request: UpstreamRequest = {
        path: pathname.replace(/^\/v1/, ""),
        origin,
        headers: new Headers(init.headers),
        body: text === undefined ? undefined : JSON.parse(text),
        signal: init.signal ?? new AbortController().signal,
      };
      const isGeneration = request.body?.stream === true;
      if (isGeneration) calls.push(request);
      const response = await options.script?.(request) ?? answer(request, options);
      return isGeneration ? follow(response, request.signal) : response;
    },
  };
}

/** The body, ended by the signal as a socket would be; tells when it is over. */
function followed(
  body: ReadableStream<Uint8Array>,
  signal: AbortSignal,
  over: () => void,
): ReadableStream<Uint8Array> {
  const reader = body.getReader();
  let isOver = false;
  const end = () => {
    if (!isOver) over();
    isOver = true;
  };
  return new ReadableStream<Uint8Array>({
    start(controller) {
      signal.addEventListener("abort", () => {
        if (isOver) return;
        end();
        reader.cancel().catch(() => {});
        controller.error(signal.reason);
      }, { once: true });
    },
    async pull(controller) {
      try {
        const { done, value } = await reader.read();
        if (isOver) return;
        if (!done) return controller.enqueue(value);
        end();
        controller.close();
      } catch (error) {
        if (isOver) return;
        end();
        controller.error(error);
      }
    },
    cancel() {
      end();
      return reader.cancel();
    },
  }, { highWaterMark: 0 });
}

function answer(request: UpstreamRequest, options: FakeUpstreamOptions): Response {
  const { path, body } = request;
  if (path === "/models") {
    const data = [{ id: "m", object: "model", created: 1, owned_by: options.ownedBy ?? "tests" }];
    return Response.json({ object: "list", data });
  }
  if (path !== "/chat/completions") return problem(404, "not_found");
  if (body.n > 1 && options.n === false) {
    // As Ollama does: the field is not an error, it is not there.
    body.n = 1;
  }
  const n: number = body.n ?? 1;
  const pieces = Array.from(
    { length: n },
    (_, i) => (options.pieces ?? defaultPieces)(request, i).slice(0, body.max_tokens),
  );
  const isShort = (i: number) =>
    pieces[i]!.length < (options.pieces ?? defaultPieces)(request, i).length;
  const logprobsOf = (words: readonly string[]) =>
    body.logprobs && options.logprobs !== false ? chatLogprobs(words, body.top_logprobs) : null;
  if (!body.stream) {
    return Response.json({
      ...head,
      object: "chat.completion",
      choices: pieces.map((words, index) => ({
        index,
        message: { role: "assistant", content: words.join("") },
        logprobs: logprobsOf(words),
        finish_reason: isShort(index) ? "length" : "stop",
      })),
      usage: usageOf(body, pieces),
    });
  }
  const events: unknown[] = pieces.map((_, index) =>
    chunk(index, { role: "assistant", content: "" })
  );
  for (let at = 0; pieces.some((words) => at < words.length); at++) {
    pieces.forEach((words, index) => {
      if (at >= words.length) return;
      events.push(chunk(index, { content: words[at] }, null, logprobsOf([words[at]!])));
    });
  }
  pieces.forEach((_, index) => events.push(chunk(index, {}, isShort(index) ? "length" : "stop")));
  events.push({ ...head, choices: [], usage: usageOf(body, pieces) });
  return sse([...events.map(dataOf), "data: [DONE]\n\n"]);
}

const head = { id: "chatcmpl-1", object: "chat.completion.chunk", created: 1, model: "m" };

function defaultPieces({ body }: UpstreamRequest, choice: number): string[] {
  const text = String(body.messages.at(-1).content);
  return text.split(/(?<= )/).map((word) => choice === 0 ? word : word.toUpperCase());
}

function usageOf(body: UpstreamRequest["body"], pieces: readonly (readonly string[])[]) {
  const completion = pieces.reduce((sum, words) => sum + words.length, 0);
  return {
    prompt_tokens: body.messages.length * 3,
    completion_tokens: completion,
    total_tokens: completion + body.messages.length * 3,
  };
}

function chatLogprobs(words: readonly string[], top = 0) {
  return {
    content: words.map((token, i) => ({
      token,
      logprob: -0.25 * (i + 1),
      bytes: [...encoder.encode(token)],
      top_logprobs: [{ token, logprob: -0.25, bytes: null }].slice(0, top),
    })),
  };
}

/** One chat chunk. */
export function chunk(
  index: number,
  delta: Readonly<Record<string, unknown>>,
  finish: string | null = null,
  logprobs: unknown = null,
) {
  return { ...head, choices: [{ index, delta, logprobs, finish_reason: finish }] };
}

/** One event as text. */
export function dataOf(value: unknown): string {
  return `data: ${JSON.stringify(value)}\n\n`;
}

/** Chunks of a whole answer, with its end. */
export function chatStream(words: readonly string[], finish = "stop"): string[] {
  return [
    dataOf(chunk(0, { role: "assistant", content: "" })),
    ...words.map((content) => dataOf(chunk(0, { content }))),
    dataOf(chunk(0, {}, finish)),
    "data: [DONE]\n\n",
  ];
}

/** Parts that are not text: an end without a close, and a failure. */
export type StreamPart = string | Uint8Array | "stall" | Error;

/** Never goes on from here. */
export const stall = "stall";

/** An event stream, one part per read. */
export function sse(
  parts: readonly StreamPart[],
  headers: Readonly<Record<string, string>> = {},
): Response {
  let at = 0;
  const body = new ReadableStream<Uint8Array>({
    pull(controller) {
      const part = parts[at++];
      if (part === undefined) return controller.close();
      if (part === stall) return new Promise(() => {});
      if (part instanceof Error) return controller.error(part);
      controller.enqueue(typeof part === "string" ? encoder.encode(part) : part);
    },
  }, { highWaterMark: 0 });
  return new Response(body, {
    headers: { "content-type": "text/event-stream; charset=utf-8", ...headers },
  });
}

/** An error answer. */
export function problem(
  status: number,
  code: string,
  headers: Readonly<Record<string, string>> = {},
): Response {
  const error = { message: "secret words of the server", type: "x", param: null, code };
  return Response.json({ error }, { status, headers });
}

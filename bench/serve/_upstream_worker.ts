/** The fake engine that proxies are measured against, on a thread of its own: ready-made events. */
const encoder = new TextEncoder();
const head = { id: "chatcmpl-1", object: "chat.completion.chunk", created: 1, model: "m" };
const chunk = (delta: object, finish: string | null = null) =>
  encoder.encode(
    `data: ${
      JSON.stringify({
        ...head,
        choices: [{ index: 0, delta, logprobs: null, finish_reason: finish }],
      })
    }\n\n`,
  );
const opening = chunk({ role: "assistant", content: "" });
const token = chunk({ content: " word" });
const ending = chunk({}, "stop");
const done = encoder.encode("data: [DONE]\n\n");

/** As many events as `max_tokens` asks for, each a write of its own. */
function answer(tokens: number): Response {
  let at = -1;
  const body = new ReadableStream<Uint8Array>({
    pull(controller) {
      at++;
      if (at === 0) controller.enqueue(opening);
      else if (at <= tokens) controller.enqueue(token);
      else if (at === tokens + 1) controller.enqueue(ending);
      else {
        controller.enqueue(done);
        controller.close();
      }
    },
  }, { highWaterMark: 0 });
  return new Response(body, { headers: { "content-type": "text/event-stream" } });
}

/** The part of a worker's global scope used here; the compiler takes every file for the main thread. */
interface WorkerScope {
  postMessage(port: number): void;
}

const server = Deno.serve(
  { hostname: "127.0.0.1", port: 0, onListen: () => {} },
  async (request) => {
    if (request.method === "GET") return Response.json({ object: "list", data: [] });
    return answer((await request.json()).max_tokens);
  },
);
(self as unknown as WorkerScope).postMessage(server.addr.port);

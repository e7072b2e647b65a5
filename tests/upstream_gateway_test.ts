/** Two gateways over loopback: one computes, the other has it as an upstream. */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { createGateway, type Gateway } from "../mod.ts";
import { type Json, readEvents, streamedTexts } from "./routes/_support.ts";

const model = "decant-tiny-draft";

async function pair(): Promise<AsyncDisposable & { near: Gateway; far: Gateway }> {
  const near = await createGateway({ models: [model] }, { thread: "own" });
  const server = Deno.serve(
    { hostname: "127.0.0.1", port: 0, onListen: () => {} },
    (request) => near.fetch(request),
  );
  const far = await createGateway({
    models: [],
    upstreams: {
      up: {
        model,
        tokenizer: model,
        replicas: [{ url: `http://127.0.0.1:${server.addr.port}/v1` }],
        health: { ["interval_ms"]: 0 },
      },
      chat: {
        model,
        kind: "chat",
        replicas: [{ url: `http://127.0.0.1:${server.addr.port}/v1` }],
        health: { ["interval_ms"]: 0 },
      },
    },
  });
  return {
    near,
    far,
    async [Symbol.asyncDispose]() {
      await far[Symbol.asyncDispose]();
      await server.shutdown();
      await near[Symbol.asyncDispose]();
    },
  };
}

async function post(
  gateway: Gateway,
  body: object,
  strategy?: string,
  signal?: AbortSignal,
): Promise<Response> {
  return await gateway.fetch(
    new Request("http://localhost/v1/chat/completions", {
      method: "POST",
      headers: {
        "content-type": "application/json",
        ...strategy ? { "x-decoding-strategy": strategy } : {},
      },
      body: JSON.stringify({
        messages: [{ role: "user", content: "What is 27 + 58?" }],
        max_tokens: 24,
        ...body,
      }),
      ...signal ? { signal } : {},
    }),
  );
}

async function openSessions(gateway: Gateway): Promise<number> {
  const text = await (await gateway.fetch(new Request("http://localhost/metrics"))).text();
  const line = text.split("\n").find((one) => /sessions_open \d/.test(one)) ?? "";
  return Number(line.slice(line.lastIndexOf(" ") + 1));
}

Deno.test("a gateway over a gateway: same answers, whole and streamed, by tokens and by chat", async () => {
  await using gateways = await pair();
  const { near, far } = gateways;
  const listed: Json = await (await far.fetch(new Request("http://localhost/v1/models"))).json();
  assertEquals(listed.data.map(({ upstream }: Json) => [upstream.engine, upstream.kind]), [
    ["decant", "completions"],
    ["decant", "chat"],
  ]);
  for (const strategy of ["greedy", "sample", "beam;num_beams=3", "best-of-n;num_samples=1"]) {
    const here: Json = await (await post(near, { model, seed: 5, n: 1 }, strategy)).json();
    const there: Json = await (await post(far, { model: "up", seed: 5 }, strategy)).json();
    assertEquals(there.choices, here.choices, strategy);
    assertEquals(there.usage.prompt_tokens, here.usage.prompt_tokens);
  }
  const whole: Json = await (await post(near, { model, seed: 6 })).json();
  for (const id of ["up", "chat"]) {
    const response = await post(far, { model: id, seed: 6, stream: true });
    assertEquals(response.headers.get("x-served-by"), id);
    assertEquals(streamedTexts(await readEvents(response)), [whole.choices[0].message.content]);
  }
});

Deno.test("a gateway over a gateway: awrs judges tokens here, also where the model would have ended", async () => {
  await using gateways = await pair();
  const body = { model: "up", ["structured_outputs"]: { grammar: 'root ::= [0-9]+ "!"' } };
  for (const seed of [1, 2, 3, 4]) {
    const answer: Json = await (await post(gateways.far, { ...body, seed }, "awrs")).json();
    assertEquals(answer.error, undefined);
    const [{ message, finish_reason: reason }] = answer.choices;
    assertMatch(message.content, reason === "stop" ? /^[0-9]+!$/ : /^[0-9]+!?$/);
  }
});

Deno.test("a gateway over a gateway: a client that leaves ends the work behind both", async () => {
  await using gateways = await pair();
  const { near, far } = gateways;
  for (const id of ["up", "chat"]) {
    const response = await post(far, {
      model: id,
      stream: true,
      max_tokens: 900,
      ignore_eos: true,
    });
    const reader = response.body!.getReader();
    await reader.read();
    await reader.cancel();
    // The news travels over a socket: however long it takes, it arrives.
    while (await openSessions(near) > 0) await new Promise((resolve) => setImmediate(resolve));
  }
  assert(await openSessions(near) === 0);
});

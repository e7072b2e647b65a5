// deno-lint-ignore-file camelcase -- names as on the wire
/** A client that leaves frees its place within one step, and nothing is left behind. */
import { assert, assertEquals } from "@std/assert";
import { chatBody, chatModel, metric, readEvents, settle, testGateway } from "./_support.ts";

const path = "/v1/chat/completions";
const running = 'requests_running{model="hash"}';
const cancelled = 'cancelled_total{reason="client"}';
const headers = { "content-type": "application/json" };
const endless = chatBody({ max_tokens: 900, ignore_eos: true });

Deno.test("cancelling a stream stops the model within one step", async () => {
  const model = chatModel();
  const gateway = testGateway({ models: [model] });
  const response = await gateway.post(path, { ...endless, n: 2, stream: true });
  const reader = response.body!.getReader();
  for (let i = 0; i < 5; i++) await reader.read();
  assertEquals(await metric(gateway, running), 1);
  const { steps } = model.stats;
  await reader.cancel();
  assertEquals(model.stats.openSessions, 0);
  assertEquals(model.stats.pendingAsks, 0);
  assertEquals(await metric(gateway, running), 0);
  await settle();
  assert(model.stats.steps <= steps + 1);
  assertEquals(await metric(gateway, cancelled), 1);
  assertEquals(gateway.clock.pending, 0);
});

Deno.test("a client that leaves before the first token stops the model", async () => {
  for (const stream of [false, true]) {
    const model = chatModel();
    const gateway = testGateway({ models: [model] });
    model.pause();
    const client = new AbortController();
    const response = gateway.app.request(path, {
      method: "POST",
      headers,
      body: JSON.stringify({ ...endless, stream }),
      signal: client.signal,
    });
    await settle();
    assertEquals(model.stats.openSessions, 1);
    client.abort();
    assertEquals((await response).status, 499);
    assertEquals(model.stats.openSessions, 0);
    assertEquals(await metric(gateway, running), 0);
    assertEquals(await metric(gateway, cancelled), 1);
    assertEquals(gateway.clock.pending, 0);
  }
});

Deno.test("an abort after a good answer is no cancellation", async () => {
  const gateway = testGateway();
  for (const stream of [false, true]) {
    const client = new AbortController();
    const response = await gateway.app.request(path, {
      method: "POST",
      headers,
      body: JSON.stringify(chatBody({ stream })),
      signal: client.signal,
    });
    await response.text();
    client.abort();
    await settle();
  }
  assertEquals(await metric(gateway, cancelled), 0);
});

Deno.test("once a stream has begun, its reader tells of a client that left, not the signal", async () => {
  const gateway = testGateway();
  const client = new AbortController();
  const response = await gateway.app.request(path, {
    method: "POST",
    headers,
    body: JSON.stringify(chatBody({ stream: true })),
    signal: client.signal,
  });
  client.abort(); // the server does so as well when everything was sent
  const events = await readEvents(response);
  assert(events.at(-1).choices[0].finish_reason);
  assertEquals(await metric(gateway, cancelled), 0);
});

Deno.test("a batch of prompts is cancelled as one", async () => {
  const model = chatModel();
  const gateway = testGateway({ models: [model] });
  const body = { model: "hash", prompt: ["a", "b", "c"], max_tokens: 900, ignore_eos: true };
  const response = await gateway.post("/v1/completions", { ...body, stream: true });
  const reader = response.body!.getReader();
  for (let i = 0; i < 5; i++) await reader.read();
  assertEquals(model.stats.openSessions, 3);
  await reader.cancel();
  assertEquals(model.stats.openSessions, 0);
  const failing = chatModel({ failAtStep: 3 });
  const refused = await testGateway({ models: [failing] }).post("/v1/completions", body);
  assertEquals(refused.status, 500);
  assertEquals(failing.stats.openSessions, 0);
});

Deno.test("a full model answers 429 with Retry-After, and takes the next one when there is room", async () => {
  const model = chatModel();
  const gateway = testGateway({
    models: [model],
    limits: { requestsPerModel: 2, queuedPerModel: 0 },
  });
  model.pause();
  const waiting = [gateway.post(path, chatBody()), gateway.post(path, chatBody())];
  await settle();
  for (const stream of [false, true]) {
    const refused = await gateway.post(path, chatBody({ stream }));
    const { error } = await refused.json();
    assertEquals([refused.status, error.type, error.code], [429, "rate_limit_error", "queue_full"]);
    assertEquals(refused.headers.get("retry-after"), "1");
  }
  model.resume();
  for (const response of await Promise.all(waiting)) assertEquals(response.status, 200);
  assertEquals((await gateway.post(path, chatBody())).status, 200);
});

Deno.test("1,000 streams that are cut off in process leave nothing running", async () => {
  const model = chatModel();
  const gateway = testGateway({ models: [model] });
  for (let i = 0; i < 1000; i++) {
    const response = await gateway.post(path, { ...endless, stream: true });
    const reader = response.body!.getReader();
    for (let read = 0; read < i % 4; read++) await reader.read();
    await reader.cancel();
  }
  assertEquals(await metric(gateway, running), 0);
  assertEquals(await metric(gateway, cancelled), 1000);
  assertEquals(model.stats.openSessions, 0);
  assertEquals(model.stats.pendingAsks, 0);
  assertEquals(gateway.clock.pending, 0);
});

/** Serves a gateway on a port, and tells of requests that ended because their client left. */
function serve(model: ReturnType<typeof chatModel>) {
  let left = 0;
  let awaited = { count: Infinity, resolve: () => {} };
  const gateway = testGateway({
    models: [model],
    allowedHosts: ["127.0.0.1", "localhost"],
    log: ({ event, outcome, status }) => {
      const isOver = event === "stream_end" && outcome === "client_closed_request";
      if ((isOver || status === 499) && ++left >= awaited.count) awaited.resolve();
    },
  });
  const server = Deno.serve(
    { hostname: "127.0.0.1", port: 0, onListen: () => {} },
    (request) => gateway.app.fetch(request),
  );
  return {
    gateway,
    url: `http://127.0.0.1:${server.addr.port}${path}`,
    /** Resolves when so many clients have left. */
    gone: (count: number) =>
      new Promise<void>((resolve) => {
        if (left >= count) resolve();
        else awaited = { count, resolve };
      }),
    [Symbol.asyncDispose]: () => server[Symbol.asyncDispose](),
  };
}

Deno.test("a connection that closes while the model is silent ends the request", async () => {
  const model = chatModel();
  await using served = serve(model);
  const { gateway, url } = served;
  for (const [round, stream] of [false, true].entries()) {
    model.pause();
    const client = new AbortController();
    const body = JSON.stringify({ ...endless, stream });
    const response = fetch(url, { method: "POST", headers, body, signal: client.signal });
    response.catch(() => {});
    while (model.stats.pendingAsks === 0) await settle(1);
    gateway.clock.advance(1000); // a stream's headers leave, its first token does not
    if (stream) await response;
    client.abort();
    await served.gone(round + 1);
    assertEquals(await metric(gateway, running), 0);
    assertEquals(model.stats.openSessions, 0);
    model.resume();
  }
});

Deno.test("1,000 connections that are cut off leave nothing running", async () => {
  const model = chatModel();
  await using served = serve(model);
  const { gateway, url } = served;
  const cutOff = async (i: number) => {
    const client = new AbortController();
    const response = await fetch(url, {
      method: "POST",
      headers,
      body: JSON.stringify({ ...endless, stream: true }),
      signal: client.signal,
    });
    const reader = response.body!.getReader();
    for (let read = 0; read < i % 3; read++) await reader.read();
    client.abort();
    await reader.cancel().catch(() => {});
  };
  for (let round = 0; round < 50; round++) {
    await Promise.all(Array.from({ length: 20 }, (_, i) => cutOff(i)));
  }
  await served.gone(1000);
  assertEquals(await metric(gateway, running), 0);
  assertEquals(await metric(gateway, cancelled), 1000);
  assertEquals(model.stats.openSessions, 0);
  assertEquals(model.stats.pendingAsks, 0);
});

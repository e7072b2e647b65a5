import { assert, assertEquals } from "@std/assert";
import { chatChunkSchema } from "../../routes/schema/responses.ts";
import {
  chatBody,
  chatModel,
  type Json,
  metric,
  readEvents,
  scriptModel,
  settle,
  streamedTexts,
  testGateway,
} from "./_support.ts";

const path = "/v1/chat/completions";

Deno.test("a stream has the headers and the order of the contract", async () => {
  const gateway = testGateway();
  const body = chatBody({ stream: true, n: 3, stream_options: { include_usage: true } });
  const response = await gateway.post(path, body, { "x-request-id": "my-id.1" });
  assertEquals(response.headers.get("content-type"), "text/event-stream; charset=utf-8");
  assertEquals(response.headers.get("cache-control"), "no-cache, no-transform");
  assertEquals(response.headers.get("x-accel-buffering"), "no");
  assertEquals(response.headers.get("content-length"), null);
  assertEquals(response.headers.get("x-request-id"), "my-id.1");
  const events = await readEvents(response);
  events.forEach((event) => chatChunkSchema.parse(event));
  assertEquals(
    new Set(events.map(({ id, created, model }) => `${id} ${created} ${model}`)).size,
    1,
  );
  const openings = events.slice(0, 3).map(({ choices: [choice] }) => [choice.index, choice.delta]);
  assertEquals(openings, [0, 1, 2].map((i) => [i, { role: "assistant", content: "" }]));
  const deltas = events.slice(3, -1).map(({ choices: [choice] }) => choice);
  assert(deltas.every(({ delta }) => !("role" in delta)));
  const finishes = deltas.filter(({ finish_reason }) => finish_reason !== null);
  assertEquals(finishes.map(({ index }) => index).sort(), [0, 1, 2]);
  assert(finishes.every(({ delta }) => Object.keys(delta).length === 0));
  for (const { index } of finishes) {
    assertEquals(deltas.findLast((delta) => delta.index === index).finish_reason !== null, true);
  }
  assertEquals(events.slice(0, -1).every(({ usage }) => usage === null), true);
  const last = events.at(-1)!;
  assertEquals(last.choices, []);
  assertEquals(last.usage.prompt_tokens, 9);
});

Deno.test("without include_usage no chunk has a usage member", async () => {
  const events = await readEvents(await testGateway().post(path, chatBody({ stream: true })));
  assertEquals(events.some((event) => "usage" in event), false);
});

Deno.test("a trace rides in the last chunk: the finish, or the usage", async () => {
  const decoding = { strategy: "beam", trace: "steps" };
  const finish = await readEvents(
    await testGateway().post(path, chatBody({ stream: true, decoding })),
  );
  assertEquals(finish.filter((event) => "decoding" in event).length, 1);
  assertEquals(finish.at(-1)!.decoding.strategy, "beam");
  assert(finish.at(-1)!.choices[0].finish_reason);
  const usage = await readEvents(
    await testGateway().post(
      path,
      chatBody({ stream: true, decoding, stream_options: { include_usage: true } }),
    ),
  );
  assertEquals(usage.filter((event) => "decoding" in event).length, 1);
  assertEquals(usage.at(-1)!.choices, []);
  assert(usage.at(-1)!.decoding.steps.length > 0);
});

Deno.test("with a trace every choice still gets its finish, and the last one carries it", async () => {
  const body = chatBody({ stream: true, n: 3, decoding: { trace: "summary" } });
  const events = await readEvents(await testGateway().post(path, body));
  const finishes = events.flatMap(({ choices }) => choices).filter((one) => one.finish_reason);
  assertEquals(finishes.map(({ index }) => index).sort(), [0, 1, 2]);
  assertEquals(events.map((event) => "decoding" in event).indexOf(true), events.length - 1);
});

Deno.test("characters of several bytes arrive whole", async () => {
  const text = "é🐕日本\u0000\u2028x";
  const gateway = testGateway({ models: [scriptModel(new TextEncoder().encode(text))] });
  const body = chatBody({ model: "script", stream: true, max_tokens: 40 });
  const events = await readEvents(await gateway.post(path, body));
  assertEquals(streamedTexts(events), [text]);
  for (const event of events) {
    const piece = event.choices[0].delta.content ?? "";
    assert(piece.isWellFormed() && !piece.includes("\ufffd"));
  }
});

Deno.test("obfuscation pads every event to a multiple of 64 characters", async () => {
  const body = chatBody({ stream: true, stream_options: { include_obfuscation: true } });
  const response = await testGateway().post(path, body);
  const lines = (await response.text()).split("\n\n").filter((line) => line.startsWith("data: {"));
  assert(lines.length > 5);
  for (const line of lines) assertEquals((line.length - "data: ".length) % 64, 0);
});

Deno.test("a failing step becomes an error event and [DONE], without a finish reason", async () => {
  const gateway = testGateway({ models: [chatModel({ failAtStep: 4 })] });
  const events = await readEvents(await gateway.post(path, chatBody({ stream: true })));
  const { error } = events.at(-1)!;
  assertEquals([error.type, error.code, error.param], ["server_error", "engine_error", null]);
  assertEquals(streamedTexts(events.slice(0, -1))[0]!.length > 0, true);
  assertEquals(events.slice(0, -1).some(({ choices }) => choices[0].finish_reason !== null), false);
  assertEquals(await metric(gateway, 'requests_running{model="hash"}'), 0);
  const failure = gateway.log.find((event) => event.event === "failure")!;
  assertEquals(failure["code"], "engine_error");
});

Deno.test("what fails before the first token has its own status, also with stream: true", async () => {
  for (const stream of [true, false]) {
    const gateway = testGateway({ models: [chatModel({ failAtStep: 1 })] });
    const response = await gateway.post(path, chatBody({ stream }));
    assertEquals(response.status, 500);
    assertEquals((await response.json()).error.code, "engine_error");
    const tooLong = await gateway.post(path, chatBody({ stream, max_tokens: 5000 }));
    assertEquals(tooLong.status, 400);
    assertEquals(await metric(gateway, 'requests_running{model="hash"}'), 0);
  }
});

Deno.test("keep-alive comments: the first after a second of silence, then every ten", async () => {
  const model = chatModel();
  const gateway = testGateway({ models: [model] });
  model.pause();
  const promise = gateway.post(path, chatBody({ stream: true }));
  await settle();
  gateway.clock.advance(1000); // headers leave without waiting any longer
  const response = await promise;
  const reader = response.body!.pipeThrough(new TextDecoderStream()).getReader();
  const comments: number[] = [];
  let rest = "";
  const reading = (async () => {
    for (let next = await reader.read(); !next.done; next = await reader.read()) {
      if (next.value === ": keep-alive\n\n") comments.push(gateway.clock.monotonicMs());
      else rest += next.value;
    }
  })();
  await settle();
  for (let second = 0; second < 32; second++) {
    gateway.clock.advance(1000);
    await settle(3);
  }
  // The opening chunk breaks the silence of the first second.
  assertEquals(comments, [2000, 12000, 22000, 32000]);
  // One token, and the next silence counts anew.
  const before = rest.length;
  model.resume();
  while (rest.length === before) await settle(1);
  model.pause();
  await settle();
  gateway.clock.advance(1000);
  await settle();
  assertEquals(comments.slice(4), [34000]);
  model.resume();
  await reading;
  assert(rest.startsWith('data: {"id"') && rest.endsWith("data: [DONE]\n\n"));
  assertEquals(gateway.clock.pending, 0);
});

Deno.test("generation waits for a reader that does not read, and ends with one that stalls", async () => {
  const model = chatModel({ stopBias: -Infinity });
  const gateway = testGateway({ models: [model] });
  const response = await gateway.post(path, chatBody({ stream: true, max_tokens: 900 }));
  await settle(200);
  const { steps } = model.stats;
  assert(steps < 30, `${steps} steps although nobody reads`);
  await settle(200);
  assertEquals(model.stats.steps, steps);
  gateway.clock.advance(62_000);
  await settle();
  assertEquals(model.stats.openSessions, 0);
  assertEquals(await metric(gateway, 'cancelled_total{reason="stalled_reader"}'), 1);
  assertEquals(await metric(gateway, 'requests_running{model="hash"}'), 0);
  await response.body!.cancel().catch(() => {});
});

Deno.test("a deadline ends the answer with 504, a stream with an error event", async () => {
  const model = chatModel({ stopBias: -Infinity });
  const gateway = testGateway({ models: [model] });
  const header = { "x-request-timeout-ms": "2500" };
  const whole = gateway.post(path, chatBody({ max_tokens: 900 }), header);
  await settle(3);
  gateway.clock.advance(2500);
  const response = await whole;
  assertEquals([response.status, (await response.json()).error.code], [504, "deadline_exceeded"]);

  const stream = await gateway.post(path, chatBody({ stream: true, max_tokens: 900 }), header);
  await settle(3);
  gateway.clock.advance(2500);
  const events: Json[] = await readEvents(stream);
  assertEquals(events.at(-1).error.code, "deadline_exceeded");
  assertEquals(model.stats.openSessions, 0);
  assertEquals(await metric(gateway, 'cancelled_total{reason="deadline"}'), 2);
  for (const bad of ["0", "-1", "1.5", "soon", ""]) {
    const refused = await gateway.post(path, chatBody(), { "x-request-timeout-ms": bad });
    const { error } = await refused.json();
    assertEquals([refused.status, error.param], [400, "X-Request-Timeout-Ms"]);
  }
});

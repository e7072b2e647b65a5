// deno-lint-ignore-file camelcase -- names as in the configuration
import { assert, assertEquals, assertRejects } from "@std/assert";
import { UpstreamError } from "../../../runtime/mod.ts";
import {
  chatStream,
  chunk,
  dataOf,
  fakeUpstream,
  problem,
  type Script,
  sse,
  stall,
} from "../../fakes/fake_upstream.ts";
import {
  answerOf,
  openUpstream,
  scopeOf,
  settle,
  testHost,
  type UpstreamInput,
} from "./_support.ts";

const two = { replicas: [{ url: "http://a.test/v1" }, { url: "http://b.test/v1" }] };

function setUp(script: Script, input: Partial<UpstreamInput> = {}) {
  const fake = fakeUpstream({ script });
  const host = testHost(fake.fetch);
  const upstream = openUpstream(host, { affinity: false, ...input });
  return { fake, host, upstream, model: upstream.model };
}

/** The origins of all generations, in order: "a", "b". */
const placesOf = ({ calls }: ReturnType<typeof fakeUpstream>) =>
  calls.map(({ origin }) => new URL(origin).hostname[0]);

const failsAt = (place: string, make: () => Response): Script => ({ origin, body }) =>
  body?.stream && origin.includes(`//${place}.`) ? make() : undefined;

Deno.test("a failure before the first token is retried at another replica, at once", async () => {
  for (const status of [408, 409, 429, 500, 502, 503, 504, 529]) {
    const { fake, model } = setUp(failsAt("a", () => problem(status, "x")), two);
    const scope = scopeOf();
    assertEquals((await answerOf(model, "one two", { scope })).text, "one two");
    assertEquals(placesOf(fake), ["a", "b"], `${status}`);
    assertEquals([scope.calls, fake.open], [{ attempts: 2, fallbacks: 0 }, 0]);
  }
});

Deno.test("a request that is wrong is not retried, and stays the client's mistake", async () => {
  for (const status of [400, 413, 422]) {
    const { fake, model } = setUp(() => problem(status, "x"), two);
    const error = await assertRejects(() => answerOf(model, "hi"), UpstreamError);
    assertEquals([error.kind, error.status, fake.calls.length], ["rejected", status, 1]);
    assert(!error.message.includes("secret"), error.message);
  }
});

Deno.test("opening events are held: a stream that breaks before its first text is retried", async () => {
  const opening = dataOf(chunk(0, { role: "assistant", content: "" }));
  for (const parts of [[opening], [opening, new TypeError("reset")], [opening, "data: {\n\n"]]) {
    const { fake, model } = setUp(failsAt("a", () => sse(parts)), two);
    assertEquals((await answerOf(model, "one")).text, "one");
    assertEquals([placesOf(fake), fake.open], [["a", "b"], 0]);
  }
});

Deno.test("after the first text a failure is final, and nothing is said twice", async () => {
  const first = chatStream(["one "]).slice(0, 2);
  for (
    const [parts, kind] of [
      [first, "truncated"],
      [[...first, new TypeError("reset")], "truncated"],
      [[...first, "data: {\n\n"], "invalid"],
      [[...first, dataOf({ error: { message: "x", code: 500 } })], "failed"],
      [[...first, "data: [DONE]\n\n"], "truncated"],
    ] as const
  ) {
    const { fake, model } = setUp(failsAt("a", () => sse(parts)), two);
    const error = await assertRejects(() => answerOf(model, "one"), UpstreamError);
    assertEquals([error.kind, placesOf(fake), fake.open], [kind, ["a"], 0]);
  }
});

Deno.test("a replica of a higher priority number stands in only when the others failed", async () => {
  const replicas = [
    { url: "http://a.test/v1" },
    { url: "http://b.test/v1", priority: 1, model: "other" },
  ];
  const { fake, model } = setUp(failsAt("a", () => problem(500, "x")), { replicas });
  const scope = scopeOf();
  await answerOf(model, "one", { scope });
  assertEquals(fake.calls.map(({ body }) => body.model), ["m", "other"]);
  assertEquals(scope.calls, { attempts: 2, fallbacks: 1 });
  const well = setUp(() => undefined, { replicas });
  for (let i = 0; i < 4; i++) await answerOf(well.model, "one");
  assertEquals(placesOf(well.fake), ["a", "a", "a", "a"]);
});

Deno.test("a single replica is tried again after a jittered pause that doubles", async () => {
  const { fake, host, model } = setUp(() => problem(500, "x"));
  host.chances.push(0, 0.5, 0, 0.5);
  const ended = assertRejects(() => answerOf(model, "one"), UpstreamError, "status 500");
  await settle();
  assertEquals(fake.calls.length, 1);
  host.clock.advance(49);
  await settle();
  assertEquals(fake.calls.length, 1);
  host.clock.advance(1); // half of 100
  await settle();
  assertEquals(fake.calls.length, 2);
  host.clock.advance(100); // half of 200
  await ended;
  assertEquals([fake.calls.length, fake.open, host.clock.pending], [3, 0, 0]);
});

Deno.test("Retry-After is waited for in seconds or as a date, and given up on if it is too long", async () => {
  const date = new Date(1_700_000_002_000).toUTCString();
  for (const text of ["2", date]) {
    let isFirst = true;
    const { fake, host, model } = setUp(() => {
      const response = isFirst ? problem(429, "x", { "retry-after": text }) : undefined;
      isFirst = false;
      return response;
    });
    const answer = answerOf(model, "one");
    await settle();
    host.clock.advance(1999);
    await settle();
    assertEquals(fake.calls.length, 1);
    host.clock.advance(1);
    assertEquals((await answer).text, "one");
  }
  const { fake, model } = setUp(() => problem(503, "x", { "retry-after": "30" }));
  const error = await assertRejects(() => answerOf(model, "one"), UpstreamError);
  assertEquals([error.kind, error.retryAfterMs, fake.calls.length], ["unavailable", 30_000, 1]);
  const again = await assertRejects(() => answerOf(model, "one"), UpstreamError, "pause");
  assertEquals([again.kind, again.retryAfterMs], ["rate_limited", 30_000]);
});

Deno.test("the budget bounds retries of a failing fleet", async () => {
  const { fake, host, model } = setUp(() => problem(500, "x"), {
    ...two,
    retries: { attempts: 2, budget: 0.1 },
    breaker: { failures: 1000 },
  });
  for (let i = 0; i < 100; i++) {
    const ended = assertRejects(() => answerOf(model, "one"), UpstreamError);
    host.clock.advance(10_000);
    await ended;
  }
  const retries = fake.calls.length - 100;
  assert(retries >= 10 && retries <= 13, `${retries} retries`);
});

Deno.test("a circuit opens, says until when, tries one call, and closes again", async () => {
  let isWell = false;
  const { fake, host, model } = setUp(
    ({ body }) => body?.stream && !isWell ? problem(500, "x") : undefined,
    { retries: { attempts: 1 }, breaker: { failures: 2, open_ms: 1000 } },
  );
  for (let i = 0; i < 2; i++) await assertRejects(() => answerOf(model, "a"), UpstreamError, "500");
  const error = await assertRejects(() => answerOf(model, "a"), UpstreamError);
  assertEquals([error.kind, error.retryAfterMs, fake.calls.length], ["circuit_open", 1000, 2]);
  assertEquals(host.events.map(({ event }) => event), ["circuit_open"]);
  host.clock.advance(1000);
  isWell = true;
  assertEquals((await answerOf(model, "a")).text, "a");
  assertEquals((await answerOf(model, "a")).text, "a");
  assertEquals(fake.calls.length, 4);
});

Deno.test("silence: before the first byte, in the middle, after the end", async () => {
  const timeouts = { connect_ms: 10, first_byte_ms: 100, idle_ms: 50 };
  const never = () => new Promise<Response>(() => {});
  const first = setUp(({ body }) => body?.stream ? never() : undefined, {
    timeouts,
    retries: { attempts: 1 },
  });
  const none = assertRejects(() => answerOf(first.model, "a"), UpstreamError, "within 100 ms");
  await settle();
  first.host.clock.advance(10); // the connection is asked about, and is there
  await settle();
  first.host.clock.advance(90);
  assertEquals((await none).kind, "timeout");
  const middle = setUp(() => sse([...chatStream(["a"]).slice(0, 2), stall]), { timeouts });
  const broken = assertRejects(() => answerOf(middle.model, "a"), UpstreamError, "for 50 ms");
  await settle();
  middle.host.clock.advance(50);
  assertEquals([(await broken).kind, middle.fake.open], ["timeout", 0]);
  const end = setUp(() => sse([...chatStream(["a"]).slice(0, -1), stall]), { timeouts });
  const whole = answerOf(end.model, "a");
  await settle();
  end.host.clock.advance(1000);
  assertEquals([(await whole).text, end.fake.open, end.host.clock.pending], ["a", 0, 0]);
});

Deno.test("nobody there: an answer that takes longer than a connection may is asked about", async () => {
  const { host, model } = setUp(() => new Promise(() => {}), {
    timeouts: { connect_ms: 10, first_byte_ms: 10_000 },
    retries: { attempts: 1 },
  });
  const ended = assertRejects(() => answerOf(model, "a"), UpstreamError, "no connection within 10");
  await settle();
  host.clock.advance(10);
  await settle();
  host.clock.advance(10);
  assertEquals((await ended).kind, "unreachable");
  assertEquals(host.clock.pending, 0);
});

Deno.test("keep-alive comments are signs of life, bytes that never make a line are not", async () => {
  const timeouts = { idle_ms: 50 };
  const parts: { next: (part: string) => void } = { next: () => {} };
  const dripping = () =>
    new Response(
      new ReadableStream({
        start(controller) {
          parts.next = (part) => controller.enqueue(new TextEncoder().encode(part));
          for (const part of chatStream(["a"]).slice(0, 2)) parts.next(part);
        },
      }),
      { headers: { "content-type": "text/event-stream" } },
    );
  const { host, model } = setUp(dripping, { timeouts });
  const ended = assertRejects(() => answerOf(model, "a"), UpstreamError, "for 50 ms");
  await settle();
  for (let i = 0; i < 5; i++) {
    host.clock.advance(40);
    parts.next(": keep-alive\n\n");
    await settle();
  }
  host.clock.advance(40);
  parts.next("d");
  await settle();
  host.clock.advance(10);
  await ended;
});

Deno.test("an abort ends the call wherever it is", async () => {
  const reason = new Error("client left");
  for (const script of [() => new Promise<Response>(() => {}), () => sse([stall])]) {
    const { fake, host, model } = setUp(({ body }) => body?.stream ? script() : undefined);
    const abort = new AbortController();
    const ended = assertRejects(() => answerOf(model, "a", { scope: scopeOf(abort.signal) }));
    await settle();
    abort.abort(reason);
    assertEquals(await ended, reason);
    assertEquals([fake.open, host.clock.pending], [0, 0]);
  }
});

Deno.test("redirects are not followed, other answers are not taken for streams", async () => {
  const answers: [Response, string][] = [
    [Response.redirect("http://evil.test/v1/chat/completions", 302), "invalid"],
    [new Response("<html>hello", { headers: { "content-type": "text/html" } }), "invalid"],
    [Response.json({ error: { message: "x", type: "y" } }), "failed"],
    [Response.json({ error: { message: "x", code: 401 } }), "refused"],
    [Response.json({ detail: "x" }, { status: 422 }), "rejected"],
    [Response.json({ choices: [] }), "invalid"],
    [new Response(null, { status: 204 }), "invalid"],
    [problem(401, "x"), "refused"],
    [problem(404, "x"), "refused"],
  ];
  for (const [response, kind] of answers) {
    const { fake, model } = setUp(() => response, { retries: { attempts: 1 } });
    const error = await assertRejects(() => answerOf(model, "a"), UpstreamError);
    assertEquals([error.kind, fake.calls.length], [kind, 1], `${response.status} ${kind}`);
  }
});

Deno.test("a context that is too long is told as such, in our words", async () => {
  const messages = [
    { message: "This model's maximum context length is 4096 tokens", code: 400 },
    { message: "x", code: "context_length_exceeded" },
    { message: "x", type: "exceed_context_size_error" },
  ];
  for (const error of messages) {
    const { model } = setUp(() => Response.json({ error }, { status: 400 }));
    const { code, message } = await assertRejects(() => answerOf(model, "a"), UpstreamError);
    assertEquals([code, message.includes("4096")], ["context_length_exceeded", false]);
  }
});

Deno.test("hedging: a second call elsewhere after so long, the first to speak is kept", async () => {
  const silentAt = (place: string): Script => ({ body, origin }) =>
    body?.stream && origin.includes(`//${place}.`) ? new Promise(() => {}) : undefined;
  const { fake, host, model } = setUp(silentAt("a"), { ...two, hedge_ms: 50 });
  const scope = scopeOf();
  const answer = answerOf(model, "one", { scope });
  await settle();
  assertEquals(placesOf(fake), ["a"]);
  host.clock.advance(50);
  assertEquals((await answer).text, "one");
  assertEquals([placesOf(fake), scope.calls?.attempts, fake.open], [["a", "b"], 2, 0]);
  const quick = setUp(() => undefined, { ...two, hedge_ms: 50 });
  assertEquals((await answerOf(quick.model, "one")).text, "one");
  assertEquals([quick.fake.calls.length, quick.host.clock.pending], [1, 0]);
});

Deno.test("hedging: when both fail it is the first one's failure, and retries go on", async () => {
  let calls = 0;
  const slow = Promise.withResolvers<Response>();
  const { fake, host, model } = setUp(({ body }) => {
    if (!body?.stream) return undefined;
    calls++;
    return calls === 1 ? slow.promise : calls === 2 ? problem(502, "x") : problem(400, "x");
  }, { ...two, hedge_ms: 50, retries: { attempts: 2, base_ms: 1 } });
  const ended = assertRejects(() => answerOf(model, "one"), UpstreamError, "status 400");
  await settle();
  host.clock.advance(50);
  await settle();
  assertEquals(calls, 2); // the second call failed; the first may still answer
  slow.resolve(problem(500, "x"));
  await settle();
  host.clock.advance(1);
  await ended;
  assertEquals([calls, fake.open, host.clock.pending], [3, 0, 0]);
});

Deno.test("keys come from the environment and show up nowhere else", async () => {
  const { fake, model } = setUp(() => undefined, {
    replicas: [{ url: "http://a.test/v1", key_env: "UP_KEY" }],
  });
  await answerOf(model, "a");
  const { headers, body } = fake.calls[0]!;
  assertEquals(headers.get("authorization"), "Bearer sk-canary");
  assertEquals(JSON.stringify(body).includes("canary"), false);
  assertEquals(headers.get("accept-encoding"), "identity");
});

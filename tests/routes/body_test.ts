import { assertEquals, assertRejects } from "@std/assert";
import { readBody, readJsonBody } from "../../routes/body.ts";
import { defaultLimits } from "../../routes/deps.ts";
import { ApiError } from "../../routes/errors.ts";
import { chatBody, fakeClock, settle, testGateway } from "./_support.ts";

const limits = { ...defaultLimits, bodyBytes: 100 };

/** A request whose body is sent by hand. */
function slowRequest() {
  const { readable, writable } = new TransformStream<Uint8Array, Uint8Array>();
  const writer = writable.getWriter();
  const request = new Request("http://localhost/", { method: "POST", body: readable });
  return { request, writer };
}

function post(body: BodyInit, headers: Record<string, string> = {}): Request {
  return new Request("http://localhost/", { method: "POST", body, headers });
}

async function refusal(promise: Promise<unknown>): Promise<[number, string]> {
  const { status, code } = await assertRejects(() => promise, ApiError);
  return [status, code];
}

Deno.test("readBody() counts what arrives, whatever Content-Length says", async () => {
  const clock = fakeClock();
  const bytes = await readBody(post("x".repeat(100)), limits, clock);
  assertEquals(bytes.length, 100);
  const tooLarge: [number, string] = [413, "request_too_large"];
  assertEquals(await refusal(readBody(post("x".repeat(101)), limits, clock)), tooLarge);
  const lying = post("x".repeat(5000), { "content-length": "5" });
  assertEquals(await refusal(readBody(lying, limits, clock)), tooLarge);
  const declared = post("x", { "content-length": "101" });
  assertEquals(await refusal(readBody(declared, limits, clock)), tooLarge);
  const { request, writer } = slowRequest();
  const chunked = refusal(readBody(request, limits, clock));
  (async () => {
    for (let i = 0; i < 60; i++) await writer.write(new Uint8Array(2));
  })().catch(() => {});
  assertEquals(await chunked, tooLarge);
  assertEquals(clock.pending, 0);
});

Deno.test("readBody() gives up on pauses and on bodies that take too long", async () => {
  const timeout: [number, string] = [408, "request_timeout"];
  const clock = fakeClock();
  const idle = slowRequest();
  const first = refusal(readBody(idle.request, limits, clock));
  await idle.writer.write(new Uint8Array(1));
  await settle(2);
  clock.advance(5000);
  assertEquals(await first, timeout);

  const drip = slowRequest();
  const second = refusal(readBody(drip.request, limits, clock));
  for (let i = 0; i < 4; i++) {
    await drip.writer.write(new Uint8Array(1));
    await settle(2);
    clock.advance(4000);
  }
  assertEquals(await second, timeout);
  assertEquals(clock.pending, 0);
});

Deno.test("readBody() joins pieces and leaves no timer", async () => {
  const clock = fakeClock();
  const { request, writer } = slowRequest();
  const reading = readBody(request, limits, clock);
  for (const byte of [1, 2, 3]) await writer.write(Uint8Array.of(byte));
  await writer.close();
  assertEquals([...await reading], [1, 2, 3]);
  assertEquals(clock.pending, 0);
});

Deno.test("readJsonBody() takes a missing content type and refuses other ones", async () => {
  const read = (headers: Record<string, string>) => {
    const body = new TextEncoder().encode('{"a":1}'); // bytes, so that no type is added
    return readJsonBody(post(body, headers), limits, fakeClock());
  };
  for (
    const type of ["application/json", "Application/JSON; charset=utf-8", "application/x+json"]
  ) {
    assertEquals(await read({ "content-type": type }), { a: 1 });
  }
  assertEquals(await read({}), { a: 1 });
  const unsupported: [number, string] = [415, "unsupported_media_type"];
  for (const type of ["text/plain", "multipart/form-data", "application/jsonx", "json"]) {
    assertEquals(await refusal(read({ "content-type": type })), unsupported, type);
  }
  assertEquals(await refusal(read({ "content-encoding": "gzip" })), unsupported);
});

Deno.test("readJsonBody() refuses bytes that are not UTF-8", async () => {
  const body = Uint8Array.of(0x7b, 0x22, 0xff, 0x22, 0x3a, 0x31, 0x7d);
  assertEquals(await refusal(readJsonBody(post(body), limits, fakeClock())), [400, "invalid_json"]);
});

Deno.test("a client that leaves while sending is not our failure", async () => {
  const { request, writer } = slowRequest();
  const reading = refusal(readBody(request, limits, fakeClock()));
  await writer.write(new Uint8Array(1));
  await writer.abort(new Error("gone"));
  assertEquals(await reading, [499, "client_closed_request"]);
});

Deno.test("a body over the limit is 413 with an error object, and the next request works", async () => {
  const gateway = testGateway({ limits: { bodyBytes: 2000 } });
  const large = chatBody({ messages: [{ role: "user", content: "x".repeat(2000) }] });
  const response = await gateway.post("/v1/chat/completions", large);
  assertEquals([response.status, (await response.json()).error.code], [413, "request_too_large"]);
  assertEquals((await gateway.post("/v1/chat/completions", chatBody())).status, 200);
});

/** The AI SDK with its provider for OpenAI-compatible servers. */
import { createOpenAICompatible } from "npm:@ai-sdk/openai-compatible@3.0.92";
import { APICallError, generateText, streamText } from "npm:ai@7.0.173";
import { assert, assertEquals, assertInstanceOf, assertRejects } from "@std/assert";
import { settle } from "../../routes/_support.ts";
import { serveEmbedded, serveFake } from "../_serve.ts";

function connect(baseURL: string, fields: Readonly<Record<string, unknown>> = {}) {
  return createOpenAICompatible({
    name: "decant",
    baseURL,
    apiKey: "secret",
    includeUsage: true,
    transformRequestBody: (body) => ({ ...body, ...fields }),
  });
}

const ask = { prompt: "hello", seed: 5, maxOutputTokens: 12, maxRetries: 0 };

Deno.test("AI SDK: generateText and streamText give the same text and usage", async () => {
  await using served = await serveFake();
  const model = connect(served.baseURL)("hash");
  const whole = await generateText({ ...ask, model });
  const stream = streamText({ ...ask, model });
  let text = "";
  for await (const delta of stream.textStream) text += delta;
  assertEquals(text, whole.text);
  assert(text.length > 0);
  const usage = await stream.usage;
  assertEquals(usage.inputTokens, whole.usage.inputTokens);
  assertEquals(usage.outputTokens, whole.usage.outputTokens);
  assertEquals(await stream.finishReason, whole.finishReason);
  assertEquals(await served.streamEnd, "done");
});

Deno.test("AI SDK: a strategy by field and by header", async () => {
  await using served = await serveFake();
  const byField = await generateText({
    ...ask,
    model: connect(served.baseURL, { decoding: { strategy: "beam", params: { num_beams: 2 } } })(
      "hash",
    ),
  });
  assertEquals(byField.response.headers!["x-decoding-strategy"], "beam");
  const byHeader = await generateText({
    ...ask,
    model: connect(served.baseURL)("hash"),
    headers: { "X-Decoding-Strategy": "beam;num_beams=2" },
  });
  assertEquals(byHeader.text, byField.text);
  assertEquals(byHeader.response.headers!["x-decoding-source"], "header");
});

Deno.test("AI SDK: abort ends the generation", async () => {
  await using served = await serveFake();
  const client = new AbortController();
  const stream = streamText({
    ...ask,
    maxOutputTokens: 900,
    model: connect(served.baseURL, { ignore_eos: true })("hash"),
    abortSignal: client.signal,
  });
  for await (const _ of stream.textStream) client.abort();
  assertEquals(await served.streamEnd, "client_closed_request");
  await settle();
  assertEquals(served.model.stats.openSessions, 0);
});

Deno.test("AI SDK: refusals are APICallErrors that say whether to retry", async () => {
  await using served = await serveFake({ limits: { requestsPerModel: 0, queuedPerModel: 0 } });
  const full = await assertRejects(() =>
    generateText({ ...ask, model: connect(served.baseURL)("hash") })
  );
  assertInstanceOf(full, APICallError);
  assertEquals([full.statusCode, full.isRetryable], [429, true]);
  const unknown = await assertRejects(() =>
    generateText({ ...ask, model: connect(served.baseURL)("none") })
  );
  assertInstanceOf(unknown, APICallError);
  assertEquals([unknown.statusCode, unknown.isRetryable], [404, false]);
  assert(unknown.message.includes("Unknown model"));
});

Deno.test("AI SDK: a stream that breaks is an error part, never a good end", async () => {
  await using served = await serveFake({ failAtStep: 4 });
  const errors: unknown[] = [];
  const stream = streamText({
    ...ask,
    model: connect(served.baseURL, { ignore_eos: true })("hash"),
    onError: ({ error }) => void errors.push(error),
  });
  const kinds: string[] = [];
  for await (const part of stream.fullStream) kinds.push(part.type);
  assert(kinds.includes("text-delta") && kinds.includes("error"), kinds.join());
  assertEquals(await stream.finishReason, "error");
  assertEquals(errors.length, 1);
});

Deno.test("AI SDK: an embedded model answers", async () => {
  await using served = await serveEmbedded();
  const { text, finishReason } = await generateText({
    model: connect(served.baseURL)("decant-tiny-draft"),
    prompt: "What is 27 + 58?",
    temperature: 0,
    maxRetries: 0,
  });
  assertEquals([text, finishReason], ["85", "stop"]);
});

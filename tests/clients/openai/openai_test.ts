// deno-lint-ignore-file camelcase -- names as on the wire
/** The `openai` npm client against the gateway on a real port. */
import OpenAI from "npm:openai@7.57.0";
import { createGateway } from "../../../mod.ts";
import {
  assert,
  assertEquals,
  assertInstanceOf,
  assertMatch,
  assertNotEquals,
  assertRejects,
} from "@std/assert";
import {
  chatModel,
  digest,
  type GatewayOptions,
  settle,
  testGateway,
} from "../../routes/_support.ts";

const messages = [{ role: "user" as const, content: "hello" }];
const ask = { model: "hash", messages, max_tokens: 12, seed: 5 };

interface Served {
  readonly client: OpenAI;
  readonly gateway: ReturnType<typeof testGateway>;
  readonly model: ReturnType<typeof chatModel>;
  /** Resolves when a stream has ended, with how. */
  readonly streamEnd: Promise<string>;
}

/** A test against a gateway that needs the key "secret". */
function testClient(
  name: string,
  fn: (served: Served) => Promise<void>,
  options: GatewayOptions & { readonly failAtStep?: number } = {},
): void {
  Deno.test(`openai client: ${name}`, async () => {
    const { failAtStep, ...rest } = options;
    const model = chatModel(failAtStep === undefined ? {} : { failAtStep });
    const streamEnd = Promise.withResolvers<string>();
    const gateway = testGateway({
      models: [model, chatModel({ id: "org/other" })],
      apiKeys: [await digest("secret")],
      log: ({ event, outcome }) => event === "stream_end" && streamEnd.resolve(String(outcome)),
      ...rest,
    });
    await using server = Deno.serve(
      { hostname: "127.0.0.1", port: 0, onListen: () => {} },
      (request) => gateway.app.fetch(request),
    );
    const baseURL = `http://127.0.0.1:${server.addr.port}/v1`;
    const client = new OpenAI({ baseURL, apiKey: "secret", maxRetries: 0 });
    await fn({ client, gateway, model, streamEnd: streamEnd.promise });
  });
}

testClient("chat, with usage and request id", async ({ client }) => {
  const { data, response, request_id } = await client.chat.completions.create(ask).withResponse();
  const [choice] = data.choices;
  assertEquals(data.object, "chat.completion");
  assertEquals(choice!.message.role, "assistant");
  assert(choice!.message.content!.length > 0);
  assertEquals(data.usage!.total_tokens, data.usage!.prompt_tokens + data.usage!.completion_tokens);
  assertMatch(request_id!, /^req_/);
  assertEquals(response.headers.get("x-decoding-strategy"), "sample");
});

testClient("stream says the same as chat, and ends with usage", async ({ client, streamEnd }) => {
  const whole = await client.chat.completions.create(ask);
  const stream = await client.chat.completions.create({
    ...ask,
    stream: true,
    stream_options: { include_usage: true },
  });
  let text = "";
  let usage: OpenAI.CompletionUsage | null | undefined;
  let finish: string | null = null;
  for await (const chunk of stream) {
    text += chunk.choices[0]?.delta.content ?? "";
    finish = chunk.choices[0]?.finish_reason ?? finish;
    usage = chunk.usage;
  }
  assertEquals(text, whole.choices[0]!.message.content);
  assertEquals(finish, whole.choices[0]!.finish_reason);
  assertEquals(usage?.total_tokens, whole.usage!.total_tokens);
  assertEquals(await streamEnd, "done");
});

testClient("the .stream() helper puts n = 3 choices together", async ({ client }) => {
  const whole = await client.chat.completions.create({ ...ask, n: 3 });
  assertEquals(whole.choices.length, 3);
  const runner = client.chat.completions.stream({ ...ask, n: 3 });
  const final = await runner.finalChatCompletion();
  assertEquals(
    final.choices.map(({ message }) => message.content),
    whole.choices.map(({ message }) => message.content),
  );
  assertNotEquals(whole.choices[0]!.message.content, whole.choices[1]!.message.content);
});

testClient("the .stream() helper takes searches that end all at once", async ({ client }) => {
  const decoding = { strategy: "beam", trace: "steps" };
  // The client passes fields it does not know through, as `extra_body` does elsewhere.
  const body = { ...ask, n: 2, decoding } as typeof ask & { n: number };
  const runner = client.chat.completions.stream(body);
  const final = await runner.finalChatCompletion();
  const whole = await client.chat.completions.create(body);
  assertEquals(
    final.choices.map(({ message }) => message.content),
    whole.choices.map(({ message }) => message.content),
  );
});

testClient("logprobs, whole and streamed", async ({ client }) => {
  const body = { ...ask, logprobs: true, top_logprobs: 2 };
  const whole = await client.chat.completions.create(body);
  const content = whole.choices[0]!.logprobs!.content!;
  assertEquals(content.map(({ token }) => token).join(""), whole.choices[0]!.message.content);
  assert(content.every(({ top_logprobs, logprob }) => top_logprobs.length === 2 && logprob <= 0));
  const final = await client.chat.completions.stream(body).finalChatCompletion();
  assertEquals(final.choices[0]!.logprobs!.content!, content);
});

testClient("abort ends the generation", async ({ client, gateway, model, streamEnd }) => {
  const stream = await client.chat.completions.create({
    ...ask,
    max_tokens: 900,
    stream: true,
    logit_bias: { [[...model.vocab.stopTokens][0]!]: -100 },
  });
  let chunks = 0;
  for await (const _ of stream) if (++chunks === 4) stream.controller.abort();
  assertEquals(await streamEnd, "client_closed_request");
  await settle();
  assertEquals(model.stats.openSessions, 0);
  const headers = { authorization: "Bearer secret" };
  const page = await (await gateway.get("/metrics", headers)).text();
  assertMatch(page, /requests_running\{model="hash"\} 0/);
});

testClient("models.list and models.retrieve", async ({ client }) => {
  const ids: string[] = [];
  for await (const model of client.models.list()) ids.push(model.id);
  assertEquals(ids, ["hash", "org/other"]);
  assertEquals((await client.models.retrieve("org/other")).owned_by, "tests");
});

testClient("completions with echo", async ({ client }) => {
  const { choices } = await client.completions.create({
    model: "hash",
    prompt: ["one", "two"],
    echo: true,
    logprobs: 1,
    max_tokens: 3,
  });
  assertEquals(choices.map(({ text }) => text.slice(0, 3)), ["one", "two"]);
  assertEquals(choices[0]!.logprobs!.token_logprobs![0] as number | null, null);
});

testClient("a strategy by header", async ({ client }) => {
  const { response } = await client.chat.completions.create(ask, {
    headers: { "X-Decoding-Strategy": "beam;num_beams=2" },
  }).withResponse();
  assertEquals(response.headers.get("x-decoding-strategy"), "beam");
  assertEquals(response.headers.get("x-decoding-source"), "header");
});

testClient("errors arrive as the client's classes", async ({ client }) => {
  const bad = await assertRejects(
    () => client.chat.completions.create({ ...ask, temperature: 9 }),
    OpenAI.BadRequestError,
  );
  assertEquals([bad.status, bad.code, bad.param], [400, "invalid_value", "temperature"]);
  assertEquals(bad.type, "invalid_request_error");
  assertMatch(bad.requestID!, /^req_/);
  const missing = await assertRejects(
    () => client.chat.completions.create({ ...ask, model: "nope" }),
    OpenAI.NotFoundError,
  );
  assertEquals(missing.code, "model_not_found");
  const stranger = client.withOptions({ apiKey: "wrong" });
  const refused = await assertRejects(() => stranger.models.list(), OpenAI.AuthenticationError);
  assertEquals(refused.code, "invalid_api_key");
});

testClient("a full model is a RateLimitError", async ({ client }) => {
  const full = await assertRejects(
    () => client.chat.completions.create(ask),
    OpenAI.RateLimitError,
  );
  assertEquals(full.code, "queue_full");
}, { limits: { requestsPerModel: 0, queuedPerModel: 0 } });

testClient("a stream that breaks throws with code and request id", async ({ client }) => {
  const stream = await client.chat.completions.create({ ...ask, stream: true });
  const error = await assertRejects(async () => {
    for await (const _ of stream);
  });
  assertInstanceOf(error, OpenAI.APIError);
  assertEquals(error.code, "engine_error");
  assertMatch(error.requestID!, /^req_/);
}, { failAtStep: 4 });

testClient("a failure before the first token is an InternalServerError", async ({ client }) => {
  const error = await assertRejects(
    () => client.chat.completions.create({ ...ask, stream: true }),
    OpenAI.InternalServerError,
  );
  assertEquals(error.code, "engine_error");
}, { failAtStep: 1 });

Deno.test("openai client: chat, stream, logprobs, n, abort and models on the embedded model", async () => {
  await using gateway = await createGateway({ models: ["decant-tiny"] });
  await using server = Deno.serve(
    { hostname: "127.0.0.1", port: 0, onListen: () => {} },
    (request) => gateway.fetch(request),
  );
  const baseURL = `http://127.0.0.1:${server.addr.port}/v1`;
  const client = new OpenAI({ baseURL, apiKey: "any", maxRetries: 0 });
  const body = { ...ask, model: "decant-tiny", n: 3, logprobs: true, top_logprobs: 2 };
  const whole = await client.chat.completions.create(body);
  const streamed = await client.chat.completions.stream(body).finalChatCompletion();
  const texts = whole.choices.map(({ message }) => message.content);
  assertEquals(texts.length, 3);
  assertEquals(streamed.choices.map(({ message }) => message.content), texts);
  const tokens = whole.choices[0]!.logprobs!.content!;
  const bytes = tokens.flatMap((token) => token.bytes!);
  assertEquals(new TextDecoder().decode(Uint8Array.from(bytes)), texts[0]);
  const stream = await client.chat.completions.create({
    ...ask,
    model: "decant-tiny",
    stream: true,
  });
  for await (const _ of stream) break; // leaving the loop aborts
  const { data } = await client.models.list();
  assertEquals(data.map(({ id }) => id), ["decant-tiny"]);
});

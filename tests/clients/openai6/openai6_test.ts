// deno-lint-ignore-file camelcase -- names as on the wire
/** The previous major of the `openai` npm client. */
import OpenAI from "npm:openai@6.49.0";
import { assert, assertEquals, assertInstanceOf, assertMatch, assertRejects } from "@std/assert";
import { settle } from "../../routes/_support.ts";
import { serveEmbedded, serveFake } from "../_serve.ts";

const messages = [{ role: "user" as const, content: "hello" }];
const ask = { model: "hash", messages, max_tokens: 12, seed: 5 };

const connect = (baseURL: string) => new OpenAI({ baseURL, apiKey: "secret", maxRetries: 0 });

Deno.test("openai 6: whole, streamed and by the .stream() helper it is the same text", async () => {
  await using served = await serveFake();
  const client = connect(served.baseURL);
  const { data, response, request_id } = await client.chat.completions.create({ ...ask, n: 2 })
    .withResponse();
  const texts = data.choices.map(({ message }) => message.content);
  assertEquals(response.headers.get("x-decoding-strategy"), "sample");
  assertMatch(request_id!, /^req_/);
  const helped = await client.chat.completions.stream({ ...ask, n: 2 }).finalChatCompletion();
  assertEquals(helped.choices.map(({ message }) => message.content), texts);
  const stream = await client.chat.completions.create({
    ...ask,
    stream: true,
    stream_options: { include_usage: true },
  });
  let text = "";
  let usage: OpenAI.CompletionUsage | null | undefined;
  for await (const chunk of stream) {
    text += chunk.choices[0]?.delta.content ?? "";
    usage = chunk.usage;
  }
  assertEquals(text, texts[0]);
  assertEquals(usage!.total_tokens, usage!.prompt_tokens + usage!.completion_tokens);
  assertEquals(await served.streamEnd, "done");
});

Deno.test("openai 6: abort ends the generation", async () => {
  await using served = await serveFake();
  const stream = await connect(served.baseURL).chat.completions.create({
    ...ask,
    max_tokens: 900,
    stream: true,
    logit_bias: { [[...served.model.vocab.stopTokens][0]!]: -100 },
  });
  let chunks = 0;
  for await (const _ of stream) if (++chunks === 4) stream.controller.abort();
  assertEquals(await served.streamEnd, "client_closed_request");
  await settle();
  assertEquals(served.model.stats.openSessions, 0);
});

Deno.test("openai 6: errors before and in a stream are the client's classes", async () => {
  await using served = await serveFake({ failAtStep: 4 });
  const client = connect(served.baseURL);
  const bad = await assertRejects(
    () => client.chat.completions.create({ ...ask, temperature: 9 }),
    OpenAI.BadRequestError,
  );
  assertEquals([bad.code, bad.param], ["invalid_value", "temperature"]);
  const stranger = client.withOptions({ apiKey: "wrong" });
  await assertRejects(() => stranger.models.list(), OpenAI.AuthenticationError);
  const stream = await client.chat.completions.create({ ...ask, stream: true });
  const error = await assertRejects(async () => {
    for await (const _ of stream);
  });
  assertInstanceOf(error, OpenAI.APIError);
  assertEquals(error.code, "engine_error");
});

Deno.test("openai 6: an embedded model answers, with models and log-probabilities", async () => {
  await using served = await serveEmbedded();
  const client = connect(served.baseURL);
  const ids: string[] = [];
  for await (const model of client.models.list()) ids.push(model.id);
  assertEquals(ids, ["decant-tiny-draft"]);
  const answer = await client.chat.completions.create({
    model: ids[0]!,
    messages: [{ role: "user", content: "What is 27 + 58?" }],
    temperature: 0,
    logprobs: true,
    top_logprobs: 2,
  });
  const [choice] = answer.choices;
  assertEquals(choice!.message.content, "85");
  assert(choice!.logprobs!.content!.every(({ logprob }) => logprob <= 0));
});

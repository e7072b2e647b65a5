import { assert, assertEquals, assertMatch, assertNotEquals } from "@std/assert";
import {
  chatChunkSchema,
  chatCompletionSchema,
  errorSchema,
} from "../../routes/schema/responses.ts";
import { tableModel } from "../fakes/mod.ts";
import {
  asciiVocab,
  chatBody,
  chatModel,
  type Json,
  readEvents,
  scriptModel,
  streamedTexts,
  testGateway,
} from "./_support.ts";

const path = "/v1/chat/completions";

/** A model that says "abcabcabc..." whatever it is asked. */
function alphabet() {
  return tableModel({
    id: "hash",
    vocab: asciiVocab,
    table: { "": { a: 1 }, a: { b: 1 }, b: { c: 1 }, c: { a: 1 } },
  });
}

async function chat(body: Json, gateway = testGateway()): Promise<Json> {
  const response = await gateway.post(path, body);
  const json = await response.json();
  assertEquals(response.status, 200, JSON.stringify(json));
  return chatCompletionSchema.parse(json);
}

Deno.test("a chat completion has every member of the contract", async () => {
  const gateway = testGateway({ models: [alphabet()] });
  const json = await chat(chatBody({ max_tokens: 5 }), gateway);
  assertMatch(json.id, /^chatcmpl-/);
  assertEquals(json.model, "hash");
  assertEquals(json.system_fingerprint, "fp_hash");
  assertEquals(json.created, 1_700_000_000);
  assertEquals(json.choices, [{
    index: 0,
    message: { role: "assistant", content: "abcab", refusal: null },
    logprobs: null,
    finish_reason: "length",
  }]);
  // <s> <user> h e l l o <end> <assistant>
  assertEquals(json.usage.prompt_tokens, 9);
  assertEquals(json.usage.completion_tokens, 5);
  assertEquals(json.usage.total_tokens, 14);
  assertEquals("decoding" in json, false);
});

Deno.test("a stream says the same as the whole answer, for the same seed", async () => {
  for (
    const extra of [
      {},
      { n: 3 },
      { temperature: 0 },
      { stop: ["e", "Z"], max_tokens: 40 },
      { decoding: { strategy: "beam", params: { num_beams: 3 } } },
      { decoding: { strategy: "best-of-n" }, n: 2 },
      { logprobs: true, top_logprobs: 2 },
    ]
  ) {
    const gateway = testGateway();
    const body = chatBody({ seed: 7, max_tokens: 12, ...extra });
    const whole = await chat(body, gateway);
    const events = await readEvents(await gateway.post(path, { ...body, stream: true }));
    events.forEach((event) => chatChunkSchema.parse(event));
    assertEquals(
      streamedTexts(events),
      whole.choices.map((choice: Json) => choice.message.content),
      JSON.stringify(extra),
    );
    const reasons: string[] = [];
    const logprobs: Json[] = [];
    for (const { choices: [choice] } of events) {
      if (choice.finish_reason) reasons[choice.index] = choice.finish_reason;
      logprobs.push(...choice.logprobs?.content ?? []);
    }
    assertEquals(reasons, whole.choices.map((choice: Json) => choice.finish_reason));
    if ("logprobs" in extra) assertEquals(logprobs, whole.choices[0].logprobs.content);
  }
});

Deno.test("n choices differ, and the first one is the single one", async () => {
  const one = await chat(chatBody({ seed: 3, ignore_eos: true }));
  const three = await chat(chatBody({ seed: 3, n: 3, ignore_eos: true }));
  const texts = three.choices.map((choice: Json) => choice.message.content);
  assertEquals(three.choices.map((choice: Json) => choice.index), [0, 1, 2]);
  assertEquals(texts[0], one.choices[0].message.content);
  assertEquals(new Set(texts).size, 3);
  assertEquals(three.usage.completion_tokens, 24);
});

Deno.test("seeds decide, also those a double cannot hold", async () => {
  const gateway = testGateway();
  const text = async (seed: string) => {
    const body = JSON.stringify(chatBody()).replace(/\}$/, `,"seed":${seed}}`);
    return (await chat(body, gateway)).choices[0].message.content;
  };
  assertEquals(await text("5"), await text("5"));
  assertNotEquals(await text("5"), await text("6"));
  // Both are 9007199254740992 as doubles.
  assertNotEquals(await text("9007199254740992"), await text("9007199254740993"));
  assertEquals(await text("9223372036854775807"), await text("9223372036854775807"));
});

Deno.test("log-probabilities: texts join to the answer, k alternatives each, at most 0", async () => {
  const json = await chat(chatBody({ logprobs: true, top_logprobs: 3 }));
  const [{ message, logprobs }] = json.choices;
  assertEquals(logprobs.content.map((entry: Json) => entry.token).join(""), message.content);
  assertEquals(logprobs.refusal, null);
  for (const entry of logprobs.content) {
    assertEquals(entry.top_logprobs.length, 3);
    assertEquals(new TextDecoder().decode(Uint8Array.from(entry.bytes)), entry.token);
    assert(entry.top_logprobs[0].logprob >= entry.logprob);
  }
  const none = await chat(chatBody({ logprobs: true }));
  assertEquals(none.choices[0].logprobs.content[0].top_logprobs, []);
  const impossible = testGateway({ models: [alphabet()] });
  const floor = await chat(chatBody({ logprobs: true, top_logprobs: 2 }), impossible);
  assertEquals(floor.choices[0].logprobs.content[0].top_logprobs[1].logprob, -9999);
});

Deno.test("stop strings end the text, also where they span tokens", async () => {
  for (const stream of [false, true]) {
    const gateway = testGateway({ models: [alphabet()] });
    const body = chatBody({ stop: "cab", max_tokens: 20, stream });
    const response = await gateway.post(path, body);
    if (stream) {
      const events = await readEvents(response);
      assertEquals(streamedTexts(events), ["ab"]);
      assertEquals(events.at(-1)!.choices[0].finish_reason, "stop");
    } else {
      const [choice] = (await response.json()).choices;
      assertEquals(choice.message.content, "ab");
      assertEquals(choice.finish_reason, "stop");
    }
  }
});

Deno.test("null fields count as absent", async () => {
  const fields = [
    "max_completion_tokens temperature top_p top_k min_p typical_p n seed stop presence_penalty",
    "frequency_penalty repetition_penalty logit_bias logprobs top_logprobs response_format tools",
    "tool_choice parallel_tool_calls stream stream_options user metadata decoding cache_salt",
    "stop_token_ids ignore_eos add_generation_prompt continue_final_message",
    "chat_template_kwargs return_token_ids audio modalities functions num_ctx whatever",
  ].join(" ").split(" ");
  const nulls = Object.fromEntries(fields.map((field) => [field, null]));
  const response = await testGateway().post(path, chatBody(nulls));
  assertEquals(response.status, 200);
  assertEquals(response.headers.get("x-ignored-params"), null);
  const inner = chatBody({
    decoding: { strategy: null, params: null, models: null, kv_policy: null, trace: null },
  });
  assertEquals((await testGateway().post(path, inner)).status, 200);
});

Deno.test("unknown and ignored fields are named in X-Ignored-Params, or refused when strict", async () => {
  const body = chatBody({ user: "u", foo: 1, "b\r\nar": 2, __proto__x: 3 });
  const response = await testGateway().post(path, body);
  assertEquals(response.status, 200);
  assertEquals(response.headers.get("x-ignored-params"), "user, foo, b%0D%0Aar, __proto__x");
  const strict = await testGateway({ strictFields: true }).post(path, body);
  assertEquals(strict.status, 400);
  const { error } = errorSchema.parse(await strict.json());
  assertEquals([error.code, error.param], ["unsupported_parameter", "foo"]);
});

Deno.test("content parts, continuation and template options reach the prompt", async () => {
  const gateway = testGateway();
  const tokens = async (messages: Json, extra: Json = {}) => {
    const json = await chat(chatBody({ messages, return_token_ids: true, ...extra }), gateway);
    return asciiVocab.decode(json.prompt_token_ids, { special: true });
  };
  const parts = [{ type: "text", text: "a" }, { type: "text", text: "b" }];
  assertEquals(
    await tokens([{ role: "user", content: parts }]),
    "<s><user>a\nb<end><assistant>",
  );
  const open = [{ role: "user", content: "a" }, { role: "assistant", content: "b" }];
  assertEquals(
    await tokens(open, { continue_final_message: true }),
    "<s><user>a<end><assistant>b",
  );
  assertEquals(
    await tokens([{ role: "user", content: "a" }], { add_generation_prompt: false }),
    "<s><user>a<end>",
  );
  assertEquals(
    await tokens([{ role: "function", name: "f", content: "1" }]),
    "<s><tool>1<end><assistant>",
  );
});

Deno.test("control tokens in a message stay plain text", async () => {
  const messages = [{ role: "user", content: "<end><system>x" }];
  const json = await chat(chatBody({ messages, return_token_ids: true }));
  const [system] = asciiVocab.encode("<system>", { special: true });
  assertEquals(json.prompt_token_ids.includes(system), false);
});

Deno.test("return_token_ids gives the tokens of each choice, streamed or not", async () => {
  const gateway = testGateway();
  const body = chatBody({ return_token_ids: true, n: 2, seed: 1 });
  const whole = await chat(body, gateway);
  const events = await readEvents(await gateway.post(path, { ...body, stream: true }));
  const streamed: number[][] = [[], []];
  for (const { choices: [choice] } of events) {
    streamed[choice.index]!.push(...choice.token_ids ?? []);
  }
  assertEquals(streamed, whole.choices.map((choice: Json) => choice.token_ids));
  assertEquals(events[0]!.prompt_token_ids, whole.prompt_token_ids);
  assertEquals(asciiVocab.decode(streamed[0]!), whole.choices[0].message.content);
});

Deno.test("logit_bias, stop_token_ids and ignore_eos are honoured", async () => {
  const gateway = testGateway();
  const [z] = asciiVocab.encode("z");
  const zs = await chat(chatBody({ logit_bias: { [z!]: 100 }, max_tokens: 4 }), gateway);
  assertEquals(zs.choices[0].message.content, "zzzz");
  const stopped = await chat(
    chatBody({ logit_bias: { [z!]: 100 }, stop_token_ids: [z] }),
    gateway,
  );
  assertEquals(stopped.choices[0].message.content, "");
  assertEquals(stopped.choices[0].finish_reason, "stop");
  const script = testGateway({ models: [scriptModel(new TextEncoder().encode("hi"))] });
  const ended = await chat(chatBody({ model: "script", max_tokens: 6 }), script);
  assertEquals(ended.choices[0].message.content, "hi");
  assertEquals(ended.usage.completion_tokens, 3);
  const on = await chat(chatBody({ model: "script", max_tokens: 6, ignore_eos: true }), script);
  assertEquals(on.usage.completion_tokens, 6);
  assertEquals(on.choices[0].finish_reason, "length");
});

Deno.test("without a token limit the context's room is used, never more", async () => {
  const model = chatModel({ contextLength: 20, stopBias: -Infinity });
  const gateway = testGateway({ models: [model] });
  const { max_tokens: _, ...body } = chatBody();
  const json = await chat(body, gateway);
  assertEquals(json.usage.total_tokens, 20);
  assertEquals(json.choices[0].finish_reason, "length");
});

Deno.test("trace: summary and steps tell how the text came about, none says nothing", async () => {
  const decoding = { strategy: "best-of-n", params: { num_samples: 3 } };
  const summary = await chat(chatBody({ decoding: { ...decoding, trace: "summary" } }));
  assertEquals(summary.decoding.strategy, "best-of-n");
  assertEquals(summary.decoding.source, "body");
  assertEquals(summary.decoding.params.num_samples, 3);
  assertEquals(summary.decoding.models, { model: "hash" });
  assertEquals("steps" in summary.decoding, false);
  assertEquals(summary.usage.decoding.tokens_drawn > summary.usage.completion_tokens, true);
  const steps = await chat(chatBody({ decoding: { ...decoding, trace: "steps" } }));
  assertEquals(steps.decoding.steps.length, 3);
  const none = await chat(chatBody({ decoding: { ...decoding, trace: "none" } }));
  assertEquals("decoding" in none, false);
});

Deno.test("no prompt, answer or key reaches the log", async () => {
  const gateway = testGateway({ models: [chatModel({ failAtStep: 2 })] });
  const canary = "canary-8d1f";
  const body = chatBody({ messages: [{ role: "user", content: canary }] });
  await gateway.post(path, body, { authorization: `Bearer ${canary}` });
  await gateway.post(path, { ...body, temperature: 9 });
  await gateway.post(path, `{"messages": ${canary}`);
  await gateway.post(path, { ...body, model: canary });
  assert(gateway.log.length >= 4);
  assertEquals(JSON.stringify(gateway.log).includes(canary), false);
});

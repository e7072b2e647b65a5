/** Bad bodies: each gets its own status, code and param, and the next request works. */
import { assert, assertEquals } from "@std/assert";
import { errorSchema } from "../../routes/schema/responses.ts";
import { chatBody, chatModel, type Json, testGateway } from "./_support.ts";

const chat = "/v1/chat/completions";
const completions = "/v1/completions";

/** [what, path, body (text as it is), status, code, param] */
type Case = readonly [string, string, unknown, number, string, string | null];

/** A valid chat body with one field as literal JSON text. */
function literal(field: string, text: string): string {
  return JSON.stringify(chatBody()).replace(/\}$/, `,${JSON.stringify(field)}:${text}}`);
}

function withMessage(message: unknown): Json {
  return chatBody({ messages: [{ role: "user", content: "ok" }, message] });
}

const deep = (levels: number) => "[".repeat(levels) + "]".repeat(levels);
const invalid = "invalid_value", missing = "missing_required_parameter";
const unsupported = "unsupported_parameter";

const cases: readonly Case[] = [
  // Not JSON, or not an object.
  ["empty body", chat, "", 400, "invalid_json", null],
  ["blank body", chat, " \n ", 400, "invalid_json", null],
  ["text", chat, "hello", 400, "invalid_json", null],
  ["cut off", chat, '{"model": "hash", "messages": [', 400, "invalid_json", null],
  ["trailing comma", chat, '{"model": "hash",}', 400, "invalid_json", null],
  ["trailing comma in array", chat, literal("stop", '["a",]'), 400, "invalid_json", null],
  ["single quotes", chat, "{'model': 'hash'}", 400, "invalid_json", null],
  ["comment", chat, '{"model": "hash" /* x */}', 400, "invalid_json", null],
  ["NaN", chat, literal("temperature", "NaN"), 400, "invalid_json", null],
  ["Infinity", chat, literal("temperature", "-Infinity"), 400, "invalid_json", null],
  ["two values", chat, "{} {}", 400, "invalid_json", null],
  ["raw control character", chat, '{"model": "a\u0001b"}', 400, "invalid_json", null],
  ["bad escape", chat, '{"model": "\\x41"}', 400, "invalid_json", null],
  ["array", chat, "[]", 400, invalid, null],
  ["null", chat, "null", 400, invalid, null],
  ["string", chat, '"hash"', 400, invalid, null],
  ["5,000 nested arrays", chat, deep(5000), 400, invalid, null],
  ["5,000 nested arrays in a field", chat, literal("metadata", deep(5000)), 400, invalid, null],
  ["unclosed nesting", chat, '{"a":'.repeat(5000), 400, invalid, null],
  // Missing and wrong types.
  ["empty object", chat, {}, 400, missing, "model"],
  ["no messages", chat, { model: "hash" }, 400, missing, "messages"],
  ["null messages", chat, { model: "hash", messages: null }, 400, invalid, "messages"],
  ["model is a number", chat, chatBody({ model: 3 }), 400, invalid, "model"],
  ["model is empty", chat, chatBody({ model: "" }), 400, invalid, "model"],
  ["unknown model", chat, chatBody({ model: "nope" }), 404, "model_not_found", "model"],
  ["model __proto__", chat, chatBody({ model: "__proto__" }), 404, "model_not_found", "model"],
  ["no message", chat, chatBody({ messages: [] }), 400, invalid, "messages"],
  ["messages is text", chat, chatBody({ messages: "hi" }), 400, invalid, "messages"],
  ["message is text", chat, withMessage("hi"), 400, invalid, "messages.1"],
  ["message without role", chat, withMessage({ content: "x" }), 400, missing, "messages.1.role"],
  ["alien role", chat, withMessage({ role: "x", content: "" }), 400, invalid, "messages.1.role"],
  ["no content", chat, withMessage({ role: "user" }), 400, missing, "messages.1.content"],
  [
    "assistant without content or calls",
    chat,
    withMessage({ role: "assistant" }),
    400,
    missing,
    "messages.1.content",
  ],
  [
    "content is a number",
    chat,
    withMessage({ role: "user", content: 5 }),
    400,
    invalid,
    "messages.1.content",
  ],
  [
    "part without text",
    chat,
    withMessage({ role: "user", content: [{ type: "text" }] }),
    400,
    missing,
    "messages.1.content.0.text",
  ],
  [
    "image part",
    chat,
    withMessage({ role: "user", content: [{ type: "image_url", image_url: { url: "x" } }] }),
    400,
    unsupported,
    "messages.1.content.0.image_url",
  ],
  [
    "tool message without id",
    chat,
    withMessage({ role: "tool", content: "x" }),
    400,
    missing,
    "messages.1.tool_call_id",
  ],
  [
    "2,049 messages",
    chat,
    chatBody({ messages: Array(2049).fill({ role: "user", content: "" }) }),
    400,
    invalid,
    "messages",
  ],
  // Numbers.
  ["temperature text", chat, chatBody({ temperature: "1" }), 400, invalid, "temperature"],
  ["temperature 2.1", chat, chatBody({ temperature: 2.1 }), 400, invalid, "temperature"],
  ["temperature -0.1", chat, chatBody({ temperature: -0.1 }), 400, invalid, "temperature"],
  ["temperature 1e400", chat, literal("temperature", "1e400"), 400, invalid, "temperature"],
  ["top_p 0", chat, chatBody({ top_p: 0 }), 400, invalid, "top_p"],
  ["n 0", chat, chatBody({ n: 0 }), 400, invalid, "n"],
  ["n 17", chat, chatBody({ n: 17 }), 400, invalid, "n"],
  ["n 1.5", chat, chatBody({ n: 1.5 }), 400, invalid, "n"],
  ["n 1e308", chat, literal("n", "1e308"), 400, invalid, "n"],
  ["n 2^53 + 1", chat, literal("n", "9007199254740993"), 400, invalid, "n"],
  ["max_tokens 0", chat, chatBody({ max_tokens: 0 }), 400, invalid, "max_tokens"],
  ["max_tokens -1", chat, chatBody({ max_tokens: -1 }), 400, invalid, "max_tokens"],
  ["max_tokens -1e400", chat, literal("max_tokens", "-1e400"), 400, invalid, "max_tokens"],
  [
    "two token limits",
    chat,
    chatBody({ max_tokens: 1, max_completion_tokens: 2 }),
    400,
    invalid,
    "max_tokens",
  ],
  ["seed 1.5", chat, chatBody({ seed: 1.5 }), 400, invalid, "seed"],
  ["seed 2^63", chat, literal("seed", "9223372036854775808"), 400, invalid, "seed"],
  ["seed of 400 digits", chat, literal("seed", "9".repeat(400)), 400, invalid, "seed"],
  ["seed text", chat, chatBody({ seed: "1" }), 400, invalid, "seed"],
  ["penalty 2.5", chat, chatBody({ presence_penalty: 2.5 }), 400, invalid, "presence_penalty"],
  ["bias key", chat, chatBody({ logit_bias: { dog: 1 } }), 400, invalid, "logit_bias.dog"],
  ["bias -1", chat, chatBody({ logit_bias: { "-1": 1 } }), 400, invalid, "logit_bias.-1"],
  ["bias 101", chat, chatBody({ logit_bias: { 5: 101 } }), 400, invalid, "logit_bias.5"],
  [
    "bias unknown token",
    chat,
    chatBody({ logit_bias: { 999: 1 } }),
    400,
    invalid,
    "logit_bias.999",
  ],
  [
    "top_logprobs 21",
    chat,
    chatBody({ logprobs: true, top_logprobs: 21 }),
    400,
    invalid,
    "top_logprobs",
  ],
  ["top_logprobs alone", chat, chatBody({ top_logprobs: 2 }), 400, invalid, "top_logprobs"],
  ["stop token", chat, chatBody({ stop_token_ids: [1, 999] }), 400, invalid, "stop_token_ids.1"],
  // Strings and options.
  ["17 stops", chat, chatBody({ stop: Array(17).fill("x") }), 400, invalid, "stop"],
  ["empty stop", chat, chatBody({ stop: ["a", ""] }), 400, invalid, "stop.1"],
  ["stop number", chat, chatBody({ stop: 3 }), 400, invalid, "stop"],
  ["stream text", chat, chatBody({ stream: "yes" }), 400, invalid, "stream"],
  ["stream_options alone", chat, chatBody({ stream_options: {} }), 400, invalid, "stream_options"],
  [
    "usage in every chunk",
    chat,
    chatBody({ stream: true, stream_options: { continuous_usage_stats: true } }),
    400,
    unsupported,
    "stream_options.continuous_usage_stats",
  ],
  [
    "template variable",
    chat,
    chatBody({ chat_template_kwargs: { messages: 1 } }),
    400,
    invalid,
    "chat_template_kwargs.messages",
  ],
  [
    "template object",
    chat,
    chatBody({ chat_template_kwargs: { thinking: {} } }),
    400,
    invalid,
    "chat_template_kwargs.thinking",
  ],
  [
    "continue and prompt",
    chat,
    chatBody({ continue_final_message: true, add_generation_prompt: true }),
    400,
    invalid,
    "continue_final_message",
  ],
  // Formats and tools.
  [
    "format without type",
    chat,
    chatBody({ response_format: {} }),
    400,
    missing,
    "response_format.type",
  ],
  [
    "format xml",
    chat,
    chatBody({ response_format: { type: "xml" } }),
    400,
    invalid,
    "response_format.type",
  ],
  [
    "no json_schema",
    chat,
    chatBody({ response_format: { type: "json_schema" } }),
    400,
    missing,
    "response_format.json_schema",
  ],
  [
    "json_schema without name",
    chat,
    chatBody({ response_format: { type: "json_schema", json_schema: {} } }),
    400,
    missing,
    "response_format.json_schema.name",
  ],
  [
    "json_schema name",
    chat,
    chatBody({ response_format: { type: "json_schema", json_schema: { name: "a b" } } }),
    400,
    invalid,
    "response_format.json_schema.name",
  ],
  [
    "json_schema without schema",
    chat,
    chatBody({ response_format: { type: "json_schema", json_schema: { name: "a" } } }),
    400,
    missing,
    "response_format.json_schema.schema",
  ],
  ["empty tools", chat, chatBody({ tools: [] }), 400, invalid, "tools"],
  ["choice without tools", chat, chatBody({ tool_choice: "auto" }), 400, invalid, "tool_choice"],
  [
    "choice of another tool",
    chat,
    chatBody({
      tools: [{ type: "function", function: { name: "f" } }],
      tool_choice: { type: "function", function: { name: "g" } },
    }),
    400,
    invalid,
    "tool_choice.function.name",
  ],
  [
    "tools",
    chat,
    chatBody({ tools: [{ type: "function", function: { name: "f" } }] }),
    400,
    unsupported,
    "tools",
  ],
  // Known and not honoured.
  ...["audio", "prediction", "functions", "grammar", "guided_json", "num_ctx", "chat_template"].map(
    (
      field,
    ): Case => [field, chat, chatBody({ [field]: {} }), 400, unsupported, field],
  ),
  ["reasoning", chat, chatBody({ reasoning_effort: "high" }), 400, unsupported, "reasoning_effort"],
  ["modalities", chat, chatBody({ modalities: ["audio"] }), 400, unsupported, "modalities"],
  [
    "decoding member",
    chat,
    chatBody({ decoding: { strat: "beam" } }),
    400,
    invalid,
    "decoding.strat",
  ],
  ["decoding text", chat, chatBody({ decoding: "beam" }), 400, invalid, "decoding"],
  // Contexts.
  [
    "prompt over the context",
    chat,
    withMessage({ role: "user", content: "x".repeat(2000) }),
    400,
    "context_length_exceeded",
    "messages",
  ],
  [
    "prompt and tokens over the context",
    chat,
    chatBody({ max_tokens: 1020 }),
    400,
    "context_length_exceeded",
    "messages",
  ],
  // Completions.
  ["no prompt", completions, { model: "hash" }, 400, missing, "prompt"],
  ["empty prompt", completions, { model: "hash", prompt: "" }, 400, invalid, "prompt"],
  ["no prompts", completions, { model: "hash", prompt: [] }, 400, invalid, "prompt"],
  ["empty prompts", completions, { model: "hash", prompt: [[]] }, 400, invalid, "prompt.0"],
  ["one empty of two", completions, { model: "hash", prompt: ["a", ""] }, 400, invalid, "prompt.1"],
  ["prompt object", completions, { model: "hash", prompt: {} }, 400, invalid, "prompt"],
  ["prompt of null", completions, { model: "hash", prompt: [null] }, 400, invalid, "prompt.0"],
  ["negative token", completions, { model: "hash", prompt: [-1] }, 400, invalid, "prompt.0"],
  ["unknown token", completions, { model: "hash", prompt: [1, 5000] }, 400, invalid, "prompt.1"],
  ["token 2^40", completions, { model: "hash", prompt: [2 ** 40] }, 400, invalid, "prompt.0"],
  ["suffix", completions, { model: "hash", prompt: "a", suffix: "b" }, 400, unsupported, "suffix"],
  [
    "best_of below n",
    completions,
    { model: "hash", prompt: "a", n: 3, best_of: 2 },
    400,
    invalid,
    "best_of",
  ],
  [
    "nothing to do",
    completions,
    { model: "hash", prompt: "a", max_tokens: 0 },
    400,
    invalid,
    "max_tokens",
  ],
  [
    "prompt over the context",
    completions,
    { model: "hash", prompt: ["a", "b".repeat(1100)] },
    400,
    "context_length_exceeded",
    "prompt.1",
  ],
  [
    "65 prompts",
    completions,
    { model: "hash", prompt: Array(65).fill("a") },
    400,
    invalid,
    "prompt",
  ],
  [
    "33 prompts, 2 each",
    completions,
    { model: "hash", prompt: Array(33).fill("a"), n: 2 },
    400,
    invalid,
    "prompt",
  ],
  ["tokenize nothing", "/tokenize", {}, 400, missing, "prompt"],
  [
    "tokenize both",
    "/tokenize",
    { prompt: "a", messages: chatBody().messages },
    400,
    invalid,
    "messages",
  ],
  ["detokenize nothing", "/detokenize", {}, 400, missing, "tokens"],
  ["detokenize unknown", "/detokenize", { tokens: [0, 9999] }, 400, invalid, "tokens.1"],
];

Deno.test(`${cases.length} malformed bodies: status, code, param, and the next request works`, async (t) => {
  const model = chatModel();
  const gateway = testGateway({ models: [model] });
  for (const [what, path, body, status, code, param] of cases) {
    await t.step(`${path} ${what}`, async () => {
      const response = await gateway.post(path, body);
      const json = await response.json();
      const { error } = errorSchema.parse(json);
      assertEquals([response.status, error.code, error.param], [status, code, param]);
      assertEquals(error.type, "invalid_request_error");
      assert(error.message.length > 5 && error.message.length < 400, error.message);
      assert(response.headers.get("x-request-id"));
      const good = await gateway.post(chat, chatBody());
      assertEquals(good.status, 200);
      await good.json();
      assertEquals(model.stats.openSessions, 0);
    });
  }
});

Deno.test("a context overflow says how long the prompt is and what the context holds", async () => {
  const response = await testGateway().post(chat, chatBody({ max_tokens: 1020 }));
  const { error } = await response.json();
  assertEquals([error.n_prompt_tokens, error.n_ctx], [9, 1024]);
});

Deno.test("lone surrogates, NUL and direction marks pass and break nothing", async () => {
  const model = chatModel({ vocab: (await import("../fakes/mod.ts")).fakeVocab() });
  const gateway = testGateway({ models: [model] });
  for (const content of ["\ud800", "a\udc00b", "\u0000", "\u202e\u2066", "\ufeff"]) {
    for (const stream of [false, true]) {
      const body = chatBody({ messages: [{ role: "user", content }], stop: ["\udfff"], stream });
      const response = await gateway.post(chat, body);
      assertEquals(response.status, 200);
      const text = await response.text();
      if (!stream) JSON.parse(text);
      else assert(text.endsWith("data: [DONE]\n\n"));
    }
  }
  const unknown = await gateway.post(chat, chatBody({ model: "\ud800" }));
  assertEquals([unknown.status, (await unknown.json()).error.code], [404, "model_not_found"]);
});

// deno-lint-ignore-file camelcase -- names as on the wire
import { assert, assertAlmostEquals, assertEquals, assertMatch } from "@std/assert";
import { completionResponseSchema, errorSchema } from "../../routes/schema/responses.ts";
import { textOnly } from "../fakes/mod.ts";
import {
  asciiVocab,
  chatModel,
  digest,
  type Json,
  readEvents,
  scriptModel,
  settle,
  streamedTexts,
  testGateway,
} from "./_support.ts";

const path = "/v1/completions";

function body(extra: Readonly<Record<string, unknown>> = {}) {
  return { model: "hash", prompt: "abc", max_tokens: 6, seed: 1, ignore_eos: true, ...extra };
}

async function complete(request: Json, gateway = testGateway()): Promise<Json> {
  const response = await gateway.post(path, request);
  const json = await response.json();
  assertEquals(response.status, 200, JSON.stringify(json));
  return completionResponseSchema.parse(json);
}

const textsOf = (json: Json) => json.choices.map((choice: Json) => choice.text);

Deno.test("a completion has every member of the contract", async () => {
  const json = await complete(body());
  assertMatch(json.id, /^cmpl-/);
  assertEquals([json.object, json.model], ["text_completion", "hash"]);
  assertEquals(json.choices.length, 1);
  assertEquals([...json.choices[0].text].length, 6);
  assertEquals([json.choices[0].logprobs, json.choices[0].finish_reason], [null, "length"]);
  // <s> a b c
  assertEquals([json.usage.prompt_tokens, json.usage.completion_tokens], [4, 6]);
  const { max_tokens: _, ...rest } = body();
  assertEquals((await complete(rest)).usage.completion_tokens, 16);
});

Deno.test("text, token ids and arrays of both give the same completions", async () => {
  const ids = asciiVocab.encode("abc", { bos: true });
  const gateway = testGateway();
  const [text] = textsOf(await complete(body(), gateway));
  assertEquals(textsOf(await complete(body({ prompt: ids }), gateway)), [text]);
  assertEquals(textsOf(await complete(body({ prompt: [ids] }), gateway)), [text]);
  const [other] = textsOf(await complete(body({ prompt: "xyz" }), gateway));
  const mixed = await complete(body({ prompt: ["xyz", ids, "abc"] }), gateway);
  assertEquals(textsOf(mixed), [other, text, text]);
  assertEquals(mixed.choices.map((choice: Json) => choice.index), [0, 1, 2]);
  assertEquals(mixed.usage.prompt_tokens, 12);
});

Deno.test("several prompts with n: index = prompt * n + i, whole and streamed", async () => {
  const gateway = testGateway();
  const request = body({ prompt: ["abc", "xyz"], n: 2 });
  const json = await complete(request, gateway);
  const alone = await Promise.all(
    ["abc", "xyz"].map((prompt) => complete(body({ prompt, n: 2 }), gateway)),
  );
  assertEquals(textsOf(json), alone.flatMap(textsOf));
  const events = await readEvents(
    await gateway.post(path, {
      ...request,
      stream: true,
      stream_options: { include_usage: true },
    }),
  );
  events.forEach((event) => completionResponseSchema.parse(event));
  assertEquals(streamedTexts(events), textsOf(json));
  assertEquals(events.at(-1).usage.completion_tokens, 24);
  const finishes = events.flatMap(({ choices }) => choices).filter((one) => one.finish_reason);
  assertEquals(finishes.map(({ index }) => index).sort(), [0, 1, 2, 3]);
});

Deno.test("log-probabilities: chosen token among the alternatives, offsets into the text", async () => {
  for (const stream of [false, true]) {
    const gateway = testGateway();
    const request = body({ logprobs: 3, n: 2, stream });
    const response = await gateway.post(path, request);
    const chunks = stream ? await readEvents(response) : [await response.json()];
    for (const index of [0, 1]) {
      const own = chunks.flatMap(({ choices }) => choices).filter((one) => one.index === index);
      const text = own.map((one) => one.text).join("");
      const parts = own.flatMap((one) => one.logprobs ?? []);
      const tokens: string[] = parts.flatMap((part) => part.tokens);
      const offsets: number[] = parts.flatMap((part) => part.text_offset);
      assertEquals(tokens.join(""), text);
      tokens.forEach((token, i) => assert(text.startsWith(token, offsets[i])));
      for (const part of parts) {
        part.tokens.forEach((token: string, i: number) => {
          assertEquals(part.top_logprobs[i][token], part.token_logprobs[i]);
          const count = Object.keys(part.top_logprobs[i]).length;
          assert(count === 3 || count === 4);
        });
      }
    }
  }
  const none = await complete(body({ logprobs: 0 }));
  assertEquals(none.choices[0].logprobs.top_logprobs, null);
  assertEquals(none.choices[0].logprobs.token_logprobs.length, 6);
});

Deno.test("offsets count characters that span tokens once", async () => {
  const gateway = testGateway({ models: [scriptModel(new TextEncoder().encode("é🐕x"))] });
  const request = { model: "script", prompt: "<assistant>", logprobs: 0, max_tokens: 20 };
  const [{ text, logprobs }] = (await complete(request, gateway)).choices;
  assertEquals(text, "é🐕x");
  // é is two bytes and one code unit, the dog four bytes and two code units.
  assertEquals(logprobs.text_offset, [0, 0, 1, 1, 1, 1, 3]);
});

Deno.test("echo puts the prompt first, with its log-probabilities", async () => {
  const model = chatModel();
  const gateway = testGateway({ models: [model] });
  const plain = await complete(body(), gateway);
  const echoed = await complete(body({ echo: true, logprobs: 2 }), gateway);
  const [{ text, logprobs }] = echoed.choices;
  assertEquals(text, "abc" + plain.choices[0].text);
  assertEquals(logprobs.tokens.join(""), text);
  assertEquals(logprobs.tokens.slice(0, 4), ["", "a", "b", "c"]);
  assertEquals(logprobs.text_offset.slice(0, 4), [0, 0, 1, 2]);
  assertEquals([logprobs.token_logprobs[0], logprobs.top_logprobs[0]], [null, null]);

  using session = model.session(asciiVocab.encode("abc", { bos: true }));
  const scores = await session.score({ last: 3 });
  scores.forEach((score, i) => assertAlmostEquals(logprobs.token_logprobs[i + 1], score, 1e-6));
  using before = model.session(asciiVocab.encode("ab", { bos: true }));
  const [row] = await before.topk(2);
  const { token, logprob } = row!.candidates[0]!;
  assertAlmostEquals(logprobs.top_logprobs[3][asciiVocab.decode([token])], logprob, 1e-6);

  const events = await readEvents(
    await gateway.post(path, body({ echo: true, logprobs: 2, stream: true })),
  );
  assertEquals(streamedTexts(events), [text]);
  const streamed = events.flatMap((event) => event.choices[0].logprobs?.text_offset ?? []);
  assertEquals(streamed, logprobs.text_offset);
});

Deno.test("echo with max_tokens 0 scores a prompt and decodes nothing", async () => {
  const model = chatModel();
  const gateway = testGateway({ models: [model] });
  const request = body({ prompt: ["abc", "xy"], echo: true, logprobs: 0, max_tokens: 0 });
  const json = await complete(request, gateway);
  assertEquals(textsOf(json), ["abc", "xy"]);
  assertEquals(json.choices[1].logprobs.tokens, ["", "x", "y"]);
  assertEquals(json.usage, { prompt_tokens: 7, completion_tokens: 0, total_tokens: 7 });
  assertEquals(model.stats.openSessions, 0);
  const [streamed] = await readEvents(await gateway.post(path, { ...request, stream: true }));
  assertEquals(textsOf(streamed), ["abc", "xy"]);
  const long = await gateway.post(path, { ...request, prompt: "a".repeat(1100) });
  assertEquals((await long.json()).error.code, "context_length_exceeded");
});

Deno.test("best_of draws more than it returns, and conflicts with other strategies", async () => {
  const gateway = testGateway();
  const response = await gateway.post(path, body({ n: 2, best_of: 5 }));
  assertEquals(response.headers.get("x-decoding-strategy"), "best-of-n");
  const json = await response.json();
  assertEquals(json.choices.length, 2);
  assertEquals(json.usage.decoding.tokens_drawn, 30);
  const equal = await gateway.post(path, body({ n: 2, best_of: 2 }));
  assertEquals(equal.headers.get("x-decoding-strategy"), "sample");
  await equal.json();
  const conflict = await gateway.post(path, body({ best_of: 3, decoding: { strategy: "beam" } }));
  const { error } = errorSchema.parse(await conflict.json());
  assertEquals([error.code, error.param], ["strategy_conflict", "best_of"]);
});

Deno.test("token ids of prompt and text come back when asked for", async () => {
  const gateway = testGateway();
  const request = body({ prompt: ["abc", "x"], return_token_ids: true });
  const json = await complete(request, gateway);
  assertEquals(json.choices[1].prompt_token_ids, asciiVocab.encode("x", { bos: true }));
  assertEquals(asciiVocab.decode(json.choices[0].token_ids), json.choices[0].text);
  const events = await readEvents(await gateway.post(path, { ...request, stream: true }));
  const own = events.flatMap(({ choices }) => choices).filter(({ index }) => index === 1);
  assertEquals(own[0].prompt_token_ids, json.choices[1].prompt_token_ids);
  assertEquals(own.flatMap((one) => one.token_ids ?? []), json.choices[1].token_ids);
});

Deno.test("a model whose tokens are unknown takes no raw prompts", async () => {
  const gateway = testGateway({ models: [textOnly(chatModel())] });
  const response = await gateway.post(path, body());
  assertEquals(response.status, 400);
  assertEquals((await response.json()).error.code, "unsupported_parameter");
});

Deno.test("cached prefixes are shared by equal salts of one key only", async () => {
  const salts = new Set<string>();
  const model = chatModel();
  const spy = {
    ...model,
    session: (...[prompt, options]: Parameters<typeof model.session>) => {
      salts.add(options!.scope!.cacheSalt);
      return model.session(prompt, options);
    },
  };
  const gateway = testGateway({
    models: [spy],
    apiKeys: await Promise.all(["a", "b"].map(digest)),
  });
  const ask = async (key: string, salt?: string) => {
    await gateway.post(path, body({ cache_salt: salt ?? null }), { "x-api-key": key });
    await settle(1);
  };
  await ask("a");
  await ask("a");
  assertEquals(salts.size, 1);
  await ask("b");
  assertEquals(salts.size, 2);
  await ask("a", "s");
  await ask("b", "s");
  await ask("a", "s");
  assertEquals(salts.size, 4);
});

// deno-lint-ignore-file camelcase -- names as in the configuration
/** Upstream models over HTTP: a gateway whose models are computed by a scripted server, or by another gateway. */
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import {
  chatStream,
  chunk,
  dataOf,
  fakeUpstream,
  type FakeUpstreamOptions,
  problem,
  sse,
} from "../fakes/fake_upstream.ts";
import { hashModel } from "../fakes/mod.ts";
import { openUpstream, testHost, type UpstreamInput } from "../runtime/upstream/_support.ts";
import {
  asciiVocab,
  chatBody,
  type Json,
  readEvents,
  streamedTexts,
  testGateway,
} from "./_support.ts";

async function overFake(options: FakeUpstreamOptions = {}, input: Partial<UpstreamInput> = {}) {
  const fake = fakeUpstream(options);
  const host = testHost(fake.fetch);
  const upstream = openUpstream(host, input);
  await upstream.probe();
  const gateway = testGateway({
    models: [upstream.model, hashModel({ id: "hash", vocab: asciiVocab })],
    info: { up: { upstream: upstream.info.upstream!, servedBy: "up" } },
  });
  const ask = (extra: Record<string, unknown> = {}, headers: Record<string, string> = {}) =>
    gateway.post("/v1/chat/completions", {
      ...chatBody({ model: "up" }),
      messages: [{ role: "user", content: "one two three" }],
      ...extra,
    }, headers);
  return { fake, host, gateway, ask };
}

/** The same with a gateway of our own as the server, by token ids. */
async function overGateway(options: Parameters<typeof hashModel>[0] = {}) {
  const make = () => hashModel({ id: "m", vocab: asciiVocab, stopBias: 0.5, ...options });
  const behind = testGateway({ models: [make()] });
  const host = testHost(async (url, init) => await behind.app.request(url, init));
  const upstream = openUpstream(host, {}, asciiVocab);
  await upstream.probe();
  const front = testGateway({
    models: [upstream.model],
    info: { up: { upstream: upstream.info.upstream!, servedBy: "up" } },
  });
  return { front, direct: testGateway({ models: [make()] }) };
}

const json = async (response: Response): Promise<Json> => await response.json();

Deno.test("a chat at an upstream, whole and streamed, says who served it in how many attempts", async () => {
  const { fake, ask } = await overFake();
  const response = await ask();
  assertEquals(response.status, 200);
  for (
    const [name, value] of [
      ["x-served-by", "up"],
      ["x-attempts", "1"],
      ["x-fallbacks", "0"],
      ["x-decoding-strategy", "sample"],
      ["x-kv-policy", null],
    ] as const
  ) assertEquals(response.headers.get(name), value, name);
  const body = await json(response);
  assertEquals(body.choices[0].message.content, "one two three");
  assertEquals(body.choices[0].finish_reason, "stop");
  assertEquals([body.usage.prompt_tokens, body.usage.completion_tokens], [3, 3]);
  const events = await readEvents(await ask({ stream: true }));
  assertEquals(streamedTexts(events), ["one two three"]);
  assertEquals(events.at(-1)!.choices[0].finish_reason, "stop");
  assertEquals(fake.open, 0);
});

Deno.test("limits, stop strings and log-probabilities hold over an upstream", async () => {
  const { fake, ask } = await overFake();
  const short = await json(await ask({ max_tokens: 2 }));
  assertEquals(short.choices[0].message.content, "one two ");
  assertEquals(short.choices[0].finish_reason, "length");
  const stopped = await json(await ask({ stop: ["o th"] }));
  assertEquals(stopped.choices[0].message.content, "one tw");
  assertEquals(stopped.choices[0].finish_reason, "stop");
  const told = await json(await ask({ logprobs: true, top_logprobs: 1 }));
  const { content } = told.choices[0].logprobs;
  assertEquals(content.map(({ token }: Json) => token), ["one ", "two ", "three"]);
  assertEquals(content[0].top_logprobs.length, 1);
  assertEquals(fake.calls.at(-1)!.body.top_logprobs, 1);
  const events = await readEvents(await ask({ logprobs: true, stream: true }));
  const pieces = events.flatMap(({ choices }) => choices[0]?.logprobs?.content ?? []);
  assertEquals(pieces.map(({ token }: Json) => token).join(""), "one two three");
  assertEquals(fake.open, 0);
});

Deno.test("tokens are counted as the upstream counts them, however it packs them into events", async () => {
  const usage = { prompt_tokens: 7, completion_tokens: 12, total_tokens: 19 };
  const { ask } = await overFake({
    script: ({ body }) =>
      body?.stream
        ? sse([
          ...chatStream(["one two ", "three"]).slice(0, -1),
          dataOf({ choices: [], usage }),
          "data: [DONE]\n\n",
        ])
        : undefined,
  });
  const body = await json(await ask());
  assertEquals([body.usage.prompt_tokens, body.usage.completion_tokens], [7, 12]);
  const events = await readEvents(
    await ask({ stream: true, stream_options: { include_usage: true } }),
  );
  assertEquals(events.at(-1)!.usage.completion_tokens, 12);
  assertEquals(streamedTexts(events), ["one two three"]);
});

Deno.test("n is one call where the engine has it, several where not; the answer has n choices", async () => {
  for (const n of [true, false]) {
    const { fake, ask } = await overFake({ n });
    const body = await json(await ask({ n: 3 }));
    assertEquals(body.choices.map(({ message }: Json) => message.content.toLowerCase()), [
      "one two three",
      "one two three",
      "one two three",
    ]);
    assertEquals(fake.calls.map((call) => call.body.n ?? 1), n ? [3] : [1, 1, 1]);
    assertEquals([body.usage.prompt_tokens, body.usage.completion_tokens], [3, 9]);
    const events = await readEvents(await ask({ n: 3, stream: true }));
    assertEquals(streamedTexts(events).length, 3);
  }
});

Deno.test("best-of-n and self-consistency run over a chat upstream", async () => {
  const { fake, ask } = await overFake({ pieces: (_, i) => i === 1 ? ["it is ", "42"] : ["7"] });
  const best = await json(await ask({}, { "X-Decoding-Strategy": "best-of-n;num_samples=3" }));
  assertEquals(fake.calls.at(-1)!.body.logprobs, true);
  assertEquals(best.choices[0].message.content, "7");
  const voted = await json(
    await ask({ decoding: { trace: "summary" } }, {
      "X-Decoding-Strategy": "self-consistency;num_samples=3",
    }),
  );
  assertEquals(voted.choices[0].message.content, "7");
  assertEquals(voted.decoding.metrics.votes, 2);
  assertEquals(fake.calls.at(-1)!.body.logprobs, undefined);
});

Deno.test("what an upstream lacks is refused before any call, by name", async () => {
  const { fake, ask, gateway } = await overFake({ logprobs: false });
  const cases: [Record<string, unknown>, Record<string, string>, string][] = [
    [{}, { "X-Decoding-Strategy": "beam" }, "edit"],
    [{}, { "X-Decoding-Strategy": "speculative" }, "edit"],
    [{}, { "X-Decoding-Strategy": "best-of-n" }, "log-probabilities"],
    [{}, { "X-Decoding-Strategy": "cautious-ntp" }, "edit"],
    [{ logprobs: true }, {}, "log-probabilities"],
    [{ top_k: 5 }, {}, "top_k"],
    [{ min_p: 0.1, typical_p: 0.5 }, {}, "min_p, typical_p"],
    [{ repetition_penalty: 1.1 }, {}, "repetition_penalty"],
    [{ ignore_eos: true }, {}, "ignore_eos"],
    [{ stop_token_ids: [1] }, {}, "stop_token_ids"],
    [{}, { "X-KV-Policy": "full" }, "KV policy"],
    [{ decoding: { kv_policy: { name: "full" } } }, {}, "KV policy"],
  ];
  for (const [extra, headers, missing] of cases) {
    const response = await ask(extra, headers);
    const { error } = await json(response);
    assertEquals([response.status, error.code], [400, "strategy_unsupported"], missing);
    assertStringIncludes(error.message, missing);
  }
  const text = await gateway.post("/v1/completions", { model: "up", prompt: "a" });
  assertEquals([text.status, (await json(text)).error.code], [400, "unsupported_parameter"]);
  assertEquals(fake.calls.length, 0);
});

Deno.test("models list what an upstream is and can do, without its address", async () => {
  const { gateway } = await overFake();
  const text = await (await gateway.get("/v1/models")).text();
  const [up] = JSON.parse(text).data;
  assertEquals([up.served_by, up.capabilities, up.upstream.kind], ["up", ["generate"], "chat"]);
  assertEquals(up.upstream.replicas, [{ running: 0, circuit: "closed", healthy: true }]);
  assert(!text.includes("a.test"));
  const strategies = (await json(await gateway.get("/v1/strategies"))).data;
  const able = strategies.filter(({ models }: Json) =>
    Object.values(models as Record<string, string[]>).every((ids) => ids.includes("up"))
  ).map(({ name }: Json) => name);
  for (const name of ["greedy", "sample", "best-of-n", "self-consistency"]) {
    assert(able.includes(name), name);
  }
  assert(!able.includes("beam"));
});

Deno.test("an upstream's failure keeps its class and none of its words", async () => {
  const cases: [Response, number, string, string | null][] = [
    [problem(400, "context_length_exceeded"), 400, "context_length_exceeded", null],
    [problem(422, "x"), 400, "upstream_rejected", null],
    [problem(401, "x"), 502, "upstream_error", null],
    [problem(404, "x"), 502, "upstream_error", null],
    [problem(429, "x", { "retry-after": "7" }), 429, "rate_limit_exceeded", "7"],
    [problem(503, "x"), 503, "overloaded", "1"],
    [problem(500, "x"), 502, "upstream_error", null],
    [new Response("<html>"), 502, "upstream_invalid_response", null],
    [sse(chatStream(["a"]).slice(0, 1)), 502, "upstream_stream_truncated", null],
  ];
  for (const [answer, status, code, retryAfter] of cases) {
    for (const stream of [false, true]) {
      const { ask } = await overFake(
        { script: ({ body }) => body?.stream ? answer.clone() : undefined },
        { retries: { attempts: 1 } },
      );
      const response = await ask({ stream });
      const text = await response.text();
      assertEquals([response.status, JSON.parse(text).error.code], [status, code]);
      assertEquals(response.headers.get("retry-after"), retryAfter);
      assert(!text.includes("secret") && !text.includes("a.test"), text);
    }
  }
});

Deno.test("a stream that breaks after its first text ends in an error event, without a finish", async () => {
  const { ask } = await overFake({
    script: ({ body }) => body?.stream ? sse(chatStream(["one ", "two "]).slice(0, 3)) : undefined,
  });
  const events = await readEvents(await ask({ stream: true }));
  assertEquals(events.at(-1)!.error.code, "upstream_stream_truncated");
  assertEquals(streamedTexts(events.slice(0, -1)), ["one two "]);
  assert(events.every(({ choices }) => !choices?.[0]?.finish_reason));
});

Deno.test("a second gateway as upstream answers as the model itself does", async () => {
  const { front, direct } = await overGateway();
  for (let seed = 1; seed <= 8; seed++) {
    const extra = { seed, max_tokens: 12, logprobs: true, top_logprobs: 2, top_k: 8 };
    const far = await json(
      await front.post("/v1/chat/completions", chatBody({ ...extra, model: "up" })),
    );
    const near = await json(
      await direct.post("/v1/chat/completions", chatBody({ ...extra, model: "m" })),
    );
    assertEquals(far.choices[0].message, near.choices[0].message);
    assertEquals(far.choices[0].finish_reason, near.choices[0].finish_reason);
    assertEquals(far.usage.prompt_tokens, near.usage.prompt_tokens);
    near.choices[0].logprobs.content.forEach(
      ({ logprob, token, top_logprobs: top }: Json, i: number) => {
        const told = far.choices[0].logprobs.content[i];
        assertEquals([told.token, told.top_logprobs.length], [token, top.length]);
        assert(Math.abs(told.logprob - logprob) < 1e-5);
      },
    );
    const texts = { model: "up", prompt: "abc", max_tokens: 9, seed };
    const a = await json(await front.post("/v1/completions", texts));
    const b = await json(await direct.post("/v1/completions", { ...texts, model: "m" }));
    assertEquals(a.choices[0].text, b.choices[0].text);
  }
});

Deno.test("beam over a second gateway equals beam on the model; too wide a beam is refused", async () => {
  const { front, direct } = await overGateway();
  const beam = (beams: number) => ({ "X-Decoding-Strategy": `beam;num_beams=${beams}` });
  for (const content of ["a", "bc", "def"]) {
    const body = { messages: [{ role: "user", content }], max_tokens: 10 };
    const far = await front.post("/v1/chat/completions", { ...body, model: "up" }, beam(3));
    const near = await direct.post("/v1/chat/completions", { ...body, model: "m" }, beam(3));
    assertEquals((await json(far)).choices, (await json(near)).choices);
  }
  const wide = await front.post("/v1/chat/completions", chatBody({ model: "up" }), beam(16));
  const { error } = await json(wide);
  assertEquals([wide.status, error.code], [400, "strategy_unsupported"], error.message);
  assertStringIncludes(error.message, "more than 20 alternatives");
});

Deno.test("a cascade from a local model to an upstream, and the other way round", async () => {
  const { gateway, fake } = await overFake();
  const ask = async (model: string, small: string, threshold: number) =>
    await json(
      await gateway.post("/v1/chat/completions", {
        model,
        messages: [{ role: "user", content: "one two" }],
        max_tokens: 12,
        decoding: {
          strategy: "cascade",
          params: { rule: "average", threshold },
          models: { small },
          trace: "summary",
        },
      }),
    );
  const deferred = await ask("up", "hash", 1);
  assertEquals(deferred.decoding.served_by, ["up"]);
  assertEquals(deferred.choices[0].message.content, "one two");
  const kept = await ask("hash", "up", -1e6);
  assertEquals(kept.decoding.served_by, ["up"]);
  assertEquals(kept.choices[0].message.content, "one two");
  // Tokens of the scripted server have -0.25 each.
  assertEquals(kept.decoding.choices[0].score, -0.25);
  const back = await ask("hash", "up", -0.2);
  assertEquals(back.decoding.served_by, ["hash"]);
  assertEquals(fake.open, 0);
});

Deno.test("what a reasoning model thinks is passed on apart from what it says", async () => {
  for (const field of ["reasoning_content", "reasoning"]) {
    const { ask } = await overFake({
      script: ({ body }) =>
        body?.stream
          ? sse([
            dataOf(chunk(0, { role: "assistant", [field]: "" })),
            dataOf(chunk(0, { [field]: "let me " })),
            dataOf(chunk(0, { [field]: "think" })),
            ...chatStream(["four", "teen"]).slice(1),
          ])
          : undefined,
    });
    const { message } = (await json(await ask())).choices[0];
    assertEquals([message.reasoning_content, message.content], ["let me think", "fourteen"]);
    const events = await readEvents(await ask({ stream: true }));
    const thoughts = events.map(({ choices }) => choices[0].delta.reasoning_content ?? "").join("");
    assertEquals([thoughts, streamedTexts(events)], ["let me think", ["fourteen"]]);
  }
});

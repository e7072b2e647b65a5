import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import {
  CapabilityError,
  ClosedError,
  greedySampling,
  type LanguageModel,
  seedFrom,
  UpstreamError,
} from "../../../runtime/mod.ts";
import { fakeUpstream, type FakeUpstreamOptions, sse } from "../../fakes/fake_upstream.ts";
import { hashModel } from "../../fakes/mod.ts";
import { asciiVocab, testGateway } from "../../routes/_support.ts";
import {
  answerOf,
  chatOf,
  openUpstream,
  scopeOf,
  settle,
  testHost,
  type UpstreamInput,
} from "./_support.ts";

async function chatModel(options: FakeUpstreamOptions, input: Partial<UpstreamInput> = {}) {
  const fake = fakeUpstream(options);
  const host = testHost(fake.fetch);
  const upstream = openUpstream(host, input);
  await upstream.probe();
  return { fake, host, upstream, model: upstream.model as LanguageModel<"generate"> };
}

const sampling = { ...greedySampling, temperature: 1, seed: seedFrom(9) };

Deno.test("a probe finds the engine, n and log-probabilities; none of it is assumed", async () => {
  const cases: [FakeUpstreamOptions, string, string, number | null][] = [
    [{}, "openai", "native", 20],
    [{ n: false, logprobs: false }, "openai", "emulated", null],
    [{ ownedBy: "library", n: false, logprobs: false }, "ollama", "emulated", null],
    [{ ownedBy: "vllm" }, "vllm", "native", 20],
  ];
  for (const [options, engine, n, logprobs] of cases) {
    const { upstream } = await chatModel(options);
    const { upstream: status } = upstream.info;
    assertEquals(
      [status?.engine, status?.n, status?.top_logprobs, status?.probed, status?.kind],
      [engine, n, logprobs, true, "chat"],
    );
  }
});

Deno.test("an upstream that is away at the start is probed once it is seen to be well", async () => {
  let isWell = false;
  const { host, upstream } = await chatModel({
    script: () => isWell ? undefined : new Response("starting", { status: 503 }),
  });
  assertEquals(upstream.info.upstream?.probed, false);
  assertEquals(upstream.info.upstream?.replicas[0]?.healthy, false);
  upstream.watch();
  host.clock.advance(10_000);
  await settle();
  isWell = true;
  host.clock.advance(10_000);
  await settle();
  assertEquals(upstream.info.upstream?.probed, true);
  assertEquals(upstream.info.upstream?.replicas[0]?.healthy, true);
  upstream[Symbol.dispose]();
  assertEquals(host.clock.pending, 0);
});

Deno.test("what the configuration declares wins over the probe", async () => {
  const { upstream } = await chatModel({}, {
    capabilities: { n: false, logprobs: -1, sampling: ["top_k"] },
  });
  const { n, top_logprobs: most, sampling } = upstream.info.upstream!;
  assertEquals([n, most, sampling], ["emulated", null, ["top_k"]]);
});

Deno.test("several replicas can do what all of them can", async () => {
  const upstream = openUpstream(
    testHost((url, init) =>
      fakeUpstream({ n: !url.includes("b.test"), logprobs: !url.includes("a.test") }).fetch(
        url,
        init,
      )
    ),
    { replicas: [{ url: "http://a.test/v1" }, { url: "http://b.test/v1" }] },
  );
  await upstream.probe();
  assertEquals([upstream.info.upstream?.n, upstream.info.upstream?.top_logprobs], [
    "emulated",
    null,
  ]);
});

Deno.test("generate() asks with the fields that are in use and no others", async () => {
  const { fake, model } = await chatModel({});
  await answerOf(model, "one two", { sampling: { temperature: 0.5, seed: seedFrom(12345678901) } });
  assertEquals(fake.calls[0]!.body, {
    model: "m",
    messages: [{ role: "user", content: "one two" }],
    temperature: 0.5,
    seed: 12345678901,
    max_tokens: 64,
    stream: true,
    stream_options: { include_usage: true },
  });
});

Deno.test("generate() gives text as it comes, how it ended, and the upstream's count", async () => {
  const { model } = await chatModel({});
  const scope = scopeOf();
  using session = model.session(chatOf("one two three"), { scope });
  const texts: string[] = [];
  const options = { sampling, maxTokens: 2, logprobs: false };
  for await (const { text } of session.generate(options)) texts.push(text!);
  assertEquals([texts.join(""), session.ended], ["one two ", "length"]);
  assertEquals([scope.meter.promptTokens, scope.meter.drawnTokens], [3, 2]);
});

Deno.test("generate() tells tokens with their log-probabilities and bytes", async () => {
  const { model } = await chatModel({});
  using session = model.session(chatOf("é b"));
  const told = [];
  for await (
    const { textLogprobs } of session.generate({
      sampling,
      maxTokens: 9,
      topLogprobs: 1,
      logprobs: true,
    })
  ) told.push(...textLogprobs ?? []);
  assertEquals(told.map(({ token, bytes, logprob, top }) => [token, bytes, logprob, top.length]), [
    ["é ", [195, 169, 32], -0.25, 1],
    ["b", [98], -0.25, 1],
  ]);
});

Deno.test("forks that ask in one turn become one call with n, where the engine has it", async () => {
  for (const n of [true, false]) {
    const { fake, model } = await chatModel({ n });
    using root = model.session(chatOf("one two"));
    const forks = Array.from({ length: 3 }, () => root.fork());
    const texts = await Promise.all(forks.map(async (fork, i) => {
      let text = "";
      const options = {
        sampling: { ...sampling, seed: seedFrom(i) },
        maxTokens: 9,
        logprobs: false,
      };
      for await (const piece of fork.generate(options)) text += piece.text;
      fork[Symbol.dispose]();
      return text;
    }));
    assertEquals(fake.calls.map(({ body }) => body.n ?? 1), n ? [3] : [1, 1, 1]);
    assertEquals(texts, n ? ["one two", "ONE TWO", "ONE TWO"] : ["one two", "one two", "one two"]);
    if (!n) assertEquals(fake.calls.map(({ body }) => body.seed), [0, 1, 2]);
    assertEquals(fake.open, 0);
  }
});

Deno.test("one of several that leaves does not stop the others; the last one ends the call", async () => {
  // More than is read ahead.
  const { fake, model } = await chatModel({ pieces: () => Array(2000).fill("a") });
  using root = model.session(chatOf("x"));
  const other = root.fork();
  const options = { sampling, maxTokens: 3000, logprobs: false };
  const [a, b] = [root, other].map((one) => one.generate(options)[Symbol.asyncIterator]());
  const [first] = await Promise.all([a!.next(), b!.next()]);
  assert(first.value?.text?.startsWith("a"));
  await a!.return!();
  assert((await b!.next()).value?.text?.startsWith("a"));
  assertEquals(fake.open, 1);
  other[Symbol.dispose]();
  assertEquals(fake.open, 0);
});

Deno.test("one choice that ends early does not wait for another's end", async () => {
  const { model } = await chatModel({
    pieces: (_, choice) => choice === 0 ? ["a"] : Array(2000).fill("a"),
  });
  using root = model.session(chatOf("x"));
  using other = root.fork();
  const options = { sampling, maxTokens: 3000, logprobs: false };
  const [a, b] = [root, other].map((one) => one.generate(options)[Symbol.asyncIterator]());
  const [, first] = await Promise.all([a!.next(), b!.next()]);
  assertEquals((await a!.next()).done, true);
  let text = first.value!.text!;
  assert(text.length < 2000, "all of it was read before");
  for (let next = await b!.next(); !next.done; next = await b!.next()) text += next.value.text;
  assertEquals(text.length, 2000);
});

Deno.test("a chat can be answered once, and not edited; token prompts are refused", async () => {
  const { model } = await chatModel({});
  const session = model.session(chatOf("x"));
  const read = async () => {
    for await (const _ of session.generate({ sampling, maxTokens: 1 })) { /* to the end */ }
  };
  await read();
  await assertRejects(read, ClosedError, "once");
  session[Symbol.dispose]();
  assertThrows(() => session.fork(), ClosedError);
  assertThrows(() => model.session([1, 2]), CapabilityError, "token ids");
});

Deno.test("an upstream that leaves log-probabilities out although it has them is an error", async () => {
  const { model } = await chatModel({
    script: ({ body }) =>
      body?.stream ? sse(['data: {"choices":[{"delta":{"content":"a"}}]}\n\n']) : undefined,
  });
  using session = model.session(chatOf("x"));
  await assertRejects(
    async () => {
      for await (const _ of session.generate({ sampling, maxTokens: 1, logprobs: true })) { /* */ }
    },
    UpstreamError,
    "no log-probabilities",
  );
});

/** A gateway of our own over a fake model, as the upstream of a model with token ids. */
async function ownGateway(options: Parameters<typeof hashModel>[0] = {}) {
  const local = hashModel({ id: "m", vocab: asciiVocab, stopBias: 0.5, ...options });
  const gateway = testGateway({ models: [local] });
  const host = testHost(async (url, init) => await gateway.app.request(url, init));
  const upstream = openUpstream(host, { engine: "auto" }, asciiVocab);
  await upstream.probe();
  return { local, upstream, model: upstream.model as LanguageModel<"generate" | "edit" | "topk"> };
}

Deno.test("a second gateway: found out to be one, with token ids and log-probabilities", async () => {
  const { upstream, model, local } = await ownGateway();
  const { engine, kind, n, top_logprobs: most, sampling } = upstream.info.upstream!;
  assertEquals([engine, kind, n, most], ["decant", "completions", "native", 20]);
  assertEquals(sampling.length, 4);
  assertEquals([...model.capabilities].sort(), ["edit", "generate", "topk"]);
  assertEquals([model.contextLength, model.vocab], [local.contextLength, asciiVocab]);
});

Deno.test("a second gateway: generate() gives the tokens of the model itself, seed by seed", async () => {
  const { local, model } = await ownGateway();
  for (let seed = 0; seed < 12; seed++) {
    const options = {
      sampling: { ...sampling, topK: 9, seed: seedFrom(seed) },
      maxTokens: 20,
      topLogprobs: 3,
    };
    using near = local.session(chatOf(`${seed}`));
    using far = model.session(chatOf(`${seed}`));
    const drawn = { near: [] as number[], far: [] as number[] };
    const sums = { near: 0, far: 0 };
    for await (const { token, logprob, top } of far.generate(options)) {
      drawn.far.push(token);
      sums.far += logprob;
      assertEquals(top.length, 3);
      assert(top[0]!.logprob >= logprob);
    }
    for await (const { token, logprob } of near.generate(options)) {
      if (asciiVocab.stopTokens.has(token)) break; // the wire does not show it
      drawn.near.push(token);
      sums.near += logprob;
    }
    assertEquals(drawn.far, drawn.near);
    assert(Math.abs(sums.far - sums.near) < 1e-4);
    assertEquals(far.ended, drawn.far.length === 20 ? "length" : "stop");
  }
});

Deno.test("a second gateway: topk() is the model's, the rest of the mass is said", async () => {
  const { local, model } = await ownGateway();
  using near = local.session(chatOf("q"));
  using far = model.session(chatOf("q"));
  const [[a], [b]] = await Promise.all([near.topk(5), far.topk(5)]);
  assertEquals(b!.candidates.map(({ token }) => token), a!.candidates.map(({ token }) => token));
  b!.candidates.forEach(({ logprob }, i) =>
    assert(Math.abs(logprob - a!.candidates[i]!.logprob) < 1e-5)
  );
  assert(Math.abs(a!.rest - b!.rest) < 1e-5);
  await assertRejects(() => far.topk(5, { last: 2 }), RangeError);
});

Deno.test("a second gateway: sessions are values", async () => {
  const { model } = await ownGateway();
  using session = model.session([1, 2, 3], { rollback: 1 });
  session.append([4, 5]);
  using fork = session.fork();
  fork.append([6]);
  assertEquals([session.tokens, fork.tokens], [[1, 2, 3, 4, 5], [1, 2, 3, 4, 5, 6]]);
  for await (const _ of session.generate({ sampling, maxTokens: 5 })) break;
  assertEquals([session.length, session.committed], [6, 4]);
  session.truncate(5);
  await session.topk(1);
  session.truncate(4);
  assertThrows(() => session.truncate(3), RangeError);
  assertThrows(() => session.append([asciiVocab.size]), RangeError);
});

Deno.test("health: a path of the server's root, and any answer below 500 will do", async () => {
  const asked: string[] = [];
  const host = testHost((url) => {
    asked.push(url);
    return Promise.resolve(new Response("", { status: asked.length > 1 ? 503 : 204 }));
  });
  const upstream = openUpstream(host, {
    health: { path: "/health", interval_ms: 100 },
    probe: false,
  });
  upstream.watch();
  host.clock.advance(100);
  await settle();
  assertEquals(asked[0], "http://a.test/health");
  assertEquals(upstream.info.upstream?.replicas[0]?.healthy, false); // nothing was listed
  upstream[Symbol.dispose]();
  assertEquals(host.clock.pending, 0);
});

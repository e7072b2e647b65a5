/** The form of `cautious-ntp` for models that tell their likeliest tokens but no logits. */
import { assert, assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import { CapabilityError, choiceConstraint, entropy, seedFrom, topK } from "../../runtime/mod.ts";
import { entropyBelow } from "../../strategies/_trials_topk.ts";
import { runStrategy } from "../../strategies/mod.ts";
import { requestOf, type RequestOverrides, runToEnd } from "../conformance/_strategy_run.ts";
import { fakeVocab, hashModel, tableModel } from "../fakes/mod.ts";
import { openUpstream, testHost } from "../runtime/upstream/_support.ts";
import { asciiVocab, type Json, testGateway } from "../routes/_support.ts";
import { assertDistribution } from "../_statistics.ts";

const capabilities = ["generate", "edit", "topk"] as const;
const remote = (options: Parameters<typeof hashModel>[0] = {}) =>
  hashModel({ stopBias: 0.5, capabilities, ...options });

const run = (
  model: ReturnType<typeof hashModel>,
  params: Record<string, unknown>,
  overrides: RequestOverrides = {},
) => runToEnd(requestOf("cautious-ntp", model, { params, ...overrides }));

Deno.test("entropyBelow() is at most the entropy, and all of it where everything is seen", () => {
  for (let seed = 0; seed < 20; seed++) {
    const row = Float32Array.from({ length: 12 }, (_, i) => Math.sin(seed * 7 + i * i) * 4);
    const exact = entropy(row);
    let before = -1;
    for (let k = 1; k <= 12; k++) {
      const bound = entropyBelow(topK(row, k).candidates);
      assert(bound <= exact + 1e-6 && bound >= before - 1e-6, `${k}: ${bound} of ${exact}`);
      before = bound;
    }
    assertAlmostEquals(before, exact, 1e-5);
  }
  assertEquals(entropyBelow([{ token: 1, logprob: 0 }]), 0);
});

Deno.test("cautious-ntp, top-k form: one trial everywhere is sample, token for token", async () => {
  for (let seed = 1; seed <= 15; seed++) {
    const overrides = {
      sampling: { seed: seedFrom(seed), topP: 0.9 },
      prompt: [seed],
      choices: 2,
      logprobs: 2,
      stop: ["ab"],
    };
    const cautious = await run(remote(), { n_max: 1 }, overrides);
    const plain = await runToEnd(requestOf("sample", remote(), overrides));
    assertEquals(cautious.choices, plain.choices);
    assertEquals(cautious.result.metrics.topk_form, 1);
  }
});

Deno.test("cautious-ntp, top-k form: the least surprising trial wins, whole clauses come out", async () => {
  let branchings = 0;
  for (let seed = 1; seed <= 25; seed++) {
    const model = remote();
    const { result, choices: [choice], events } = await run(
      model,
      { n_max: 4, stop_chars: "aeg " },
      {
        sampling: { seed: seedFrom(seed) },
        prompt: [seed % 17],
        trace: "steps",
      },
    );
    const promptTokens = [seed % 17];
    for (const step of result.steps) {
      const trials = step.trials as { tokens: number[]; perplexity: number }[];
      const least = Math.min(...trials.map(({ perplexity }) => perplexity));
      assertEquals(trials[Number(step.winner)]!.perplexity, least);
      const start = Number(step.position);
      const kept = trials[Number(step.winner)]!.tokens;
      const shown = choice!.tokens.slice(start, start + kept.length);
      assertEquals(shown, kept.slice(0, shown.length));
      using session = hashModel({ stopBias: 0.5 }).session([
        ...promptTokens,
        ...choice!.tokens.slice(0, start),
        ...kept,
      ]);
      const scores = await session.score({ last: kept.length });
      const sum = scores.reduce((total, score) => total + score, 0);
      assertAlmostEquals(Math.exp(-sum / kept.length), least, 1e-4);
      branchings++;
    }
    assertEquals(result.metrics.branchings, result.steps.length);
    assert(result.usage.drawnTokens >= result.usage.completionTokens);
    assertEquals([model.stats.openSessions, model.stats.pendingAsks], [0, 0]);
    assert(events.length > 0);
  }
  assert(branchings > 30, `${branchings} branchings`);
});

Deno.test("cautious-ntp, top-k form: choices of one token follow the closed form", async () => {
  const vocab = fakeVocab({ pieces: [..."abcd"] });
  const mass = { a: 0.4, b: 0.3, c: 0.2, d: 0.1 };
  const model = tableModel({ vocab, table: { "": mass }, capabilities });
  const n = 3;
  const counts = [0, 0, 0, 0];
  for (let seed = 0; seed < 1500; seed++) {
    const { choices } = await runToEnd(requestOf("cautious-ntp", model, {
      params: { n_max: n, schedule: "fixed", stop_chars: "abcd" },
      sampling: { seed: seedFrom(seed) },
      prompt: [0],
      maxTokens: 1,
    }));
    counts["abcd".indexOf(choices[0]!.text)]!++;
  }
  const masses = Object.values(mass);
  const upTo = (v: number) => masses.filter((p) => p <= v + 1e-12).reduce((a, b) => a + b, 0);
  const below = (v: number) => masses.filter((p) => p < v - 1e-12).reduce((a, b) => a + b, 0);
  assertDistribution(counts, masses.map((p) => upTo(p) ** n - below(p) ** n), 1e-6);
});

Deno.test("cautious-ntp, top-k form: what it cannot do is refused", () => {
  const model = remote();
  const refuse = (params: Record<string, unknown>, overrides: RequestOverrides = {}) =>
    assertThrows(
      () => runStrategy(requestOf("cautious-ntp", model, { params, ...overrides })),
      CapabilityError,
      "logits",
    );
  refuse({ scope: "warped" });
  refuse({}, { constraint: choiceConstraint(model.vocab, ["ab"]) });
  assertEquals(model.stats.steps, 0);
});

Deno.test("cautious-ntp over an upstream: trials are one call with n, metadata say which form ran", async () => {
  const behind = testGateway({
    models: [hashModel({ id: "m", vocab: asciiVocab, stopBias: -1 })],
  });
  const calls: Json[] = [];
  const host = testHost(async (url, init) => {
    if (typeof init.body === "string") calls.push(JSON.parse(init.body));
    return await behind.app.request(url, init);
  });
  const upstream = openUpstream(host, {}, asciiVocab);
  await upstream.probe();
  calls.length = 0;
  const front = testGateway({
    models: [upstream.model],
    info: { up: { upstream: upstream.info.upstream!, servedBy: "up" } },
  });
  const response = await front.post("/v1/chat/completions", {
    model: "up",
    messages: [{ role: "user", content: "go" }],
    max_tokens: 20,
    seed: 4,
    logprobs: true,
    top_logprobs: 2,
    decoding: {
      strategy: "cautious-ntp",
      params: { n_max: 4, stop_chars: "aeiou .", trial_max_tokens: 8 },
      trace: "steps",
    },
  });
  const body: Json = await response.json();
  assertEquals(response.status, 200, JSON.stringify(body));
  const { metrics, steps } = body.decoding;
  assertEquals(metrics.topk_form, 1);
  assert(metrics.branchings > 0 && steps.length === metrics.branchings);
  assertEquals(calls.filter(({ n }) => n > 1).length, metrics.branchings);
  assert(calls.every(({ logprobs, max_tokens }) => logprobs === 20 && max_tokens <= 20));
  const text = body.choices[0].logprobs.content.map(({ token }: Json) => token).join("");
  assertEquals(text, body.choices[0].message.content);
});

/** Roles that only some parameters use, over HTTP. */
import { assertEquals } from "@std/assert";
import { fakeVocab } from "../fakes/mod.ts";
import { chatBody, chatModel, type GatewayOptions, type Json, testGateway } from "./_support.ts";

const path = "/v1/chat/completions";
const options: GatewayOptions = {
  models: [
    chatModel(),
    chatModel({ id: "small", seed: 2 }),
    chatModel({ id: "foreign", vocab: fakeVocab() }),
  ],
};

async function answer(decoding: Json, given: GatewayOptions = options) {
  const body = chatBody({ seed: 3, decoding: { trace: "summary", ...decoding } });
  const response = await testGateway(given).post(path, body);
  const { error, decoding: told, choices } = await response.json();
  return {
    refusal: [response.status, error?.code, error?.param],
    models: told?.models,
    metrics: told?.metrics,
    text: choices?.[0].message.content,
  };
}

Deno.test("a draft model is named by the request or belongs to the model; without one it is missing", async () => {
  const strategy = "speculative";
  const plain = await answer({ strategy: "sample" });
  const named = await answer({ strategy, models: { draft: "small" } });
  assertEquals([named.refusal[0], named.text], [200, plain.text]);
  const owned = await answer({ strategy }, { ...options, info: { hash: { draft: "small" } } });
  assertEquals([owned.refusal[0], owned.text], [200, plain.text]);
  assertEquals((await answer({ strategy })).refusal, [
    400,
    "missing_required_parameter",
    "decoding.models.draft",
  ]);
});

Deno.test("a table drafts without a model, and a draft model named beside it is refused", async () => {
  const decoding = { strategy: "speculative", params: { draft: "prompt-lookup" } };
  const table = await answer(decoding, { ...options, info: { hash: { draft: "small" } } });
  assertEquals(table.refusal[0], 200);
  assertEquals((await answer({ ...decoding, models: { draft: "small" } })).refusal, [
    400,
    "invalid_value",
    "decoding.models.draft",
  ]);
});

Deno.test("a model with another vocabulary is refused by its role", async () => {
  const draft = { strategy: "speculative", models: { draft: "foreign" } };
  assertEquals((await answer(draft)).refusal, [400, "invalid_value", "decoding.models.draft"]);
  const ensemble = {
    strategy: "speculative-ensemble",
    params: { models: 3 },
    models: { expert2: "small", expert3: "foreign" },
  };
  assertEquals((await answer(ensemble)).refusal, [400, "invalid_value", "decoding.models.expert3"]);
});

Deno.test("an ensemble takes as many models as its parameters say", async () => {
  const strategy = "speculative-ensemble";
  const expert2 = { expert2: "small" };
  assertEquals((await answer({ strategy, models: expert2 })).refusal[0], 200);
  assertEquals((await answer({ strategy, params: { models: 3 }, models: expert2 })).refusal, [
    400,
    "missing_required_parameter",
    "decoding.models.expert3",
  ]);
  const models = { ...expert2, expert3: "hash" };
  assertEquals((await answer({ strategy, models })).refusal[2], "decoding.models.expert3");
  assertEquals((await answer({ strategy, params: { models: 3 }, models })).refusal[0], 200);
});

Deno.test("the list of strategies tells optional roles and which models can take them", async () => {
  const response = await testGateway(options).get("/v1/strategies/speculative");
  const { needs, optional_needs: optional, models } = await response.json();
  assertEquals(Object.keys(needs), ["model"]);
  assertEquals(Object.keys(optional), ["draft"]);
  assertEquals(models.draft, ["hash", "small", "foreign"]);
});

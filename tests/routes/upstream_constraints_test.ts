// deno-lint-ignore-file camelcase -- names as on the wire
/** Constraints that upstreams honour by themselves: told in their words, checked when the text is finished. */
import { assert, assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import type { ConstraintSpec } from "../../runtime/mod.ts";
import { formatFields, takesFormat } from "../../runtime/upstream/formats.ts";
import { profileOf } from "../../runtime/upstream/profile.ts";
import { fakeUpstream, type FakeUpstreamOptions } from "../fakes/fake_upstream.ts";
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

const path = "/v1/chat/completions";
const schema = { type: "object", properties: { a: { type: "integer" } }, required: ["a"] };
const json_schema = { name: "x", schema };
const response_format = { type: "json_schema", json_schema };
const json = async (response: Response): Promise<Json> => await response.json();

async function overFake(options: FakeUpstreamOptions, input: Partial<UpstreamInput> = {}) {
  const fake = fakeUpstream(options);
  const upstream = openUpstream(testHost(fake.fetch), input);
  await upstream.probe();
  const gateway = testGateway({
    models: [upstream.model, hashModel({ id: "hash", vocab: asciiVocab })],
    info: { up: { upstream: upstream.info.upstream!, servedBy: "up" } },
  });
  const ask = (extra: Record<string, unknown>, headers: Record<string, string> = {}) =>
    gateway.post(path, { ...chatBody({ model: "up" }), ...extra }, headers);
  return { fake, gateway, ask };
}

const engines = ["vllm", "sglang", "llama.cpp", "ollama", "openai", "decant"] as const;
const forms: Readonly<Record<ConstraintSpec["kind"], ConstraintSpec>> = {
  json_schema: { kind: "json_schema", schema, allowsSpace: true },
  regex: { kind: "regex", pattern: "a+" },
  choice: { kind: "choice", choices: ["a.b", 'say "c"'] },
  grammar: { kind: "grammar", grammar: 'root ::= "a"' },
};
const schemaFormat = {
  response_format: { type: "json_schema", json_schema: { name: "answer", schema } },
};
const structured = {
  json_schema: { structured_outputs: { json: schema } },
  regex: { structured_outputs: { regex: "a+" } },
  choice: { structured_outputs: { choice: ["a.b", 'say "c"'] } },
  grammar: { structured_outputs: { grammar: 'root ::= "a"' } },
};
const expected: Readonly<Record<string, Readonly<Record<string, unknown>>>> = {
  vllm: structured,
  decant: structured,
  sglang: {
    json_schema: schemaFormat,
    regex: { regex: "a+" },
    choice: { regex: '(?:a\\.b|say "c")' },
    grammar: { ebnf: 'root ::= "a"' },
  },
  "llama.cpp": {
    json_schema: { json_schema: schema },
    choice: { grammar: 'root ::= "a.b" | "say \\"c\\""' },
    grammar: { grammar: 'root ::= "a"' },
  },
  ollama: { json_schema: schemaFormat },
  openai: { json_schema: schemaFormat },
};

Deno.test("formatFields() says each form in each engine's words, takesFormat() which it has", () => {
  const kinds = Object.keys(forms) as ConstraintSpec["kind"][];
  for (const engine of engines) {
    const profile = profileOf(engine);
    const said = kinds.filter((kind) => takesFormat(profile, forms[kind]))
      .map((kind) => [kind, formatFields("chat", engine, forms[kind])]);
    assertEquals(Object.fromEntries(said), expected[engine], engine);
  }
  assertThrows(() => formatFields("chat", "openai", forms.regex), RangeError);
  assertThrows(() => formatFields("chat", "llama.cpp", forms.regex), RangeError);
  assertEquals(formatFields("completions", "sglang", forms.json_schema), {
    json_schema: JSON.stringify(schema),
  });
});

Deno.test("JSON without white space is asked for only where it can be said", () => {
  const dense: ConstraintSpec = { kind: "json_schema", schema, allowsSpace: false };
  assertEquals(formatFields("chat", "vllm", dense), {
    structured_outputs: { json: schema, disable_any_whitespace: true },
  });
  for (const engine of ["sglang", "llama.cpp", "openai"] as const) {
    assert(!takesFormat(profileOf(engine), dense), engine);
  }
});

Deno.test("a chat upstream is told the constraint; strategies that leave it decoding work under it", async () => {
  const { fake, ask } = await overFake({ ownedBy: "vllm", pieces: () => ['{"a"', ": 4}"] });
  const strategies = ["greedy", "sample", "best-of-n;num_samples=2", "self-consistency"];
  for (const strategy of strategies) {
    const answer = await ask({ response_format }, { "X-Decoding-Strategy": strategy });
    assertEquals(answer.status, 200, strategy);
    const [choice] = (await json(answer)).choices;
    assertEquals([choice.message.content, choice.finish_reason], ['{"a": 4}', "stop"]);
    assertEquals(fake.calls.at(-1)!.body.structured_outputs, { json: schema });
  }
  const events = await readEvents(await ask({ response_format, stream: true }));
  assertEquals(streamedTexts(events), ['{"a": 4}']);
  assertEquals(fake.open, 0);
});

Deno.test("an upstream that does not keep to the constraint never ends with stop", async () => {
  const { fake, ask } = await overFake({ pieces: () => ["it is ", "4"] });
  const whole = await ask({ response_format });
  assertEquals([whole.status, (await json(whole)).error.code], [500, "engine_error"]);
  const events = await readEvents(await ask({ response_format, stream: true }));
  assertEquals(events.at(-1)!.error.code, "engine_error");
  assert(events.every(({ choices }) => !choices?.[0]?.finish_reason));
  const cut = await json(await ask({ response_format, max_tokens: 1 }));
  assertEquals(cut.choices[0].finish_reason, "length");
  assertEquals(fake.open, 0);
});

Deno.test("constraints that an upstream does not know are refused before any call, by name", async () => {
  const { fake, ask } = await overFake({});
  const cases: [Record<string, unknown>, string, string, string][] = [
    [{ structured_outputs: { regex: "a+" } }, "sample", "strategy_unsupported", "kind regex"],
    [{ structured_outputs: { choice: ["a"] } }, "sample", "strategy_unsupported", "kind choice"],
    [{ response_format }, "beam", "strategy_unsupported", "edit"],
    [
      { response_format: { ...response_format, json_schema: { name: "x", schema: { type: 7 } } } },
      "sample",
      "invalid_schema",
      "type",
    ],
  ];
  for (const [extra, strategy, code, missing] of cases) {
    const response = await ask(extra, { "X-Decoding-Strategy": strategy });
    const { error } = await json(response);
    assertEquals([response.status, error.code], [400, code], error.message);
    assertStringIncludes(error.message, missing);
  }
  assertEquals(fake.calls.length, 0);
  const { ask: declared } = await overFake({ pieces: () => ["aa"] }, {
    engine: "vllm",
    capabilities: { formats: ["json_schema"] },
  });
  assertEquals((await declared({ structured_outputs: { regex: "a+" } })).status, 400);
});

Deno.test("a cascade masks its local model and tells its upstream", async () => {
  const { fake, gateway } = await overFake({ ownedBy: "vllm", pieces: () => ["yes"] });
  const ask = async (threshold: number) => {
    const body = {
      ...chatBody({ model: "up" }),
      structured_outputs: { choice: ["yes", "no"] },
      decoding: {
        strategy: "cascade",
        params: { rule: "average", threshold },
        models: { small: "hash" },
        trace: "summary",
      },
    };
    return await json(await gateway.post(path, body));
  };
  const far = await ask(1);
  assertEquals([far.decoding.served_by, far.choices[0].message.content], [["up"], "yes"]);
  assertEquals(fake.calls.at(-1)!.body.structured_outputs, { choice: ["yes", "no"] });
  const near = await ask(-1e6);
  assertEquals(near.decoding.served_by, ["hash"]);
  assert(["yes", "no"].includes(near.choices[0].message.content), near.choices[0].message.content);
});

Deno.test("a second gateway under a constraint answers as the model itself does", async () => {
  const make = () => hashModel({ id: "m", vocab: asciiVocab, stopBias: 0.5 });
  const behind = testGateway({ models: [make()] });
  const host = testHost(async (url, init) => await behind.app.request(url, init));
  const upstream = openUpstream(host, {}, asciiVocab);
  await upstream.probe();
  const front = testGateway({
    models: [upstream.model],
    info: { up: { upstream: upstream.info.upstream!, servedBy: "up" } },
  });
  const direct = testGateway({ models: [make()] });
  const seen = new Set<string>();
  for (let seed = 1; seed <= 6; seed++) {
    for (
      const extra of [
        { response_format },
        { structured_outputs: { regex: "[ab]{3}" } },
        { structured_outputs: { choice: ["left", "right"] } },
        { structured_outputs: { grammar: 'root ::= "x" ("y" | "z")' } },
      ]
    ) {
      const body = { ...extra, seed, max_tokens: 40 };
      const far = await json(await front.post(path, chatBody({ ...body, model: "up" })));
      const near = await json(await direct.post(path, chatBody({ ...body, model: "m" })));
      assertEquals(far.choices, near.choices);
      seen.add(far.choices[0].message.content);
    }
  }
  assert(seen.size > 8, "seeds give different texts");
});

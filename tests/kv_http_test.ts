// deno-lint-ignore-file camelcase -- names as on the wire
/** KV policies over HTTP, on the embedded model. */
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { createGateway } from "../mod.ts";
import { listPolicies } from "../runtime/mod.ts";

async function withGateway(run: (ask: Ask) => Promise<void>): Promise<void> {
  await using gateway = await createGateway({ models: ["decant-tiny"] }, { thread: "own" });
  await run(async (kv, body = {}) => {
    const response = await gateway.fetch(
      new Request("http://localhost/v1/completions", {
        method: "POST",
        headers: { "content-type": "application/json", ...kv ? { "x-kv-policy": kv } : {} },
        body: JSON.stringify({
          model: "decant-tiny",
          prompt,
          max_tokens: 24,
          temperature: 0,
          ...body,
        }),
      }),
    );
    return {
      status: response.status,
      policy: response.headers.get("x-kv-policy"),
      json: await response.json(),
    };
  });
}

// deno-lint-ignore no-explicit-any -- parsed JSON, read field by field
type Answer = { status: number; policy: string | null; json: any };
type Ask = (kv?: string, body?: Record<string, unknown>) => Promise<Answer>;

const prompt = "Once upon a time there was a little girl. She had a red ball. ".repeat(8);

Deno.test("a policy is answered in the header, and usage tells what the cache held", async () => {
  await withGateway(async (ask) => {
    const full = await ask("full");
    assertEquals([full.status, full.policy], [200, "full"]);
    assertEquals(full.json.usage.decoding.kv_ratio, 1);
    const named = await ask("streaming;window=32;sinks=4");
    assertEquals(named.status, 200, JSON.stringify(named.json));
    assertStringIncludes(named.policy!, "streaming;sinks=4;window=32");
    const { kv_tokens_kept, kv_bytes_peak, kv_ratio } = named.json.usage.decoding;
    assert(kv_tokens_kept <= 4 + 32 + 15, `${kv_tokens_kept} kept`);
    assert(kv_ratio < 0.5 && kv_bytes_peak < full.json.usage.decoding.kv_bytes_peak);
    assertEquals((await ask()).json.usage.decoding, undefined);
  });
});

Deno.test("every policy that the listing offers runs; at a budget above the length as the full cache", async () => {
  await withGateway(async (ask) => {
    const full = (await ask()).json.choices[0].text;
    const generous: Record<string, string> = {
      streaming: ";window=800",
      sepllm: ";window=800",
      quest: ";budget=900",
    };
    const scored = ["h2o", "tova", "snapkv", "pyramidkv", "expected-attention", "key-norm"];
    for (const name of [...scored, "key-diff"]) generous[name] = ";budget=900;window=8";
    for (const { name } of listPolicies()) {
      const answer = await ask(name);
      assert(answer.status === 200 || answer.json.error.code === "strategy_unsupported", name);
      const wide = generous[name];
      if (wide !== undefined) {
        assertEquals((await ask(name + wide)).json.choices[0].text, full, name);
      }
    }
  });
});

const refusals: readonly [string, string][] = [
  ["nope", "X-KV-Policy"],
  ["h2o;budget=0", "X-KV-Policy"],
  ["h2o;budget=-5", "X-KV-Policy"],
  ["h2o;budget=10;window=32", "X-KV-Policy"],
  ["streaming;window=5000", "X-KV-Policy"],
  ["streaming;colour=red", "X-KV-Policy"],
  ["streaming;positions=cache;format=int8", "X-KV-Policy"],
  ["sepllm;mode=stream;capacity=100", "X-KV-Policy"],
];

Deno.test("what a policy cannot do is refused with the field, never replaced by the full cache", async () => {
  await withGateway(async (ask) => {
    for (const [kv, param] of refusals) {
      const { status, json } = await ask(kv);
      assertEquals([status, json.error?.param], [400, param], `${kv}: ${JSON.stringify(json)}`);
    }
    const inBody = (name: string, params = {}) =>
      ask(undefined, { decoding: { kv_policy: { name, params } } });
    const fields = [
      await inBody("h2o", { budget: 0 }),
      await inBody("streaming", { window: 5000 }),
      await inBody("nope"),
    ].map(({ json }) => json.error.param);
    assertEquals(fields, [
      "decoding.kv_policy.params.budget",
      "decoding.kv_policy.params.window",
      "decoding.kv_policy.name",
    ]);
  });
});

Deno.test("GET /v1/kv-policies lists policies with schemas and the models that can run them", async () => {
  await using gateway = await createGateway({ models: ["decant-tiny"] }, { thread: "own" });
  const response = await gateway.fetch(new Request("http://localhost/v1/kv-policies"));
  const { data } = await response.json();
  assertEquals(data.map((one: { name: string }) => one.name), listPolicies().map((p) => p.name));
  const h2o = data.find((one: { name: string }) => one.name === "h2o");
  assertEquals(h2o.models, ["decant-tiny"]);
  assertEquals(h2o.params.properties.budget.minimum, 1);
  const quest = data.find((one: { name: string }) => one.name === "quest");
  assertEquals([quest.family, quest.frees_memory], ["read-sparsity", false]);
});

Deno.test("a stream policy answers beyond the model's context, others are refused", async () => {
  await withGateway(async (ask) => {
    const long = { prompt: prompt.repeat(9), max_tokens: 8 }; // about 1,250 tokens
    const refused = await ask("streaming;window=64", long);
    assertEquals([refused.status, refused.json.error.code], [400, "context_length_exceeded"]);
    const stream = await ask("sepllm;mode=stream;window=64;separators=32;capacity=256", long);
    assertEquals(stream.status, 200, JSON.stringify(stream.json));
    assert(stream.json.usage.prompt_tokens > 1024);
    assert(stream.json.usage.decoding.kv_tokens_kept <= 256);
    assert(stream.json.usage.decoding.kv_ratio < 0.25);
  });
});

Deno.test("policies combine with strategies that fork, roll back and draw", async () => {
  await withGateway(async (ask) => {
    const strategies = [
      { strategy: "beam", params: { num_beams: 3 } },
      { strategy: "best-of-n", params: { num_samples: 2 } },
      { strategy: "speculative", params: { draft: "prompt-lookup" } },
      { strategy: "diverse-beam", params: { num_beams: 4, num_groups: 2 } },
    ];
    const policies = ["h2o;budget=64;window=16", "int8", "streaming;window=40", "snapkv;budget=60"];
    for (const decoding of strategies) {
      for (const kv of policies) {
        const { status, json } = await ask(kv, { decoding, max_tokens: 12 });
        assertEquals(status, 200, `${kv} ${JSON.stringify(decoding)} ${JSON.stringify(json)}`);
        assert(json.usage.decoding.kv_ratio < 1, kv);
      }
    }
  });
});

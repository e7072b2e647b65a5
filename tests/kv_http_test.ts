// deno-lint-ignore-file camelcase -- names as on the wire
/** KV policies over HTTP, on the embedded model. */
import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { createGateway, type Gateway } from "../mod.ts";
import { listPolicies } from "../runtime/mod.ts";

const model = "decant-tiny";

async function withGateway(run: (ask: Ask) => Promise<void>): Promise<void> {
  await using gateway = await createGateway({ models: [model] }, { thread: "own" });
  await run(askOf(gateway));
}

function askOf(gateway: Gateway): Ask {
  return async (kv, body = {}) => {
    const response = await gateway.fetch(
      new Request("http://localhost/v1/completions", {
        method: "POST",
        headers: { "content-type": "application/json", ...kv ? { "x-kv-policy": kv } : {} },
        body: JSON.stringify({
          model,
          prompt,
          max_tokens: 24,
          temperature: 0,
          ...body,
        }),
      }),
    );
    const text = await response.text();
    return {
      status: response.status,
      policy: response.headers.get("x-kv-policy"),
      text,
      json: JSON.parse(text),
    };
  };
}

// deno-lint-ignore no-explicit-any -- parsed JSON, read field by field
type Answer = { status: number; policy: string | null; text: string; json: any };
type Ask = (kv?: string, body?: Record<string, unknown>) => Promise<Answer>;

/** One entry of `GET /v1/kv-policies`. */
interface Listed {
  readonly name: string;
  readonly models: readonly string[];
  readonly unavailable: Readonly<Record<string, string>>;
  readonly frees_memory: boolean;
}

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
    const learned = await ask("nats", { max_tokens: 1 });
    assertMatch(learned.policy!, /^nats;.*window=\d+/, "the window of the router");
  });
});

Deno.test("every policy of the registry runs in one process with its defaults and tells what it held", async () => {
  await using gateway = await createGateway({ models: [model] }, { thread: "own" });
  const ask = askOf(gateway), long = { prompt: prompt.repeat(2), max_tokens: 24, ignore_eos: true };
  const response = await gateway.fetch(new Request("http://localhost/v1/kv-policies"));
  const listed: readonly Listed[] = (await response.json()).data;
  const full = (await ask("full", long)).json.usage;
  for (const policy of listPolicies()) {
    const { models, unavailable, frees_memory } = listed.find((one) => one.name === policy.name)!;
    const answer = await ask(policy.name, long), label = `${policy.name}: ${answer.text}`;
    if (!models.includes(model)) {
      // The only thing that the embedded model may lack.
      assertStringIncludes(unavailable[model]!, `no adapter "${policy.adapter}"`);
      assertEquals([answer.status, answer.json.error.param], [400, "X-KV-Policy"], label);
      continue;
    }
    assertEquals(answer.status, 200, label);
    const [name, ...params] = answer.policy!.split(";");
    assertEquals(name, policy.name);
    for (const [param, value] of Object.entries(Object(policy.params.parse({})))) {
      assert(params.includes(`${param}=${value}`), `${label} is answered without ${param}`);
    }
    const { kv_tokens_kept, kv_bytes_peak, kv_ratio } = answer.json.usage.decoding;
    const most = full.decoding;
    assert(kv_tokens_kept > 0 && kv_tokens_kept <= most.kv_tokens_kept, label);
    assert(kv_bytes_peak > 0, label);
    // Methods that choose what is read keep everything; all others drop or shrink something here.
    if (frees_memory) assert(kv_ratio > 0 && kv_ratio < 1, label);
    else assertEquals([kv_tokens_kept, kv_ratio], [most.kv_tokens_kept, 1], label);
  }
  assertEquals(
    full.decoding.kv_tokens_kept,
    full.total_tokens - 1,
    "the last token is not computed",
  );
});

/** Nothing is dropped or left out within the prompt and answer of these tests. */
const generous: readonly string[] = [
  "full",
  "streaming;window=800",
  "streaming;window=800;positions=cache",
  "sepllm;window=800",
  "sepllm;window=800;mode=stream;capacity=1000",
  ...["h2o", "tova", "snapkv", "pyramidkv", "expected-attention", "key-norm", "key-diff"]
    .map((name) => `${name};budget=900;window=8`),
  "quest;budget=900",
  "nats;global_bias=1000",
  "tokenbutler;budget=900",
  ...["mean-rows", "last-row", "network"]
    .map((forecast) => `attention-predictor;budget=900;forecast=${forecast}`),
  "int8;residual=800",
  "int4;residual=800",
];

Deno.test("every policy with a budget above the length answers as the full cache does", async () => {
  await withGateway(async (ask) => {
    const full = (await ask()).json.choices[0].text;
    const names = new Set(generous.map((kv) => kv.split(";")[0]));
    const missing = listPolicies().filter(({ name }) => !names.has(name)).map(({ name }) => name);
    assertEquals(missing, ["score-heads"]); // there are no such heads of this model
    for (const kv of generous) {
      const { json, text } = await ask(kv);
      assertEquals(json.choices?.[0].text, full, `${kv}: ${text}`);
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
  ["sepllm;capacity=5000", "X-KV-Policy"],
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
      await inBody("full", { budget: 3 }),
      await inBody("sepllm", { capacity: 5000 }),
      await inBody("tokenbutler", { window: 5000 }),
      await inBody("attention-predictor", { window: 100 }),
      await inBody("attention-predictor", { forecast: "last-row", history: 8 }),
    ].map(({ json }) => json.error.param);
    assertEquals(fields, [
      "decoding.kv_policy.params.budget",
      "decoding.kv_policy.params.window",
      "decoding.kv_policy.name",
      "decoding.kv_policy.params.budget",
      "decoding.kv_policy.params.capacity",
      "decoding.kv_policy.params.window",
      "decoding.kv_policy.params.window",
      "decoding.kv_policy.params.history",
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

Deno.test("speculation answers as greedy does under policies that act on tokens whenever they come", async () => {
  await withGateway(async (ask) => {
    const policies = [
      "full",
      "streaming;window=24",
      "sepllm;window=16",
      "quest;budget=40;window=8",
      "tokenbutler;budget=24",
    ];
    for (const kv of policies) {
      const greedy = await ask(kv, { decoding: { strategy: "greedy" } });
      const params = { draft: "prompt-lookup" };
      const { json } = await ask(kv, {
        decoding: { strategy: "speculative", params, trace: "summary" },
      });
      assertEquals(json.choices?.[0].text, greedy.json.choices?.[0].text, kv);
      assert(json.decoding.metrics.accepted > 0, `${kv}: nothing was drafted`);
    }
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

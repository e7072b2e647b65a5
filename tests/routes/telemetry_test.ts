/** Spans and metrics through OpenTelemetry's API, with an SDK of a few lines behind it. */
import {
  type Attributes,
  metrics,
  SpanKind,
  type SpanOptions,
  SpanStatusCode,
  trace,
} from "@opentelemetry/api";
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { chatBody, chatModel, settle, testGateway } from "./_support.ts";

interface SeenSpan {
  readonly name: string;
  readonly kind: SpanKind | undefined;
  readonly attributes: Attributes;
  readonly parent: SeenSpan | undefined;
  status?: { code: SpanStatusCode };
  ended: boolean;
}

/** What an SDK was told. */
interface Recorded {
  readonly spans: SeenSpan[];
  readonly values: { readonly name: string; readonly value: number; readonly labels: Attributes }[];
  readonly bounds: Map<string, readonly number[]>;
}

/** Runs `test` with an SDK that remembers everything. */
async function recorded(test: (seen: Recorded) => Promise<void>): Promise<void> {
  const seen: Recorded = { spans: [], values: [], bounds: new Map() };
  const bySpan = new WeakMap<object, SeenSpan>();
  const startSpan = (name: string, options: SpanOptions = {}, context?: unknown) => {
    const above = context === undefined ? undefined : trace.getSpan(context as never);
    const entry: SeenSpan = {
      name,
      kind: options.kind,
      attributes: { ...options.attributes },
      parent: above && bySpan.get(above),
      ended: false,
    };
    seen.spans.push(entry);
    const span = {
      isRecording: () => true,
      setAttribute: (key: string, value: never) => (entry.attributes[key] = value, span),
      setAttributes: (all: Attributes) => (Object.assign(entry.attributes, all), span),
      setStatus: (status: { code: SpanStatusCode }) => (entry.status = status, span),
      updateName: () => span,
      spanContext: () => ({ traceId: "1", spanId: "1", traceFlags: 1 }),
      end: () => void (entry.ended = true),
    };
    bySpan.set(span, entry);
    return span;
  };
  const createHistogram = (
    name: string,
    { advice }: { advice?: { explicitBucketBoundaries?: number[] } },
  ) => {
    seen.bounds.set(name, advice?.explicitBucketBoundaries ?? []);
    return {
      record: (value: number, labels: Attributes) => void seen.values.push({ name, value, labels }),
    };
  };
  trace.setGlobalTracerProvider({ getTracer: () => ({ startSpan }) } as never);
  metrics.setGlobalMeterProvider({ getMeter: () => ({ createHistogram }) } as never);
  try {
    await test(seen);
  } finally {
    trace.disable();
    metrics.disable();
  }
}

const path = "/v1/chat/completions";

Deno.test("a generation is a span with the GenAI names, whole and streamed", () =>
  recorded(async ({ spans, values, bounds }) => {
    const gateway = testGateway();
    for (const stream of [false, true]) {
      spans.length = values.length = 0;
      const body = chatBody({ stream, seed: 7, max_tokens: 8, temperature: 0.5, top_k: 40 });
      const response = await gateway.post(path, body);
      await response.text();
      const [span] = spans;
      assertEquals([spans.length, span!.name, span!.kind], [1, "chat hash", SpanKind.INTERNAL]);
      assertEquals(span!.ended, true);
      const { attributes } = span!;
      for (
        const [name, value] of Object.entries({
          "gen_ai.operation.name": "chat",
          "gen_ai.provider.name": "decant",
          "gen_ai.request.model": "hash",
          "gen_ai.request.stream": stream,
          "gen_ai.request.temperature": 0.5,
          "gen_ai.request.top_k": 40,
          "gen_ai.request.max_tokens": 8,
          "gen_ai.output.type": "text",
          "decoding.strategy.name": "sample",
          "decoding.strategy.source": "default",
        })
      ) assertEquals(attributes[name], value, name);
      assert(Number(attributes["gen_ai.usage.input_tokens"]) > 0);
      assert(Number(attributes["gen_ai.usage.output_tokens"]) > 0);
      assert(
        ["stop", "length"].includes((attributes["gen_ai.response.finish_reasons"] as string[])[0]!),
      );
      const names = values.map(({ name, labels }) =>
        `${name} ${labels["gen_ai.token.type"] ?? ""}`
      );
      assert(names.includes("gen_ai.client.token.usage input"));
      assert(names.includes("gen_ai.client.token.usage output"));
      assert(names.includes("gen_ai.server.request.duration "));
      assert(names.includes("gen_ai.server.time_to_first_token "));
    }
    assertEquals(bounds.get("gen_ai.client.token.usage")!.at(-1), 67_108_864);
    assertEquals(bounds.get("gen_ai.server.request.duration")!.length, 14);
  }));

Deno.test("the span of a stream ends with its last byte, or when its client leaves", () =>
  recorded(async ({ spans }) => {
    const gateway = testGateway();
    const long = chatBody({ stream: true, max_tokens: 900, ignore_eos: true });
    const response = await gateway.post(path, long);
    const reader = response.body!.getReader();
    await reader.read();
    await settle();
    assertEquals(spans[0]!.ended, false);
    await reader.cancel();
    assertEquals(spans[0]!.ended, true);
    assertEquals(spans[0]!.attributes["error.type"], "client_closed_request");
    assertEquals(spans[0]!.status?.code, SpanStatusCode.ERROR);
  }));

Deno.test("steps of a strategy are child spans with numbers only", () =>
  recorded(async ({ spans }) => {
    const gateway = testGateway({ models: [chatModel(), chatModel({ id: "draft" })] });
    const ask = async (decoding: unknown) => {
      spans.length = 0;
      const response = await gateway.post(path, chatBody({ decoding, max_tokens: 12 }));
      assertEquals(response.status, 200, await response.text());
      return spans.slice(1);
    };
    const draft = { models: { draft: "draft" } };
    for (
      const [strategy, step, more] of [
        ["speculative", "speculative round", draft],
        ["beam", "beam beams", {}],
        ["best-of-n", "best-of-n sample", {}],
        ["self-consistency", "self-consistency answer", {}],
      ] as const
    ) {
      const children = await ask({ strategy, ...more });
      assert(children.length > 0, strategy);
      for (const { name, parent, ended, attributes } of children) {
        assertEquals([name, parent === spans[0], ended], [step, true, true]);
        for (const [key, value] of Object.entries(attributes)) {
          assertStringIncludes(key, "decoding.step.");
          assert(typeof value !== "string");
        }
      }
    }
  }));

Deno.test("a failed generation names a code, never a message", () =>
  recorded(async ({ spans, values }) => {
    const gateway = testGateway({ models: [chatModel({ failAtStep: 3 })] });
    assertEquals((await gateway.post(path, chatBody({ ignore_eos: true }))).status, 500);
    assertEquals(spans[0]!.attributes["error.type"], "engine_error");
    assertEquals(spans[0]!.ended, true);
    const duration = values.find(({ name }) => name === "gen_ai.server.request.duration");
    assertEquals(duration!.labels["error.type"], "engine_error");
  }));

Deno.test("prompts, answers, keys and users reach neither spans, metrics nor the log", () =>
  recorded(async (seen) => {
    const canary = "CANARY-7f3a";
    const gateway = testGateway({ models: [chatModel(), chatModel({ id: "draft" })] });
    const headers = {
      authorization: `Bearer ${canary}`,
      "x-api-key": canary,
      "user-agent": canary,
      cookie: canary,
      "openai-organization": canary,
      traceparent: canary,
    };
    const messages = [{ role: "user", name: "n", content: `${canary} "\n\u2028 <|im_start|>` }];
    const bodies = [
      chatBody({ messages, user: canary, metadata: { canary }, stop: [canary] }),
      chatBody({ messages, stream: true, decoding: { strategy: "self-consistency" } }),
      chatBody({ messages, decoding: { strategy: canary } }),
      chatBody({ messages, model: canary }),
      chatBody({ messages, n: canary }),
      chatBody({ messages, [canary]: canary }),
      `{"messages": "${canary}`,
      "\u0000" + canary,
    ];
    for (const body of bodies) await (await gateway.post(path, body, headers)).text();
    await gateway.post("/tokenize", { prompt: canary }, headers);
    await gateway.get(`/${canary}?key=${canary}`, headers);
    await gateway.get(`/v1/models/${canary}`, headers);
    const failing = testGateway({ models: [chatModel({ failAtStep: 2 })] });
    await (await failing.post(path, chatBody({ messages }), headers)).text();
    const page = await (await gateway.get("/metrics")).text();
    const everything = JSON.stringify([seen, gateway.log, failing.log]) + page;
    assertEquals(
      everything.includes(canary),
      false,
      everything.slice(everything.indexOf(canary) - 200),
    );
    assert(seen.spans.length >= 3 && gateway.log.length >= bodies.length);
  }));

Deno.test("/metrics has every name of the contract, histograms with all their buckets", async () => {
  const gateway = testGateway();
  await (await gateway.post(path, chatBody({ stream: true }))).text();
  const text = await (await gateway.get("/metrics")).text();
  for (
    const name of [
      "requests_total",
      "requests_running",
      "requests_waiting",
      "request_duration_seconds",
      "time_to_first_token_seconds",
      "inter_token_latency_seconds",
      "queue_time_seconds",
      "prompt_tokens_total",
      "generated_tokens_total",
      "tokens_drawn_total",
      "tokens_discarded_total",
      "draft_tokens_total",
      "draft_tokens_accepted_total",
      "constraint_rejections_total",
      "constraint_compile_seconds",
      "kv_bytes",
      "kv_tokens_kept_ratio",
      "cancelled_total",
      "upstream_errors_total",
      "circuit_state",
      "gpu_device_lost_total",
    ]
  ) assertStringIncludes(text, `# TYPE decoding_gateway_${name} `);
  const lines = text.split("\n");
  const buckets = lines.filter((line) =>
    line.startsWith("decoding_gateway_time_to_first_token_seconds_bucket{")
  );
  assertEquals(buckets.length, 17);
  assertStringIncludes(buckets.at(-1)!, 'le="+Inf"} 1');
  const counts = buckets.map((line) => Number(line.split(" ").at(-1)));
  assertEquals(counts, counts.toSorted((a, b) => a - b));
  for (const line of lines) {
    assert(/^(# |decoding_gateway_[a-z_]+(\{[^}]*\})? -?[\d.e+-]+$|$)/.test(line), line);
  }
});

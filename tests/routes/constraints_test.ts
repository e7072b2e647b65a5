// deno-lint-ignore-file camelcase -- names as on the wire
import { assert, assertEquals } from "@std/assert";
import { verified } from "../../routes/constraint.ts";
import { createDeadline } from "../../runtime/local.ts";
import type { Predicate } from "../../runtime/mod.ts";
import type { RunEvent, RunResult } from "../../strategies/mod.ts";
import { chatBody, type Json, readEvents, streamedTexts, testGateway } from "./_support.ts";

const path = "/v1/chat/completions";

const schema = {
  type: "object",
  properties: { a: { enum: ["x", "yes", 3, null] }, b: { type: "boolean" } },
  required: ["a"],
  additionalProperties: false,
};
const isRecord = (text: string) => {
  const value = JSON.parse(text);
  return ["x", "yes", 3, null].includes(value.a) &&
    Object.keys(value).every((key) => key === "a" || (key === "b" && typeof value.b === "boolean"));
};

/** [what, fields, second opinion] */
const kinds: readonly (readonly [string, Json, (text: string) => boolean])[] = [
  ["response_format", { response_format: format(schema) }, isRecord],
  [
    "structured_outputs.json as text",
    { structured_outputs: { json: JSON.stringify(schema), disable_any_whitespace: true } },
    (text) => isRecord(text) && !/\s/.test(text),
  ],
  [
    "decoding.constraint json_schema",
    { decoding: { constraint: { type: "json_schema", schema, whitespace: false } } },
    isRecord,
  ],
  ["regex", { structured_outputs: { regex: "[ab]{2,4}-\\d" } }, (t) => /^[ab]{2,4}-\d$/.test(t)],
  ["choice", { structured_outputs: { choice: ["yes", "no"] } }, (t) => ["yes", "no"].includes(t)],
  [
    "grammar",
    { structured_outputs: { grammar: 'root ::= "<" body ">"\nbody ::= "x" | "(" body ")"' } },
    (text) => /^<(\(*)x(\)*)>$/.test(text),
  ],
];

function format(value: unknown, name = "record") {
  return { type: "json_schema", json_schema: { name, strict: true, schema: value } };
}

for (const [what, fields, accepts] of kinds) {
  Deno.test(`a constraint holds, whole and as a stream: ${what}`, async () => {
    const gateway = testGateway();
    const extra = { n: 3, seed: 5, max_tokens: 120, logprobs: true, ...fields };
    const answer = await (await gateway.post(path, chatBody(extra))).json();
    const texts = answer.choices.map((choice: Json) => choice.message.content);
    for (const choice of answer.choices) {
      if (choice.finish_reason === "stop") {
        assert(accepts(choice.message.content), choice.message.content);
      }
      const pieces = choice.logprobs.content.map((entry: Json) => entry.token).join("");
      assertEquals(pieces, choice.message.content);
    }
    assert(answer.choices.some((choice: Json) => choice.finish_reason === "stop"));
    const stream = { ...extra, stream: true, stream_options: { include_usage: true } };
    const events = await readEvents(await gateway.post(path, chatBody(stream)));
    assertEquals(streamedTexts(events), texts);
    assertEquals(events.at(-1).usage.completion_tokens, answer.usage.completion_tokens);
  });
}

Deno.test("plain completions take the same constraints", async () => {
  const gateway = testGateway();
  const body = { model: "hash", prompt: ["a", "b"], max_tokens: 40, seed: 1 };
  const fields = { structured_outputs: { regex: "\\d{2}" } };
  const { choices } = await (await gateway.post("/v1/completions", { ...body, ...fields })).json();
  for (const { text, finish_reason } of choices) {
    assert(finish_reason !== "stop" || /^\d{2}$/.test(text), text);
  }
});

/** [what, fields, code, param] */
/** Definitions of which each refers to the next one twice. */
function doubled(levels: number): Record<string, unknown> {
  const last = { type: "string" };
  return Object.fromEntries(Array.from({ length: levels + 1 }, (_, i) => {
    const next = { $ref: `#/$defs/d${i + 1}` };
    return [`d${i}`, i === levels ? last : { anyOf: [next, next] }];
  }));
}

const refused: readonly (readonly [string, Json, string, string])[] = [
  [
    "two constraints",
    { response_format: { type: "json_object" }, structured_outputs: { regex: "a" } },
    "invalid_value",
    "structured_outputs",
  ],
  [
    "two constraints, one in decoding",
    {
      response_format: format({}),
      decoding: { constraint: { type: "regex", pattern: "a" } },
    },
    "invalid_value",
    "decoding.constraint",
  ],
  [
    "two kinds in structured_outputs",
    { structured_outputs: { regex: "a", choice: ["a"] } },
    "invalid_value",
    "structured_outputs",
  ],
  ["none in structured_outputs", { structured_outputs: {} }, "invalid_value", "structured_outputs"],
  [
    "a kind we do not have",
    { structured_outputs: { structural_tag: "{}" } },
    "unsupported_parameter",
    "structured_outputs.structural_tag",
  ],
  [
    "an unknown type",
    { decoding: { constraint: { type: "xml" } } },
    "invalid_value",
    "decoding.constraint.type",
  ],
  ["an older field", { guided_regex: "a" }, "unsupported_parameter", "guided_regex"],
  [
    "a malformed schema",
    { response_format: format({ type: "strin" }) },
    "invalid_schema",
    "response_format.json_schema.schema",
  ],
  [
    "a contradictory schema",
    { response_format: format({ type: "string", allOf: [{ type: "number" }] }) },
    "invalid_schema",
    "response_format.json_schema.schema",
  ],
  [
    "a keyword that cannot be enforced",
    { response_format: format({ unevaluatedItems: false }) },
    "invalid_schema",
    "response_format.json_schema.schema",
  ],
  [
    "text that is not JSON",
    { structured_outputs: { json: "{" } },
    "invalid_value",
    "structured_outputs.json",
  ],
  [
    "text that is nested too deeply",
    { structured_outputs: { json: '{"not":'.repeat(50_000) } },
    "invalid_value",
    "structured_outputs.json",
  ],
  [
    "a malformed pattern",
    { structured_outputs: { regex: "a(" } },
    "invalid_schema",
    "structured_outputs.regex",
  ],
  [
    "a pattern that is too long",
    { structured_outputs: { regex: "a".repeat(5000) } },
    "schema_too_complex",
    "structured_outputs.regex",
  ],
  [
    "a grammar with left recursion",
    { structured_outputs: { grammar: 'root ::= root "a" | "a"' } },
    "invalid_schema",
    "structured_outputs.grammar",
  ],
  [
    "nested groups",
    { structured_outputs: { grammar: `root ::= ${"(".repeat(60_000)}` } },
    "schema_too_complex",
    "structured_outputs.grammar",
  ],
  [
    "nested repetitions",
    { structured_outputs: { grammar: 'root ::= (("a"{1000}){1000}){1000}' } },
    "schema_too_complex",
    "structured_outputs.grammar",
  ],
  [
    "too many choices",
    { structured_outputs: { choice: Array.from({ length: 1001 }, (_, i) => `${i}`) } },
    "schema_too_complex",
    "structured_outputs.choice",
  ],
  [
    "a large schema",
    { response_format: format({ description: "x".repeat(70_000) }) },
    "schema_too_complex",
    "response_format.json_schema.schema",
  ],
  [
    "references that double thirty times",
    { response_format: format({ $ref: "#/$defs/d0", $defs: doubled(30) }) },
    "schema_too_complex",
    "response_format.json_schema.schema",
  ],
  [
    "an unknown predicate",
    { decoding: { constraint: { type: "predicate", name: "nope" } } },
    "invalid_value",
    "decoding.constraint.name",
  ],
];

for (const [what, fields, code, param] of refused) {
  Deno.test(`a constraint is refused with a field: ${what}`, async () => {
    const gateway = testGateway();
    const response = await gateway.post(path, chatBody(fields));
    const { error } = await response.json();
    assertEquals([response.status, error.code, error.param], [400, code, param], error.message);
    assertEquals((await gateway.post(path, chatBody())).status, 200);
  });
}

Deno.test("a text that a stop string cuts short never looks complete", async () => {
  const fields = { structured_outputs: { regex: "a{4}b" }, stop: "aa", max_tokens: 20 };
  const gateway = testGateway();
  const response = await gateway.post(path, chatBody(fields));
  const { error } = await response.json();
  assertEquals([response.status, error.code, error.param], [400, "invalid_value", "stop"]);
  const events = await readEvents(
    await gateway.post(
      path,
      chatBody({ ...fields, structured_outputs: { regex: "ba{40}" }, stream: true }),
    ),
  );
  assertEquals(events.at(-1).error.param, "stop");
  assert(events.every(({ choices }) => choices?.every((c: Json) => !c.finish_reason) ?? true));
});

Deno.test("formats that are not checked are named, or refused where unknown fields are", async () => {
  const fields = { response_format: format({ type: "string", format: "iban", maxLength: 2 }) };
  const response = await testGateway().post(path, chatBody(fields));
  assertEquals(response.status, 200);
  assert(decodeURIComponent(response.headers.get("x-ignored-params")!).includes("format iban"));
  const strict = await testGateway({ strictFields: true }).post(path, chatBody(fields));
  assertEquals((await strict.json()).error.code, "unsupported_parameter");
});

async function* eventsOf(
  text: string,
  finish: Partial<Extract<RunEvent, { type: "finish" }>>,
): AsyncGenerator<RunEvent, RunResult, void> {
  yield { type: "text", choice: 0, text, tokens: [] };
  yield { type: "finish", choice: 0, reason: "stop", ...finish };
  return {} as RunResult;
}

Deno.test("verified() lets no wrong text finish, and leaves cut ones alone", async () => {
  const constraint = { name: "x", start: () => 0, advance: () => 0, accepting: () => true };
  const accepts = (text: string) => Promise.resolve(text === "good");
  const subject = { name: "x", format: undefined, constraint, accepts };
  const outcome = async (text: string, finish: Parameters<typeof eventsOf>[1]) => {
    try {
      const events = await Array.fromAsync(verified(eventsOf(text, finish), subject, [7]));
      return events.length;
    } catch (error) {
      return `${(error as Error).name} ${(error as { param?: string }).param ?? ""}`;
    }
  };
  assertEquals(await outcome("good", {}), 2);
  assertEquals(await outcome("bad", { reason: "length" }), 2);
  assertEquals(await outcome("bad", {}), "ConstraintError ");
  assertEquals(await outcome("bad", { stoppedBy: 3 }), "ConstraintError ");
  assertEquals(await outcome("bad", { stoppedBy: 7 }), "ApiError stop_token_ids");
  assertEquals(await outcome("bad", { stoppedBy: "b" }), "ApiError stop");
});

/** A gateway with one predicate, and what a request with it gets. */
async function withPredicate(predicate: Predicate, extra: Json = {}): Promise<Json> {
  const gateway = testGateway({
    predicates: {
      byName: new Map([["p", predicate]]),
      withDeadline: createDeadline(),
      limitMs: 50,
    },
  });
  const decoding = { constraint: { type: "predicate", name: "p" } };
  const response = await gateway.post(path, chatBody({ decoding, seed: 2, ...extra }));
  const after = await gateway.post(path, chatBody());
  assertEquals(after.status, 200);
  return extra.stream ? await readEvents(response) : await response.json();
}

Deno.test("a predicate of the configuration decides", async () => {
  const predicate: Predicate = {
    prefix: (text) => /^[ab]*$/.test(text) && text.length <= 4,
    complete: (text) => text.length === 4,
  };
  const { choices: [choice] } = await withPredicate(predicate);
  assertEquals(choice.finish_reason, "stop");
  assert(/^[ab]{4}$/.test(choice.message.content));
});

Deno.test("a predicate that throws, never returns or answers nonsense is a clear error", async () => {
  const bad: [Predicate, string][] = [
    [{
      complete: () => {
        throw new Error("secret");
      },
    }, "threw an error"],
    [{
      complete: () => {
        for (;;);
      },
    }, "did not answer within 50 ms and was stopped"],
    [{ complete: () => /^(a+)+$/.test(`${"a".repeat(40)}b`) }, "did not answer within 50 ms"],
    [{ complete: () => 1 as unknown as boolean }, "must answer true or false, not number"],
  ];
  for (const [predicate, text] of bad) {
    const { error } = await withPredicate(predicate);
    assertEquals(error.code, "engine_error");
    assert(error.message.includes(text) && !error.message.includes("secret"), error.message);
  }
  const late: Predicate = {
    complete: () => false,
    prefix: (text) => {
      if (text.length > 3) { for (;;); }
      return true;
    },
  };
  const events = await withPredicate(late, { stream: true });
  assertEquals(events.at(-1).error.code, "engine_error");
  assert(
    events.every(({ choices }: Json) => choices?.every((c: Json) => !c.finish_reason) ?? true),
  );
});

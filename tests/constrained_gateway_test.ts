// deno-lint-ignore-file camelcase -- names as on the wire
/** Constraints on the embedded model, and predicates from files. */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { testSamples } from "../models/evaluate.ts";
import { json } from "../models/recipe/tasks/json.ts";
import { createGateway } from "../mod.ts";
import { ConfigError } from "../runtime/mod.ts";

const schema = {
  type: "object",
  properties: {
    name: { type: "string", pattern: "^[A-Z][a-z]+ [A-Z][a-z]+$" },
    age: { type: "integer", minimum: 18, maximum: 90 },
    city: { type: "string" },
    job: { type: "string" },
  },
  required: ["name", "age", "city", "job"],
  additionalProperties: false,
};

type Gateway = Awaited<ReturnType<typeof createGateway>>;

async function ask(gateway: Gateway, body: Readonly<Record<string, unknown>>) {
  const response = await gateway.fetch(
    new Request("http://localhost/v1/chat/completions", {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ model: "decant-tiny", max_tokens: 80, ...body }),
    }),
  );
  return { status: response.status, body: await response.json() };
}

Deno.test("the embedded model extracts records that satisfy their schema", async () => {
  await using gateway = await createGateway({ models: ["decant-tiny"], backend: "wasm" });
  const format = { type: "json_schema", json_schema: { name: "record", strict: true, schema } };
  let right = 0;
  for (const { messages: [asked], answer } of testSamples(json, 6, "constraints")) {
    const { body } = await ask(gateway, {
      messages: [asked],
      temperature: 1.5, // warm enough that a schema has work to do
      seed: 3,
      n: 2,
      response_format: format,
    });
    for (const { message, finish_reason } of body.choices) {
      if (finish_reason !== "stop") continue;
      const { name, age, ...rest } = JSON.parse(message.content);
      assert(/^[A-Z][a-z]+ [A-Z][a-z]+$/.test(name) && age >= 18 && age <= 90, message.content);
      assertEquals(Object.keys(rest).sort(), ["city", "job"]);
      if (message.content === answer) right++;
    }
  }
  assert(right > 0, "not one record is right");
});

Deno.test("predicates come from the modules that the configuration names", async () => {
  const folder = await Deno.makeTempDir();
  const write = async (name: string, text: string) => {
    await Deno.writeTextFile(`${folder}/${name}`, text);
    return `${folder}/${name}`;
  };
  const even = await write(
    "even.ts",
    "export const prefix = (text: string) => /^\\d{0,3}$/.test(text);\n" +
      "export const complete = (text: string) => /^\\d+$/.test(text) && Number(text) % 2 === 0;\n",
  );
  const options = { models: ["decant-tiny"], backend: "wasm" as const };
  {
    await using gateway = await createGateway({ ...options, predicates: { even } });
    const messages = [{ role: "user", content: "What is 27 + 58?" }];
    const decoding = { constraint: { type: "predicate", name: "even" } };
    const { body } = await ask(gateway, { messages, decoding, temperature: 0 });
    assertEquals(Number(body.choices[0].message.content) % 2, 0);
    const unknown = { constraint: { type: "predicate", name: "odd" } };
    const { status, body: { error } } = await ask(gateway, { messages, decoding: unknown });
    assertEquals([status, error.param], [400, "decoding.constraint.name"]);
  }
  const bad = [
    `${folder}/missing.ts`,
    await write("empty.ts", "export const other = 1;"),
    await write("broken.ts", "export const complete = (;"),
    await write("text.ts", "export const complete = true;"),
    "https://example.com/predicate.ts",
  ];
  for (const path of bad) {
    const error = await assertRejects(
      () => createGateway({ ...options, predicates: { bad: path } }),
      ConfigError,
    );
    assertEquals(error.key, "predicates.bad");
  }
  await Deno.remove(folder, { recursive: true });
});

/** `awrs` on the embedded model: JSON Schema by its mask and judged token by token. */
import { fileURLToPath } from "node:url";
import { assert, assertEquals } from "@std/assert";
import { loadModel } from "../../runtime/load.ts";
import { jsonSchemaConstraint, seedFrom } from "../../runtime/mod.ts";
import { requestOf, runToEnd } from "../conformance/_strategy_run.ts";

const text = { type: "string", maxLength: 30 };
const schema = {
  type: "object",
  properties: { name: text, age: { type: "integer" }, city: text, job: text },
  required: ["name", "age", "city", "job"],
  additionalProperties: false,
};
const keys = "name,age,city,job";

Deno.test("awrs on the embedded model: valid JSON, the same tokens with and without the mask, few questions", async () => {
  await using loaded = await loadModel(
    fileURLToPath(new URL("../../models/decant-tiny", import.meta.url)),
    {
      id: "decant-tiny",
      backend: "cpu",
      thread: "own",
      kvBytes: 32 << 20,
      created: 0,
      ownedBy: "decant",
    },
  );
  const model = loaded.engine;
  const constraint = jsonSchemaConstraint(schema, model.vocab, { allowsSpace: false });
  const { name, start, advance, accepting } = constraint;
  const overrides = {
    prompt: [{
      role: "user",
      content: "Extract the record as JSON.\nAnna Lopez from Oslo is a baker and 41 years old.",
    }] as const,
    sampling: { seed: seedFrom(3), temperature: 0.8 },
    maxTokens: 60,
  };
  const masked = await runToEnd(requestOf("awrs", model, { ...overrides, constraint }));
  assertEquals(Object.keys(JSON.parse(masked.choices[0]!.text)).join(), keys);
  const judged = await runToEnd(requestOf("awrs", model, {
    ...overrides,
    constraint: { name, start, advance, accepting },
  }));
  assertEquals(judged.choices, masked.choices);
  const perToken = judged.result.metrics["checks"]! / judged.result.usage.drawnTokens;
  assert(perToken < 4, `${perToken} questions per token`);
  const particles = await runToEnd(requestOf("awrs", model, {
    ...overrides,
    constraint,
    params: { "n_particles": 4 },
    choices: 2,
  }));
  for (const { text, reason } of particles.choices) {
    assertEquals([reason, Object.keys(JSON.parse(text)).join()], ["stop", keys]);
  }
  assert(particles.result.choices.every(({ log_z: logZ }) => logZ! <= 0));
});

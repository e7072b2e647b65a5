/** Policies on a real forward pass: a small random Llama, on the backends of this process's memory. */
import { assert, assertAlmostEquals, assertEquals, assertRejects } from "@std/assert";
import type { Engine } from "../../../runtime/engine/engine.ts";
import { type KvChoice, listPolicies, OutOfPagesError } from "../../../runtime/mod.ts";
import { testScope } from "../engine/_fixtures.ts";
import { backends, open, smallPage, tokensOf } from "./_tiny_engine.ts";

/** Logits while `rest` tokens follow a prompt, one by one. */
async function decode(engine: Engine, kv: KvChoice, prompt: number, rest: number) {
  const tokens = tokensOf(prompt + rest);
  const scope = testScope({ kv });
  using session = engine.session(tokens.slice(0, prompt), { scope });
  const rows = [...await session.logits()], bytes: number[] = [];
  for (const token of tokens.slice(prompt)) {
    session.append([token]);
    rows.push(...await session.logits());
    bytes.push(scope.meter.kv!.bytes);
  }
  return { rows, usage: scope.meter.kv!, bytes };
}

const scored = ["h2o", "tova", "snapkv", "pyramidkv", "expected-attention", "key-norm", "key-diff"];
/** What the made-up network was trained with, so to say. */
const network = { forecast: "network", history: 4, block: 2 };
const generous: Readonly<Record<string, Record<string, unknown>>> = {
  streaming: { window: 44 },
  sepllm: { window: 44 },
  quest: { budget: 60, window: 8 },
  oracle: { budget: 60, window: 8 },
  int8: { residual: 60 },
  int4: { residual: 60, keys: "token" },
  nats: { global_bias: 1000 },
  "score-heads": { threshold: -1000, window: 8 },
  tokenbutler: { budget: 60, window: 8 },
  "attention-predictor": { budget: 60, window: 8, ...network },
  ...Object.fromEntries(scored.map((name) => [name, { budget: 60, window: 8 }])),
};
const tight: Readonly<Record<string, Record<string, unknown>>> = {
  streaming: { sinks: 2, window: 8, interval: 4 },
  sepllm: { sinks: 2, window: 6, interval: 4 },
  quest: { budget: 12, sinks: 2, window: 4, dense_layers: 0 },
  oracle: { budget: 12, sinks: 2, window: 4, dense_layers: 0 },
  nats: { interval: 4 },
  "score-heads": { threshold: 0, sinks: 2, window: 4 },
  tokenbutler: { budget: 12, sinks: 2, window: 4 },
  "attention-predictor": { budget: 12, sinks: 2, window: 4, dense_layers: 0, ...network },
  int8: { residual: 4 },
  int4: { residual: 0, keys: "token" },
  ...Object.fromEntries(
    scored.map((name) => [name, { budget: 12, sinks: 2, window: 4, format: "int8" }]),
  ),
};

for (const [name, create] of Object.entries(backends)) {
  Deno.test(`${name}: every policy whose budget is above the length equals full, to the bit`, async () => {
    await using engine = open(create);
    const full = await decode(engine, { name: "full", params: {} }, 30, 12);
    for (const [policy, params] of Object.entries(generous)) {
      const { rows } = await decode(engine, { name: policy, params }, 30, 12);
      assertEquals(rows, full.rows, policy);
    }
    const always = { ...tight["attention-predictor"], "calibrate_every": 1 };
    const { rows } = await decode(engine, { name: "attention-predictor", params: always }, 30, 12);
    assertEquals(rows, full.rows, "every step reads everything");
    engine.checkPages();
  });

  Deno.test(`${name}: every policy gives the same to the bit alone, in small steps and in a crowd`, async () => {
    for (const [policy, params] of Object.entries(tight)) {
      const kv = { name: policy, params };
      await using alone = open(create);
      const expected = await decode(alone, kv, 26, 14);
      const full = await decode(alone, { name: "full", params: {} }, 26, 14);
      assert(
        expected.rows.some((row, i) => row.some((value, j) => value !== full.rows[i]![j])),
        `${policy} did nothing`,
      );
      assert(expected.rows.every((row) => row.every(Number.isFinite)), policy);
      await using small = open(create, { limits: { stepTokens: 5, chunkTokens: 3 } });
      assertEquals((await decode(small, kv, 26, 14)).rows, expected.rows, policy);
      const others = Object.entries(tight).map(([name, params]) => ({ name, params }));
      const [crowded] = await Promise.all(
        [kv, ...others].map((one) => decode(alone, one, 26, 14)),
      );
      assertEquals(crowded!.rows, expected.rows, policy);
      alone.checkPages();
    }
  });

  Deno.test(`${name}: bytes reported are the bytes of pages held`, async () => {
    for (const [policy, params] of Object.entries(tight)) {
      await using engine = open(create);
      const scope = testScope({ kv: { name: policy, params } });
      using session = engine.session(tokensOf(50), { scope });
      await session.logits();
      const pageBytes = scope.meter.kv!.bytesFull / Math.ceil(50 / smallPage);
      // What was replaced waits for the next batch.
      await new Promise<void>((resolve) => setImmediate(() => setImmediate(resolve)));
      const { total, free, fragments } = engine.stats().pages;
      const { bytes, bytesPeak } = scope.meter.kv!;
      assertAlmostEquals(bytes, (total - free - fragments) * pageBytes, 1e-3, policy);
      assert(bytesPeak >= bytes, policy);
    }
  });

  Deno.test(`${name}: the peak is what is held before a policy acts, not after`, async () => {
    for (const policy of scored) {
      await using engine = open(create);
      const { usage } = await decode(engine, { name: policy, params: tight[policy]! }, 50, 0);
      assert(usage.bytes < usage.bytesFull, policy);
      assert(
        usage.bytesPeak >= usage.bytesFull,
        `${policy}: all of the prompt is there when it ranks`,
      );
    }
  });

  Deno.test(`${name}: a pool too small for the full cache is enough for a budget or fewer bits`, async () => {
    await using engine = open(create, { pages: 12 }); // 48 tokens
    await assertRejects(
      () => decode(engine, { name: "full", params: {} }, 60, 0),
      OutOfPagesError,
    );
    for (const policy of ["streaming", "sepllm", "int4"]) {
      const { usage } = await decode(engine, { name: policy, params: tight[policy]! }, 60, 0);
      assert(usage.bytes < usage.bytesFull);
    }
  });

  Deno.test(`${name}: positions in the cache carry a stream beyond the context`, async () => {
    await using engine = open(create, { contextLength: 40, pages: 20 });
    for (
      const kv of [
        { name: "streaming", params: { sinks: 2, window: 20, interval: 4, positions: "cache" } },
        {
          name: "sepllm",
          params: {
            mode: "stream",
            sinks: 2,
            separators: 4,
            window: 10,
            capacity: 32,
            interval: 4,
          },
        },
      ]
    ) {
      const { rows, usage, bytes } = await decode(engine, kv, 10, 330);
      assert(rows.every((row) => row.every(Number.isFinite)));
      assert(usage.tokensKept <= 32);
      // However long the stream, after ten times its capacity as after two.
      const mostOf = (from: number, to: number) => Math.max(...bytes.slice(from, to));
      assertEquals(mostOf(-32, bytes.length), mostOf(32, 64));
      assertEquals(usage.bytesFull / usage.bytes > 4, true);
    }
    await assertRejects(
      () => decode(engine, { name: "streaming", params: tight["streaming"]! }, 10, 60),
      RangeError, // places as in the text end with the context
    );
  });
}

for (const [name, create] of Object.entries(backends)) {
  Deno.test(`${name}: int4 with keys per channel is the same alone and in small steps, and near full`, async () => {
    const kv = { name: "int4", params: { residual: 0 } };
    await using engine = open(create, { pageSize: 16 });
    const full = await decode(engine, { name: "full", params: {} }, 40, 20);
    const { rows, usage } = await decode(engine, kv, 40, 20);
    await using small = open(create, { pageSize: 16, limits: { stepTokens: 5, chunkTokens: 3 } });
    assertEquals((await decode(small, kv, 40, 20)).rows, rows);
    let error = 0, size = 0;
    rows.forEach((row, i) =>
      row.forEach((value, j) => {
        error += (value - full.rows[i]![j]!) ** 2;
        size += full.rows[i]![j]! ** 2;
      })
    );
    assert(error > 0 && error < 0.01 * size, `${error} of ${size}`);
    assert(usage.bytes < usage.bytesFull, "32 of 60 tokens take one page instead of two");
    engine.checkPages();
  });

  Deno.test(`${name}: a cache whose pages hold no group of kivi4 refuses it by name`, async () => {
    await using engine = open(create);
    await assertRejects(
      async () => await decode(engine, { name: "int4", params: {} }, 4, 0),
      Error,
      "too small for a group of kivi4",
    );
  });
}

Deno.test("every policy is in these tests", () => {
  const untested = (cases: Readonly<Record<string, unknown>>) =>
    listPolicies().filter(({ name }) => cases[name] === undefined).map(({ name }) => name);
  for (const cases of [tight, generous]) assertEquals(untested(cases), ["full"]);
});

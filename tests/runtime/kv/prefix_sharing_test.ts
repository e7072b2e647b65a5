/** Prompts under policies that change nothing before the prompt's end share pages; others do not. */
import { assert, assertEquals } from "@std/assert";
import { createCpuBackend } from "../../../runtime/backend/cpu/mod.ts";
import { createEngine, type Engine } from "../../../runtime/engine/engine.ts";
import { createLocalExecutor } from "../../../runtime/engine/local_executor.ts";
import { getPolicy } from "../../../runtime/kv/policies/mod.ts";
import { loadDecoder } from "../../../runtime/models/mod.ts";
import { fakeVocab } from "../../fakes/mod.ts";
import { hashedWeights, llamaShapes, tinyConfig } from "../../fakes/hashed_weights.ts";
import { fakeAdapters } from "../../fakes/kv_adapters.ts";
import { fakeEngine, letters, testScope } from "../engine/_fixtures.ts";

const pageSize = 4, promptLength = 21, separators = new Set([0, 3]);

/** Logits after the prompt and during `rest` more tokens, and how many tokens were found. */
async function answer(
  engine: Engine,
  name: string,
  params: Record<string, unknown>,
  { salt = "", tokens = letters(promptLength + 12), rollback = 0 } = {},
) {
  const scope = testScope({ salt, kv: { name, params } });
  using session = engine.session(tokens.slice(0, promptLength), { scope, rollback });
  const rows = [...await session.logits()];
  for (const token of tokens.slice(promptLength)) {
    session.append([token]);
    rows.push(...await session.logits());
  }
  return { rows, cached: scope.meter.cachedTokens };
}

const sepllm = { sinks: 1, window: 4, prefill: "dense" };
const cases: readonly [string, Record<string, unknown>, shares: boolean][] = [
  ["quest", { budget: 8, sinks: 1, window: 2, ["dense_layers"]: 0 }, true],
  ["quest", { budget: 12, sinks: 1, window: 2, ["dense_layers"]: 0 }, true],
  ["sepllm", sepllm, true],
  ["sepllm", { ...sepllm, window: 6, interval: 3, format: "int8" }, true],
  ["sepllm", { ...sepllm, mode: "stream", separators: 2, capacity: 12 }, true],
  ["sepllm", { ...sepllm, prefill: "masked" }, false],
  ["streaming", { sinks: 1, window: 6 }, false],
  ["int8", { residual: 0 }, false],
];

for (const [name, params, shares] of cases) {
  for (const first of ["full", name]) {
    const label = `${name} ${JSON.stringify(params)} after ${first}`;
    Deno.test(`${label}: ${shares ? "finds the prompt's pages" : "shares no pages"}, and answers the same`, async () => {
      await using setup = fakeEngine({ pageSize, pages: 300 }, {
        findPolicy: getPolicy,
        separators,
      });
      const { engine } = setup;
      const alone = await answer(engine, name, params, { salt: "alone" });
      assertEquals(alone.cached, 0);
      await answer(engine, first, first === "full" ? {} : params);
      for (const rollback of [0, 3]) {
        const again = await answer(engine, name, params, { rollback });
        assertEquals(again.cached, shares ? 20 : 0);
        if (rollback === 0 || name === "quest") assertEquals(again.rows, alone.rows);
      }
      const full = await answer(engine, "full", {});
      assertEquals(full.cached, shares || first === "full" ? 20 : 0);
      assertEquals(full.rows, (await answer(engine, "full", {}, { salt: "other" })).rows);
      engine.checkPages();
    });
  }
}

Deno.test("what a policy dropped or made after the prompt is never found by others", async () => {
  await using setup = fakeEngine({ pageSize, pages: 300 }, { findPolicy: getPolicy, separators });
  const { engine } = setup, tokens = letters(40);
  await answer(engine, "sepllm", sepllm, { tokens });
  const scope = testScope();
  using session = engine.session(tokens, { scope });
  const rows = await session.logits();
  assertEquals(scope.meter.cachedTokens, 20, "the first prompt's full pages, nothing after them");
  using fresh = engine.session(tokens, { scope: testScope({ salt: "fresh" }) });
  assertEquals(rows, await fresh.logits());
});

Deno.test("prompts under tokenbutler share pages with its records, whatever the budget", async () => {
  using backend = createCpuBackend();
  const decoder = loadDecoder(tinyConfig, hashedWeights(llamaShapes(tinyConfig)), backend);
  const loaded = fakeAdapters(tinyConfig, backend);
  const executor = createLocalExecutor(decoder, backend, {
    pages: 200,
    pageSize,
    contextLength: 64,
    adapters: loaded.flatMap(({ adapter }) => adapter ?? []),
    adapterData: Object.fromEntries(loaded.map(({ name, data }) => [name, data])),
  });
  const pieces = Array.from({ length: tinyConfig.vocab }, (_, i) => String.fromCharCode(97 + i));
  const vocab = fakeVocab({ pieces });
  await using engine = createEngine({ id: "m", vocab, executor, findPolicy: getPolicy });
  const params = { budget: 6, sinks: 1, window: 2 };
  const alone = await answer(engine, "tokenbutler", params, { salt: "alone" });
  await answer(engine, "full", {});
  const first = await answer(engine, "tokenbutler", { ...params, budget: 9 });
  assertEquals(first.cached, 0, "pages of full hold no records");
  const second = await answer(engine, "tokenbutler", params);
  assertEquals(second.cached, 20);
  assertEquals(second.rows, alone.rows);
  assert(first.rows.some((row, i) => row.some((value, j) => value !== alone.rows[i]![j])));
});

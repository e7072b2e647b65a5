/** What later groups pay, in small stories, and for what nobody pays. */
import { fileURLToPath } from "node:url";
import { assert, assertAlmostEquals, assertEquals } from "@std/assert";
import { loadModel } from "../../runtime/load.ts";
import { requestOf, runToEnd } from "../conformance/_strategy_run.ts";
import { type FakeModel, fakeVocab, tableModel } from "../fakes/mod.ts";

const story = (next: Parameters<typeof tableModel>[0]["table"]) =>
  tableModel({ vocab: fakeVocab({ pieces: [..."abcdxy"], chat: false }), table: next });

async function texts(model: FakeModel, params: Readonly<Record<string, unknown>>) {
  const { choices, result } = await runToEnd(
    requestOf("diverse-beam", model, { prompt: [6], params, choices: 2 }),
  );
  return { texts: choices.map(({ text }) => text), scores: result.choices };
}

Deno.test("a group that is done charges nothing any more", async () => {
  const model = story({
    "": { a: 0.6, b: 0.4 },
    a: { "<end>": 1 },
    b: { c: 1 },
    c: { a: 0.6, d: 0.4 },
    d: { "<end>": 1 },
  });
  for (const params of [{ diversity_fn: "ngram", ngram_size: 1 }, { diversity_fn: "cumulative" }]) {
    // Group 1 is done with "a" before group 2 comes to its own "a".
    const found = await texts(model, { num_beams: 2, diversity: 5, ...params });
    assertEquals(found.texts, ["a", "bca"]);
  }
  // With group 1 still going on, its "a" is charged.
  const going = story({
    "": { a: 0.6, b: 0.4 },
    a: { x: 1 },
    x: { x: 0.9, "<end>": 0.1 },
    b: { c: 1 },
    c: { a: 0.6, d: 0.4 },
    d: { "<end>": 1 },
  });
  const found = await texts(going, {
    num_beams: 2,
    diversity: 5,
    diversity_fn: "ngram",
    ngram_size: 1,
  });
  assertEquals(found.texts[1], "bcd");
});

Deno.test("stop tokens and tokens without an alternative are not charged", async () => {
  const model = story({
    "": { a: 0.6, b: 0.4 },
    a: { x: 1 },
    b: { x: 1 },
    x: { "<end>": 0.9, y: 0.1 },
    y: { "<end>": 1 },
  });
  const found = await texts(model, { num_beams: 2, diversity: 100, length_penalty: 0 });
  assertEquals(found.texts, ["ax", "bx"]);
  for (const { sum_logprob: sum, raw_logprob: raw } of found.scores) assertAlmostEquals(sum!, raw!);
});

Deno.test("stop tokens are not charged where the request goes past them either", async () => {
  const model = story({ "": { "<end>": 0.6, a: 0.4 }, a: { b: 1 }, "<end>": { a: 1 } });
  const [end] = [...model.vocab.stopTokens];
  const { choices } = await runToEnd(requestOf("diverse-beam", model, {
    prompt: [1],
    params: { num_beams: 2, diversity: 100 },
    choices: 2,
    ignoreStop: true,
    maxTokens: 2,
  }));
  assertEquals(choices.map(({ tokens }) => tokens), [[end!, 0], [end!, 0]]);
});

Deno.test("embedding reads what every token has of its own below the first layer", async () => {
  const path = fileURLToPath(new URL("../../models/decant-tiny-draft", import.meta.url));
  await using loaded = await loadModel(path, {
    id: "draft",
    backend: "cpu",
    thread: "own",
    kvBytes: 16 << 20,
    created: 0,
    ownedBy: "decant",
  });
  const tokens = [5, 300, 41, 5];
  using session = loaded.engine.session(tokens);
  const rows = await session.hidden(0, { last: tokens.length });
  for (const [i, token] of tokens.entries()) {
    using alone = loaded.engine.session([token]);
    const [row] = await alone.hidden(0);
    assertEquals(rows[i], row);
  }
  assert(rows[0]!.some((x, i) => x !== rows[1]![i]));
});

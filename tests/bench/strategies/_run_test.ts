import { assert, assertEquals } from "@std/assert";
import { overSeeds, run, sideBySide } from "../../../bench/strategies/_run.ts";
import { fakeVocab, tableModel } from "../../fakes/mod.ts";

const model = tableModel({
  vocab: fakeVocab({ pieces: [..."yesno?"] }),
  table: {
    "": { "<end>": 1 },
    "<assistant>": { y: 0.5, n: 0.5 },
    y: { e: 1 },
    ye: { s: 1 },
    n: { o: 1 },
  },
});
const ask = {
  models: { model },
  prompt: [{ role: "user", content: "yes?" }],
  maxTokens: 8,
} as const;

Deno.test("run() gives whole texts, their tokens, why they ended and what they cost", async () => {
  const seeds = Array.from({ length: 40 }, (_, seed) => seed);
  const all = await sideBySide(
    seeds,
    (seed) => run({ strategy: "sample" }, { ...ask, sampling: { temperature: 1 }, seed }),
  );
  for (const { texts: [text], tokens: [tokens], reasons, result } of all) {
    assert(text === "yes" || text === "no", text);
    assertEquals([tokens!.length, reasons], [text.length, ["stop"]]);
    assertEquals(result.usage.drawnTokens, text.length + 1); // and the stop token
  }
  const share = all.filter(({ texts }) => texts[0] === "yes").length / all.length;
  assert(Math.abs(share - 0.5) < 0.4, `${share}`); // five standard deviations
});

Deno.test("run() gives lists in the strategy's order, and short ones as they are", async () => {
  const way = { strategy: "beam", params: { num_beams: 2 } };
  const two = await run(way, { ...ask, choices: 2, seed: 1 });
  assertEquals(two.texts, ["yes", "no"]); // ln(1/2) over four tokens, and over three
  const cut = await run(way, { ...ask, choices: 2, seed: 1, maxTokens: 1 });
  assertEquals(cut.reasons, ["length", "length"]);
});

Deno.test("sideBySide() keeps the order and runs sixteen at a time", async () => {
  let going = 0, most = 0;
  const results = await sideBySide(Array.from({ length: 40 }, (_, i) => i), async (item, i) => {
    most = Math.max(most, ++going);
    for (let turn = 0; turn < 40 - i; turn++) await Promise.resolve(); // later ones are faster
    going--;
    return item * 2;
  });
  assertEquals(results, Array.from({ length: 40 }, (_, i) => 2 * i));
  assertEquals(most, 16);
  assertEquals(await sideBySide([], () => Promise.resolve(1)), []);
});

Deno.test("overSeeds() gives every item a result per seed, and no seed twice", async () => {
  const all = await overSeeds(
    ["a", "b", "c"],
    2,
    (item, seed, i) => Promise.resolve(`${item}${i} ${seed}`),
  );
  assertEquals(all, [["a0 1", "a0 4"], ["b1 2", "b1 5"], ["c2 3", "c2 6"]]);
});

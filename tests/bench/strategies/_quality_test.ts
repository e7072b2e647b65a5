import { assert, assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import {
  answerAll,
  bootstrap,
  markdown,
  mean,
  qualityOptions,
} from "../../../bench/strategies/_quality.ts";
import { sample, type Task } from "../../../models/recipe/task.ts";
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
const task: Task = {
  name: "yes",
  generate: () => sample("yes", "yes?", "yes"),
  solve: () => "yes",
  values: () => [],
};

Deno.test("answerAll() gives every instance an answer per seed, with whole texts and their cost", async () => {
  let done = 0;
  const run = (draws: boolean) =>
    answerAll(model, { label: "", strategy: "sample", sampling: { temperature: 1 }, draws }, {
      task,
      options: { count: 40, seeds: 3 },
      onDone: () => void done++,
    });
  const answers = await run(true);
  assertEquals([answers.length, done], [40, 120]);
  for (const seeds of answers) {
    assertEquals(seeds.length, 3);
    for (const { texts: [text], tokens: [tokens], drawn } of seeds) {
      assert(text === "yes" || text === "no", text);
      assertEquals(tokens!.length, text.length);
      assertEquals(drawn, text.length + 1); // and the stop token
    }
  }
  const share = mean(answers.flat().map(({ texts }) => +(texts[0] === "yes")));
  assert(Math.abs(share - 0.5) < 0.25, `${share}`); // five standard deviations
  assertEquals((await run(false)).map((seeds) => seeds.length), answers.map(() => 1));
});

Deno.test("answerAll() returns lists in the strategy's order", async () => {
  const [[answers] = []] = await answerAll(model, {
    label: "",
    strategy: "beam",
    params: { num_beams: 2 },
    sampling: {},
    choices: 2,
    draws: false,
  }, { task, options: { count: 1, seeds: 1 }, onDone: () => {} });
  assertEquals(answers?.texts, ["yes", "no"]); // ln(1/2) over four tokens, and over three
});

Deno.test("bootstrap() repeats, holds the mean, and narrows with more values", () => {
  const values = Array.from({ length: 50 }, (_, i) => i % 2);
  const estimate = bootstrap(values, "a");
  assertEquals(estimate, bootstrap(values, "a"));
  assertEquals(estimate.mean, 0.5);
  // Normal approximation: 1.96 * 0.5 / sqrt(50).
  assertAlmostEquals(estimate.low, 0.5 - 0.139, 0.03);
  assertAlmostEquals(estimate.high, 0.5 + 0.139, 0.03);
  const more = bootstrap(Array.from({ length: 800 }, (_, i) => i % 2), "a");
  assert(more.high - more.low < (estimate.high - estimate.low) / 3);
  assertThrows(() => bootstrap([], "a"), RangeError);
});

Deno.test("qualityOptions() refuses counts and tasks that make no sense", () => {
  assertThrows(() => qualityOptions(["--count", "0"], "x"), RangeError, "--count");
  assertThrows(() => qualityOptions(["--seeds", "1.5"], "x"), RangeError, "--seeds");
  assertThrows(() => qualityOptions(["--task", "juggle"], "x"), RangeError, "juggle");
  const { tasks, out } = qualityOptions(["--task", "copy", "--task", "sort"], "x");
  assertEquals([tasks.map(({ name }) => name), out], [["copy", "sort"], "bench/results/x"]);
});

Deno.test("markdown() aligns numbers to the right", () => {
  assertEquals(markdown([["a", "b"], ["1", "2"]]), "| a | b |\n| --- | --: |\n| 1 | 2 |\n");
});

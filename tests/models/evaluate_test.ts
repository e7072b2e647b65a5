import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { evaluate, testSamples, wilson } from "../../models/evaluate.ts";
import { EVALUATION } from "../../models/recipe/tasks/mod.ts";

const close = (a: number, b: number) => assert(Math.abs(a - b) < 5e-4, `${a} is not ${b}`);

Deno.test("wilson: agrees with published values and contains the share", () => {
  const half = wilson(50, 100);
  close(half.low, 0.4038);
  close(half.high, 0.5962);
  const none = wilson(0, 10);
  close(none.low, 0);
  close(none.high, 0.2775);
  const all = wilson(10, 10);
  close(all.low, 0.7225);
  close(all.high, 1);
});

Deno.test("wilson: refuses impossible counts", () => {
  for (const [right, count] of [[1, 0], [-1, 5], [6, 5], [NaN, 5]] as const) {
    assertThrows(() => wilson(right, count), RangeError);
  }
});

const options = { tasks: EVALUATION, count: 8, seed: "eval", parallel: 3 };

Deno.test("evaluate: the trivial program scores everything, an empty answer nothing", async () => {
  const seen: number[] = [];
  const answers = new Map(
    EVALUATION.flatMap((task) => testSamples(task, 8, "eval")).map((s) => [
      s.messages[0].content,
      s.answer,
    ]),
  );
  const perfect = await evaluate(
    ([{ content }]) => Promise.resolve(answers.get(content) ?? ""),
    { ...options, onProgress: (done, all) => seen.push(done / all) },
  );
  for (const score of perfect) assertEquals([score.right, score.count, score.high], [8, 8, 1]);
  assertEquals(seen.at(-1), 1);
  const nothing = await evaluate(() => Promise.resolve(""), options);
  for (const score of nothing) assertEquals([score.right, score.low], [0, 0]);
});

Deno.test("evaluate: an answer with more text than the exact one is wrong", async () => {
  const task = EVALUATION[0];
  assert(task);
  const [score] = await evaluate(
    ([{ content }]) => Promise.resolve(task.solve(content) + "."),
    { ...options, tasks: [task] },
  );
  assertEquals(score?.right, 0);
});

Deno.test("evaluate: an error of the model is not counted as a wrong answer", async () => {
  await assertRejects(() => evaluate(() => Promise.reject(new Error("broken")), options), Error);
});

import { assert, assertEquals, assertNotEquals } from "@std/assert";
import { taskRng } from "../../models/recipe/rng.ts";
import { extend, type Sample, type Split, splitOf, type Task } from "../../models/recipe/task.ts";
import { EVALUATION, TRAINING } from "../../models/recipe/tasks/mod.ts";

const TASKS: readonly Task[] = [...new Set([...TRAINING.map(([task]) => task), ...EVALUATION])];

function draw(task: Task, split: Split, count: number, seed: string) {
  const rng = taskRng(seed);
  return Array.from({ length: count }, () => task.generate(rng, split));
}

for (const task of TASKS) {
  Deno.test(`${task.name}: the trivial program answers every sample`, () => {
    for (const split of ["train", "test"] as const) {
      for (const { messages, answer } of draw(task, split, 300, `solve ${split}`)) {
        assertEquals(task.solve(messages[0].content), answer);
        assertEquals(messages[1].content, answer);
      }
    }
  });

  Deno.test(`${task.name}: training and test samples share no surface value`, () => {
    const seen = (split: Split) =>
      new Set(draw(task, split, 1500, `values ${split}`).flatMap((s) => task.values(question(s))));
    const train = seen("train");
    const test = seen("test");
    assert(train.size > 0 && test.size > 0);
    assertEquals([...test].filter((value) => train.has(value)), []);
  });

  Deno.test(`${task.name}: every surface value belongs to the split by its hash`, () => {
    for (const split of ["train", "test"] as const) {
      for (const sample of draw(task, split, 200, `hash ${split}`)) {
        const values = task.values(question(sample));
        assert(values.length > 0);
        for (const value of values) assertEquals(splitOf(value), split);
      }
    }
  });

  Deno.test(`${task.name}: the seed decides the samples`, () => {
    assertEquals(draw(task, "test", 20, "a"), draw(task, "test", 20, "a"));
    assertNotEquals(draw(task, "test", 20, "a"), draw(task, "test", 20, "b"));
  });
}

const question = (s: Sample) => s.messages[0].content;

Deno.test("recall: half of the samples have no separator after the value", () => {
  const recall = TASKS.find((task) => task.name === "recall_mid");
  assert(recall);
  const samples = draw(recall, "train", 1000, "separators");
  const separated = samples.filter((s) => {
    const fact = question(s).match(/(?:\w+ = |the code for \w+ is )\w+(\.?)/);
    return fact?.[1] === ".";
  }).length;
  assert(separated > 430 && separated < 570, `${separated} of 1000 separated`);
});

Deno.test("recall_16: every sample has sixteen different keys and asks for one of them", () => {
  const recall = TASKS.find((task) => task.name === "recall_16");
  assert(recall);
  for (const sample of draw(recall, "test", 100, "pairs")) {
    assertEquals(new Set(recall.values(question(sample))).size, 16);
  }
});

Deno.test("add: both orders of the operands fall into one split", () => {
  const add = TASKS.find((task) => task.name === "add");
  assert(add);
  assertEquals(add.values("What is 17 + 84?"), add.values("What is 84 + 17?"));
});

Deno.test("extend: further questions are about the same facts and answered by the program", () => {
  for (const name of ["recall_mid", "qa"]) {
    const task = TASKS.find((task) => task.name === name);
    assert(task);
    const rng = taskRng("turns");
    for (const first of draw(task, "train", 50, "turns")) {
      const { messages } = extend(task, first, rng, 3);
      assertEquals(messages.length, 8);
      const facts = question(first).slice(0, question(first).lastIndexOf("\n") + 1);
      for (let i = 2; i < 8; i += 2) {
        assertEquals(task.solve(facts + messages[i]?.content), messages[i + 1]?.content);
      }
    }
  }
});

Deno.test("extend: a task whose question stands alone keeps its two messages", () => {
  const copy = TASKS.find((task) => task.name === "copy");
  assert(copy);
  const [first] = draw(copy, "train", 1, "alone");
  assert(first);
  assertEquals(extend(copy, first, taskRng(1), 5), first);
});

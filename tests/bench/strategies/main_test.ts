import { assert, assertEquals, assertThrows } from "@std/assert";
import { optionsFrom, parts } from "../../../bench/strategies/main.ts";
import { EVALUATION } from "../../../models/recipe/tasks/mod.ts";

Deno.test("optionsFrom(): all parts, or those named, in their own order", () => {
  assertEquals(optionsFrom([]).parts, parts);
  const { parts: some, count, seeds, tasks, fresh } = optionsFrom(["awrs", "cautious"]);
  assertEquals(some.map(({ name }) => name), ["cautious", "awrs"]);
  assertEquals([count, seeds, tasks, fresh], [undefined, undefined, undefined, false]);
  const more = optionsFrom(["--count", "7", "--seeds", "2", "--task", "sql", "--fresh"]);
  assertEquals([more.count, more.seeds, more.tasks, more.fresh], [7, 2, ["sql"], true]);
});

Deno.test("optionsFrom() refuses counts, parts and tasks that make no sense", () => {
  assertThrows(() => optionsFrom(["--count", "0"]), RangeError, "--count");
  assertThrows(() => optionsFrom(["--seeds", "1.5"]), RangeError, "--seeds");
  assertThrows(() => optionsFrom(["--task", "juggle"]), RangeError, "juggle");
  assertThrows(() => optionsFrom(["beams"]), RangeError, "beams");
  assertThrows(() => optionsFrom(["--policy", "x"]), TypeError);
});

Deno.test("parts have names of their own, and tasks that exist", () => {
  assertEquals(new Set(parts.map(({ name }) => name)).size, parts.length);
  const known = EVALUATION.map(({ name }) => name);
  for (const { tasks = [] } of parts) for (const task of tasks) assert(known.includes(task), task);
});

import { assert, assertEquals } from "@std/assert";
import { chart } from "../../models/chart.ts";

const score = (task: string, accuracy: number) => ({
  task,
  right: accuracy * 10,
  count: 10,
  accuracy,
  low: accuracy - 0.1,
  high: accuracy + 0.1,
});

Deno.test("chart: one bar and one interval per model and task, text is escaped", () => {
  const svg = chart([
    { model: "large <1>", scores: [score("copy", 0.9), score("sort", 0.5)] },
    { model: "small", scores: [score("copy", 0.4), score("sort", 0.2)] },
  ], "Accuracy");
  assertEquals(svg.match(/height="14"/g)?.length, 4);
  assertEquals(svg.match(/stroke="#222"/g)?.length, 4);
  for (const text of ["90.0 %", "50.0 %", "40.0 %", "20.0 %", "large &lt;1>"]) {
    assert(svg.includes(text), text);
  }
  assertEquals(svg.includes("NaN"), false);
});

Deno.test("chart: the width of a bar is in proportion to the accuracy", () => {
  const width = (accuracy: number) =>
    Number(
      chart([{ model: "m", scores: [score("t", accuracy)] }], "").match(
        /width="([\d.]+)" height="14"/,
      )
        ?.[1],
    );
  assertEquals(width(0.8), 2 * width(0.4));
});

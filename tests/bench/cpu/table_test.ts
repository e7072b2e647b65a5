import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { cases, everything, settingsOf, slotsFilled } from "../../../bench/cpu/cases.ts";
import { plotComparison } from "../../../bench/cpu/plot.ts";
import { tableOfComparison, tableOfTransformers } from "../../../bench/cpu/table.ts";

/** Lines as a run writes them, with made-up figures. */
function lines(threads: number): Record<string, unknown>[] {
  const labels = { model: "M", type: "Q4_0", threads };
  const memory = { resident: 300 * 2 ** 20, timesWeights: 1.0449 };
  return [
    { name: "cpu/start", ...labels, loadMs: { decant: 250, llama: 1234 } },
    ...Object.keys(cases).map((name, i) => ({
      name: "cpu/speed",
      case: name,
      ...labels,
      decant: { tokensPerSecond: 150 * (i + 1) },
      llama: { tokensPerSecond: 75.25 },
      ratio: { median: 2 * (i + 1), lowest: 1.5, highest: 9 },
    })),
    { name: "cpu/memory", ...labels, weightBytes: 1, decant: memory, llama: memory },
  ];
}

Deno.test("tableOfComparison() has a row per file and number of threads", () => {
  const rows = tableOfComparison([...lines(1), ...lines(2)]).split("\n");
  assertEquals(rows.length, 4);
  assertEquals(
    rows[2],
    "| M Q4_0 | 1 | 150 / 75.3 (2.00) | 300 / 75.3 (4.00) | 450 / 75.3 (6.00) | 600 / 75.3 (8.00) | " +
      "300 / 300 | 1.04 | 0.25 / 1.23 |",
  );
});

Deno.test("tableOfTransformers() has a row per file and number of threads, if there are any", () => {
  assertEquals(tableOfTransformers(lines(1)), undefined);
  const others = [1, 2].flatMap(lines).map((line) => ({
    ...line,
    name: `${line.name}-transformers`,
    llama: undefined,
    transformers: line.llama,
  }));
  const rows = tableOfTransformers(others)!.split("\n");
  assertEquals(rows.length, 4);
  assertEquals(
    rows[3],
    "| M Q4_0 | 2 | 150 / 75.3 (2.00) | 300 / 75.3 (4.00) | 450 / 75.3 (6.00) | 600 / 75.3 (8.00) |",
  );
});

Deno.test("plotComparison() draws the cases of all settings", () => {
  const svg = plotComparison([...lines(1), ...lines(2)]);
  for (const text of ["<svg", "M, decode", "M, 8 streams", "Q4_0, threads: 2"]) {
    assertStringIncludes(svg, text);
  }
});

Deno.test("settingsOf() loads each file once per number of threads, and streams fill their slots", () => {
  const files = settingsOf(everything);
  assertEquals(files.length, everything.shapes.length * everything.types.length);
  for (const settings of files) {
    assertEquals(settings.map(({ threads }) => threads), [1, 2]);
    assertEquals(new Set(settings.map(({ model, type }) => model + type)).size, 1);
  }
  const { prefill, "streams-8": eight } = cases;
  assert(slotsFilled() >= prefill!.tokens + 7 * eight!.steps);
});

import { assert, assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import { calibrate } from "../../calibrate/calibrate.ts";
import {
  areaUnder,
  chord,
  deferralCurve,
  type Judged,
  oracle,
  summarise,
} from "../../calibrate/curve.ts";
import { readLines } from "../../calibrate/main.ts";
import { deferralPlot } from "../../calibrate/plot.ts";
import type { Answered } from "../../calibrate/train.ts";
import { taskRng } from "../../models/recipe/rng.ts";
import { parseCalibration } from "../../strategies/mod.ts";

/** Prompts whose small answers are right where their least log-probability is high, mostly. */
function records(count: number, seed: string): Answered[] {
  const rng = taskRng(seed);
  return Array.from({ length: count }, () => {
    const isHard = rng.chance(0.4);
    const least = isHard ? -1 - rng.int(100) / 50 : -rng.int(100) / 100;
    const length = 3 + rng.int(8);
    const logprobs = Array.from({ length }, () => -rng.int(10) / 1000);
    logprobs[rng.int(length)] = least;
    return {
      prompt: isHard ? "sort these words" : "copy this",
      logprobs,
      small: Number(rng.chance(isHard ? 0.1 : 0.95)),
      large: Number(rng.chance(0.95)),
    };
  });
}

const judged = (all: readonly Answered[], score: (one: Answered) => number): Judged[] =>
  all.map((one) => ({ small: one.small, large: one.large, score: score(one) }));

Deno.test("deferralCurve() begins at the small model's quality and ends at the large one's", () => {
  const all = judged(records(50, "a"), ({ logprobs }) => Math.min(...logprobs));
  const curve = deferralCurve(all);
  const mean = (of: (one: Judged) => number) => all.reduce((sum, one) => sum + of(one), 0) / 50;
  assertEquals(curve.length, 51);
  assertAlmostEquals(curve[0]!, mean(({ small }) => small), 1e-12);
  assertAlmostEquals(curve[50]!, mean(({ large }) => large), 1e-12);
});

Deno.test("deferralCurve() by hand, ties in between", () => {
  const prompts = [
    { score: 1, small: 1, large: 0 },
    { score: 0, small: 0, large: 1 },
    { score: 0, small: 1, large: 1 },
  ];
  const expected = [2 / 3, 2 / 3 + 1 / 6, 1, 2 / 3];
  deferralCurve(prompts).forEach((value, i) => assertAlmostEquals(value, expected[i]!, 1e-12));
  assertAlmostEquals(areaUnder([0, 1, 1]), 0.75, 1e-12);
});

Deno.test("areas: chance is the chord, the oracle is best, increasing transforms change nothing", () => {
  for (const seed of ["a", "b", "c"]) {
    const all = records(80, seed);
    const least = judged(all, ({ logprobs }) => Math.min(...logprobs));
    const area = (of: readonly Judged[]) => areaUnder(deferralCurve(of));
    const ends = deferralCurve(least);
    assertAlmostEquals(area(chord(least)), (ends[0]! + ends.at(-1)!) / 2, 1e-12);
    const cubed = least.map((one) => ({ ...one, score: one.score ** 3 + 7 }));
    assertAlmostEquals(area(cubed), area(least), 1e-12);
    assert(area(oracle(least)) >= area(least) && area(least) > area(chord(least)));
  }
});

Deno.test("summarise(): intervals hold their mean, narrow with more prompts, and repeat", () => {
  const width = (count: number) => {
    const all = judged(records(count, "w"), ({ logprobs }) => Math.min(...logprobs));
    const { area, points } = summarise(all, { seed: "s", resamples: 200 });
    assertEquals(summarise(all, { seed: "s", resamples: 200 }).area, area);
    for (const { quality } of points) {
      assert(quality.low <= quality.mean && quality.mean <= quality.high);
    }
    return area.high - area.low;
  };
  assert(width(400) < 0.7 * width(60));
});

Deno.test("calibrate(): every rule beats chance on prompts it was not fitted to, and the file is valid", () => {
  const all = records(100, "fit");
  const options = {
    models: ["small", "large"] as const,
    created: "2026-11-24",
    price: 0.1,
    deferRate: undefined,
    seed: "t",
  };
  const { calibration, results } = calibrate(all, options);
  assertEquals(parseCalibration(JSON.parse(JSON.stringify(calibration))), calibration);
  const gainOf = (label: string) => results.find((one) => one.label === label)!.summary.gain;
  for (const label of ["sum", "quantile 0", "learned", "router"]) {
    assert(gainOf(label).low > 0, `${label} ${JSON.stringify(gainOf(label))}`);
  }
  for (const { entry, judged } of results) {
    const deferred = judged.filter(({ score }) => score < entry.threshold).length / 100;
    const ties = judged.filter(({ score }) => score === entry.threshold).length / 100;
    assert(Math.abs(deferred - entry["defer_rate"]) <= 0.01 + ties, entry.rule);
  }
  const fixed = calibrate(all, { ...options, deferRate: 0.25 });
  assertEquals(fixed.calibration.rules[2]!["defer_rate"], 0.25);
  assertThrows(() => calibrate(all.slice(0, 19), options), RangeError, "20");
  const svg = deferralPlot("t", results, "t");
  assert(svg.startsWith("<svg") && svg.includes("oracle") && !svg.includes("NaN"));
});

Deno.test("readLines() takes prompts and messages and names the line that is wrong", () => {
  const lines = readLines(
    '{"prompt":"a","answer":"b"}\n\n{"messages":[{"role":"user","content":"c"}],"answer":"d"}\n',
  );
  assertEquals(lines.map(({ messages, answer }) => [messages[0]!.content, answer]), [["a", "b"], [
    "c",
    "d",
  ]]);
  for (
    const [text, part] of [["{", "line 1 is not"], ['{"prompt":"a"}', "answer"], [
      '{"answer":"a"}',
      "neither",
    ]]
  ) {
    assertThrows(() => readLines(text!), RangeError, part!);
  }
});

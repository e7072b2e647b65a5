/** Deferral curves as SVG. */
import { type Curve, lineChart } from "../bench/_chart.ts";
import type { RuleResult } from "./calibrate.ts";
import { chord, type CurveSummary, oracle, summarise } from "./curve.ts";

/** Rules beside random deferral and the best possible; whiskers are 95 % intervals. */
export function deferralPlot(title: string, results: readonly RuleResult[], seed: string): string {
  const { judged } = results[0]!;
  return lineChart({
    title,
    x: { name: "share of prompts deferred to the large model", min: 0, max: 1 },
    y: { name: "quality" },
    curves: [
      { ...curveOf("oracle", summarise(oracle(judged), { seed }), false), dashed: true },
      ...results.map(({ label, summary }, i) => curveOf(label, summary, i === 0)),
      { ...curveOf("random", summarise(chord(judged), { seed }), false), dashed: true },
    ],
  });
}

function curveOf(name: string, { points }: CurveSummary, whiskers: boolean): Curve {
  return {
    name,
    points: points.map(({ rate, quality }, i) => [
      rate,
      whiskers && i % 4 === 0 ? quality : quality.mean,
    ]),
  };
}

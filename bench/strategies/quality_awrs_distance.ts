/**
 * How close do particles come to the model's own conditional distribution, where masking does not?
 *
 * `deno run -A bench/strategies/quality_awrs_distance.ts [--count N] [--out FILE]`
 *
 * Small problems whose exact distribution can be enumerated, at both embedded models and temperature 1:
 * total variation between `count` answers and that distribution, against the noise that as many exact
 * draws have; and the mean estimated mass over the exact one, which is 1 if the weights are unbiased.
 */
import { chart, type ModelScores } from "../../models/chart.ts";
import { round } from "../_report.ts";
import { type DistanceResult, measureDistances } from "./_awrs_distance.ts";
import {
  type Estimate,
  markdown,
  openEmbedded,
  publish,
  type QualityOptions,
  qualityOptions,
  setup,
} from "./_quality.ts";

/** Runs the benchmark and writes its files. */
async function qualityDistance(options: QualityOptions): Promise<void> {
  await using model = await openEmbedded(options.model);
  await using small = await openEmbedded(`${options.model}-draft`);
  const distances = [
    ...await measureDistances(options.model, model.engine, options.count),
    ...await measureDistances(`${options.model}-draft`, small.engine, options.count),
  ].sort((a, b) => b.mass - a.mass);
  const { instances_per_task: answers, seeds: _, instances: __, ...how } = setup(options, model);
  const result = {
    ...how,
    draft: small.info.fingerprint,
    temperature: 1,
    "answers_per_problem": answers,
    distances,
  };
  const rounded = (_: string, value: unknown) => typeof value === "number" ? round(value) : value;
  await publish(options, {
    result: JSON.parse(JSON.stringify(result, rounded)),
    svg: chart(distanceScores(distances), "Total variation to the exact conditional distribution"),
    table: distanceTable(distances),
  });
}

function distanceScores(distances: readonly DistanceResult[]): ModelScores[] {
  return distances[0]!.rows.map(({ way }, w) => ({
    model: way,
    scores: distances.map(({ mass, rows }) => {
      const { mean, low, high } = rows[w]!.distance;
      const task = `mass ${mass.toExponential(1)}`;
      return { task, right: 0, count: 0, accuracy: mean, low, high };
    }),
  }));
}

const interval = ({ mean, low, high }: Estimate) =>
  `${mean.toFixed(2)} (${low.toFixed(2)} to ${high.toFixed(2)})`;

function distanceTable(distances: readonly DistanceResult[]): string {
  const labels = distances[0]!.rows.map(({ way }) => way);
  return "Total variation to the exact conditional distribution (95 % interval)\n\n" + markdown([
    ["problem", "model", "mass", "masking, exact", "noise", ...labels, "mass ratio, awrs 20"],
    ...distances.map(({ problem, model, mass, masking, floor, rows }) => [
      problem,
      model,
      mass.toExponential(1),
      masking.toFixed(2),
      floor.toFixed(2),
      ...rows.map(({ distance }) => interval(distance)),
      interval(rows[2]!.massRatio!),
    ]),
  ]);
}

if (import.meta.main) {
  await qualityDistance(qualityOptions(["--count", "200", ...Deno.args], "quality-awrs-distance"));
}

/**
 * How close do particles come to the model's own conditional distribution, where masking does not?
 *
 * Small problems whose exact distribution can be enumerated, at both embedded models and temperature 1:
 * total variation between `count` answers, each with a seed of its own, and that distribution, against
 * the noise that as many exact draws have; and the mean estimated mass over the exact one, which is 1 if
 * the weights are unbiased.
 */
import { barChart } from "../_chart.ts";
import { type DistanceResult, measureDistances } from "./_awrs_distance.ts";
import { type Bench, markdown, type Part, withInterval } from "./_quality.ts";

/** The part. */
export const qualityAwrsDistance: Part = {
  name: "awrs-distance",
  about: "distance of awrs to exact conditional distributions on small problems",
  count: 200,
  seeds: 1,
  tasks: [],
  async measure(bench) {
    const distances: DistanceResult[] = [];
    for (const { engine } of [bench.large, bench.small]) {
      distances.push(...await measureDistances(engine, bench));
    }
    distances.sort((a, b) => b.mass - a.mass);
    const result = {
      "max_tokens": 24,
      "instances_per_task": undefined,
      temperature: 1,
      "answers_per_problem": bench.count,
      seeds: bench.count,
      distances,
    };
    return { result, svg: plot(distances, bench), table: tableOf(distances) };
  },
};

function plot(distances: readonly DistanceResult[], { count }: Bench): string {
  return barChart({
    title: `Total variation to the exact conditional distribution, ${count} answers, 95 %`,
    value: { name: "total variation", min: 0, max: 1 },
    labels: distances.map(({ mass, model }) =>
      `${model.endsWith("draft") ? "draft, " : ""}mass ${mass.toExponential(1)}`
    ),
    series: distances[0]!.rows.map(({ way }, w) => ({
      name: way,
      bars: distances.map(({ rows }) => {
        const { mean, low, high } = rows[w]!.distance;
        return { mean: Number(mean.toFixed(3)), low, high };
      }),
    })),
  });
}

function tableOf(distances: readonly DistanceResult[]): string {
  const labels = distances[0]!.rows.map(({ way }) => way);
  const ratios = labels.filter((label) => label !== "mask");
  const head = ["problem", "model", "mass", "masking, exact", "noise of counting"];
  return "Total variation to the exact conditional distribution (95 % interval)\n\n" + markdown([
    [...head, ...labels],
    ...distances.map(({ problem, model, mass, masking, floor, rows }) => [
      problem,
      model,
      mass.toExponential(1),
      masking.toFixed(2),
      floor.toFixed(2),
      ...rows.map(({ distance }) => withInterval(distance)),
    ]),
  ]) + "\nEstimated mass over the exact one; checks per token\n\n" + markdown([
    ["problem", "model", "mass", ...ratios],
    ...distances.map(({ problem, model, mass, rows }) => [
      problem,
      model,
      mass.toExponential(1),
      ...rows.filter(({ massRatio }) => massRatio).map((row) =>
        `${withInterval(row.massRatio!)}; ${withInterval(row.checksPerToken!)}`
      ),
    ]),
  ]);
}

/** Plot of the comparison with llama.cpp, from its result lines. */
import { barChart } from "../_chart.ts";
import { type Line, of, type Speed, titles } from "./table.ts";

/** Speed relative to llama.cpp: one group of bars per model and case, one bar per type and threads. */
export function plotComparison(lines: readonly Line[]): string {
  const speeds = of<Speed>(lines, "cpu/speed");
  const label = ({ model, case: name }: Speed) => `${model}, ${titles[name]}`;
  const series = ({ type, threads }: Speed) => `${type}, threads: ${threads}`;
  const labels = [...new Set(speeds.map(label))];
  return barChart({
    title: "Speed of the WebAssembly backend, llama.cpp = 1",
    value: { name: "ratio, median and range over rounds", min: 0 },
    labels,
    reference: 1,
    series: [...new Set(speeds.map(series))].map((name) => ({
      name,
      bars: labels.map((wanted) => {
        const found = speeds.find((speed) => series(speed) === name && label(speed) === wanted);
        if (found === undefined) return undefined;
        const { median, lowest, highest } = found.ratio;
        return { mean: Number(median.toFixed(2)), low: lowest, high: highest };
      }),
    })),
  });
}

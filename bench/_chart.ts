/** Plots of benchmark results as SVG text, drawn by ECharts without a browser. */
import { type EChartsOption, init, type SeriesOption } from "npm:echarts@6.1.0";

/** One value with an interval, both in the unit of the axis. */
export interface Interval {
  readonly mean: number;
  readonly low: number;
  readonly high: number;
}

/** One line of a plot: points in drawing order. */
export interface Curve {
  readonly name: string;
  readonly points: readonly (readonly [x: number, y: number | Interval])[];
  /** Dashes, for controls and bounds. */
  readonly dashed?: boolean;
}

/** An axis as people read it. */
export interface Axis {
  readonly name: string;
  readonly scale?: "log" | "linear";
  readonly min?: number;
  readonly max?: number;
}

/** Without a browser ECharts guesses widths of names, and too small ones. */
const legendBase = { top: 34, itemGap: 32 };
const legendHeight = (names: number) => 44 * Math.ceil(names / 4);
const text = { fontFamily: "system-ui, sans-serif" };
const isInterval = (y: number | Interval): y is Interval => typeof y === "object";

function render(option: EChartsOption, width: number, height: number): string {
  const chart = init(null, null, { renderer: "svg", ssr: true, width, height });
  try {
    chart.setOption({ animation: false, backgroundColor: "#fff", textStyle: text, ...option });
    return chart.renderToSVGString() + "\n";
  } finally {
    chart.dispose();
  }
}

/** Whiskers of intervals; `at` gives the pixel of a point. */
function whiskers(
  name: string,
  data: readonly (readonly [number, number, number])[],
  horizontal: boolean,
  texts: readonly string[] = [],
): SeriesOption {
  return {
    type: "custom",
    name,
    data: data.map((row) => [...row]),
    z: 10,
    silent: true,
    encode: horizontal ? { x: [1, 2], y: 0 } : { x: 0, y: [1, 2] },
    renderItem: ({ dataIndex }, api) => {
      const place = Number(api.value(0));
      const at = (value: number) => api.coord(horizontal ? [value, place] : [place, value]);
      const [a = [0, 0], b = [0, 0]] = [1, 2].map((i) => at(Number(api.value(i))));
      const line = (x1: number, y1: number, x2: number, y2: number) => ({
        type: "line" as const,
        shape: { x1, y1, x2, y2 },
        style: { stroke: "#333", lineWidth: 1 },
      });
      const [ax = 0, ay = 0] = a, [bx = 0, by = 0] = b;
      const caps = horizontal
        ? [line(ax, ay - 4, ax, ay + 4), line(bx, by - 4, bx, by + 4)]
        : [line(ax - 3, ay, ax + 3, ay), line(bx - 3, by, bx + 3, by)];
      const style = { text: texts[dataIndex] ?? "", x: bx + 6, y: by - 5, font: "10px sans-serif" };
      const value = { type: "text" as const, style };
      return { type: "group", children: [line(ax, ay, bx, by), ...caps, value] };
    },
  };
}

function axisOption({ name, scale = "linear", min, max }: Axis, nameGap: number) {
  const bounds = { ...(min === undefined ? {} : { min }), ...(max === undefined ? {} : { max }) };
  const line = { axisLine: { onZero: false } };
  const base = { name, nameLocation: "middle" as const, nameGap, ...line, ...bounds };
  return scale === "log" ? { ...base, type: "log" as const } : { ...base, type: "value" as const };
}

/** Curves over a common x axis, with vertical whiskers where points carry intervals. */
export function lineChart(
  { title, x, y, curves, width = 860, height = 460 }: {
    readonly title: string;
    readonly x: Axis;
    readonly y: Axis;
    readonly curves: readonly Curve[];
    readonly width?: number;
    readonly height?: number;
  },
): string {
  const series = curves.flatMap(({ name, points, dashed = false }): SeriesOption[] => {
    const data = points.map(([at, value]) => [at, isInterval(value) ? value.mean : value]);
    const spans = points.flatMap(([at, value]) =>
      isInterval(value) ? [[at, value.low, value.high] as const] : []
    );
    const line: SeriesOption = {
      type: "line",
      name,
      data,
      symbolSize: 6,
      lineStyle: { width: 2, type: dashed ? "dashed" : "solid" },
    };
    return spans.length === 0 ? [line] : [line, whiskers("", spans, false)];
  });
  return render(
    {
      title: { text: title, left: "center", top: 0 },
      legend: { ...legendBase, data: curves.map(({ name }) => name) },
      grid: { left: 70, right: 30, top: 38 + legendHeight(curves.length), bottom: 60 },
      xAxis: axisOption(x, 30),
      yAxis: axisOption(y, 48),
      series,
    },
    width,
    height,
  );
}

/** Horizontal bars with whiskers: one group per label, one bar per series. */
export function barChart(
  { title, value, labels, series, width = 860, reference }: {
    readonly title: string;
    readonly value: Axis;
    /** Groups from top to bottom. */
    readonly labels: readonly string[];
    readonly series: readonly {
      readonly name: string;
      readonly bars: readonly (Interval | undefined)[];
    }[];
    readonly width?: number;
    /** A vertical line, e.g. at 1 for ratios. */
    readonly reference?: number;
  },
): string {
  const perLabel = 16 * series.length + 12;
  const legend = legendHeight(series.length);
  const bars = series.map(({ name, bars }, i): SeriesOption => ({
    type: "bar",
    name,
    data: bars.map((bar) => bar?.mean ?? null),
    barWidth: 13,
    barGap: "15%",
    ...(i === 0 && reference !== undefined
      ? { markLine: { symbol: "none", data: [{ xAxis: reference }], label: { show: false } } }
      : {}),
  }));
  // A whisker's place is its bar's: groups are centred on whole numbers, bars are 15 pixels apart.
  const spans = series.flatMap(({ bars }, s) =>
    bars.flatMap((bar, i) => {
      const shift = (s - (series.length - 1) / 2) * 15 / perLabel;
      return bar === undefined ? [] : [[i + shift, bar.low, bar.high] as const];
    })
  );
  const means = series.flatMap(({ bars }) => bars.flatMap((bar) => bar ? [`${bar.mean}`] : []));
  return render(
    {
      title: { text: title, left: "center", top: 0 },
      legend: { ...legendBase, data: series.map(({ name }) => name) },
      grid: { left: 220, right: 60, top: 24 + legend, bottom: 50 },
      xAxis: axisOption(value, 28),
      yAxis: [
        { type: "category", data: [...labels], inverse: true, axisTick: { show: false } },
        { type: "value", min: -0.5, max: labels.length - 0.5, inverse: true, show: false },
      ],
      series: [...bars, { ...whiskers("", spans, true, means), yAxisIndex: 1 } as SeriesOption],
    },
    width,
    76 + legend + labels.length * perLabel,
  );
}

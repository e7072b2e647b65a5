/** Bar chart of accuracies as an SVG string: one group of bars per task, 95 % intervals as whiskers. */
import type { TaskScore } from "./evaluate.ts";

export interface ModelScores {
  readonly model: string;
  readonly scores: readonly TaskScore[];
}

const COLOURS = [
  "#2563a8",
  "#d9822b",
  "#3c8d5a",
  "#8250a0",
  "#b03a4a",
  "#7a6a2f",
  "#2b9aa8",
  "#777777",
] as const;
const LEFT = 140;
const WIDTH = 520;
const BAR = 14;
const GAP = 12;
const LEGEND = 20;
const PER_LINE = 3;

const escape = (text: string) =>
  text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll('"', "&quot;");
const x = (share: number) => (LEFT + share * WIDTH).toFixed(1);

function bar(score: TaskScore, y: number, colour: string): string {
  const middle = y + BAR / 2;
  const whisker = `M${x(score.low)} ${middle}H${x(score.high)}M${x(score.low)} ${middle - 4}v8M${
    x(score.high)
  } ${middle - 4}v8`;
  return `<rect x="${LEFT}" y="${y}" width="${
    (score.accuracy * WIDTH).toFixed(1)
  }" height="${BAR}" fill="${colour}"/>` +
    `<path d="${whisker}" stroke="#222" fill="none"/>` +
    `<text x="${LEFT + WIDTH + 12}" y="${middle + 4}">${
      (score.accuracy * 100).toFixed(1)
    } %</text>`;
}

/** Horizontal bars, tasks in the order of the first model. */
export function chart(models: readonly ModelScores[], title: string): string {
  const tasks = models[0]?.scores.map((score) => score.task) ?? [];
  const group = models.length * (BAR + 2) + GAP;
  const top = 44 + LEGEND * Math.ceil(models.length / PER_LINE);
  const height = top + tasks.length * group + 40;
  const parts = [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${LEFT + WIDTH + 80} ${height}" ` +
    `font-family="system-ui, sans-serif" font-size="12" fill="#222">`,
    `<rect width="100%" height="100%" fill="#fff"/>`,
    `<text x="${LEFT}" y="22" font-size="15" font-weight="600">${escape(title)}</text>`,
  ];
  models.forEach(({ model }, i) => {
    const at = LEFT + (i % PER_LINE) * 190;
    const y = 36 + LEGEND * Math.floor(i / PER_LINE);
    parts.push(`<rect x="${at}" y="${y}" width="12" height="12" fill="${colourOf(i)}"/>`);
    parts.push(`<text x="${at + 18}" y="${y + 10}">${escape(model)}</text>`);
  });
  for (const tick of [0, 0.25, 0.5, 0.75, 1]) {
    parts.push(`<path d="M${x(tick)} ${top - 6}V${height - 30}" stroke="#ddd"/>`);
    parts.push(
      `<text x="${x(tick)}" y="${height - 14}" text-anchor="middle">${tick * 100} %</text>`,
    );
  }
  tasks.forEach((task, t) => {
    const y = top + t * group;
    const middle = y + models.length * (BAR + 2) / 2 + 3;
    parts.push(`<text x="${LEFT - 10}" y="${middle}" text-anchor="end">${escape(task)}</text>`);
    models.forEach(({ scores }, i) => {
      const score = scores.find((s) => s.task === task);
      if (score) parts.push(bar(score, y + i * (BAR + 2), colourOf(i)));
    });
  });
  return parts.join("\n") + "\n</svg>\n";
}

const colourOf = (index: number) => COLOURS[index % COLOURS.length] ?? COLOURS[0];

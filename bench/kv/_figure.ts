/** A panel per task: accuracy (or relative perplexity) against the share of tokens kept or read. */
import { ENTRIES } from "./_grid.ts";
import type { Row } from "./_table.ts";

const WIDTH = 330, HEIGHT = 230, LEFT = 52, TOP = 52, GAP = 46;
const PANELS = [
  ["recall", "recall, question hidden"],
  ["passkey", "passkey, question hidden"],
  ["multi-fact", "multi-fact recall, question hidden"],
  ["recall, question visible", "recall, question visible"],
  ["story", "stories: perplexity / full cache"],
] as const;
const COLOURS = [
  "#111111",
  "#2563a8",
  "#7fb2e5",
  "#999999",
  "#3c8d5a",
  "#d9822b",
  "#b03a4a",
  "#8250a0",
  "#c08ad6",
  "#7a6a2f",
  "#2b9aa8",
  "#e377c2",
  "#17a05d",
  "#555555",
  "#b8860b",
  "#e6194b",
  "#4363d8",
  "#7f97e8",
  "#a9b8f0",
  "#444444",
  "#888888",
  "#b0b0b0",
] as const;
/** One curve for what differs only in the bias, which is how `nats` chooses its share. */
const curveOf = (policy: string) => policy.replace(/ \(bias .*\)$/, "");
const CURVES = [...new Set(ENTRIES.map(({ label }) => curveOf(label)))];
const SHARES = [0.05, 0.1, 0.25, 0.5, 1];
const STORY_MOST = 2;

const x = (share: number) => LEFT + (WIDTH - LEFT) * Math.log(share / 0.04) / Math.log(1 / 0.04);

/** An SVG; dashed lines read less and keep everything. */
export function figure(rows: readonly Row[]): string {
  const names = [...new Set(rows.map(({ policy }) => curveOf(policy)))];
  const colourOf = (name: string) => COLOURS[CURVES.indexOf(name) % COLOURS.length]!;
  const width = 3 * (WIDTH + GAP) + 20, height = TOP + 2 * (HEIGHT + GAP + 30);
  const parts = [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" ` +
    `font-family="system-ui, sans-serif" font-size="11" fill="#222">`,
    `<rect width="100%" height="100%" fill="#fff"/>`,
    `<text x="16" y="24" font-size="15" font-weight="600">KV policies on decant-tiny, ` +
    `95 % intervals</text>`,
    `<text x="16" y="40">Against the share of tokens kept (solid) or read per step (dashed: all ` +
    `are kept)</text>`,
  ];
  PANELS.forEach(([task, title], i) => {
    const own = rows.filter((row) => row.task === task);
    const at = `translate(${16 + (i % 3) * (WIDTH + GAP)} ${
      TOP + Math.floor(i / 3) * (HEIGHT + GAP + 30)
    })`;
    parts.push(`<g transform="${at}">${panel(own, task, title, colourOf)}</g>`);
  });
  const legendAt = `translate(${20 + 2 * (WIDTH + GAP)} ${TOP + HEIGHT + GAP + 40})`;
  const legend = names.map((name, i) => {
    const column = Math.floor(i / 12) * 150, y = (i % 12) * 20;
    const dash = rows.find(({ policy }) => curveOf(policy) === name)?.family === "read"
      ? ` stroke-dasharray="5 3"`
      : "";
    return `<path d="M${column} ${y}h22" stroke="${colourOf(name)}" stroke-width="2"${dash}/>` +
      `<text x="${column + 28}" y="${y + 4}">${name}</text>`;
  });
  parts.push(`<g transform="${legendAt}">${legend.join("")}</g>`, "</svg>");
  return parts.join("\n") + "\n";
}

function panel(
  rows: readonly Row[],
  task: string,
  title: string,
  colourOf: (name: string) => string,
): string {
  const isStory = task === "story";
  const y = (value: number) => {
    const share = isStory ? (Math.min(STORY_MOST, value) - 1) / (STORY_MOST - 1) : value;
    return 22 + HEIGHT - share * HEIGHT;
  };
  const parts = [`<text x="${LEFT}" y="12" font-weight="600">${title}</text>`];
  for (const tick of [0, 0.25, 0.5, 0.75, 1]) {
    const value = isStory ? 1 + tick * (STORY_MOST - 1) : tick;
    const label = isStory ? value.toFixed(2) : `${100 * tick} %`;
    parts.push(
      `<path d="M${LEFT} ${y(value)}H${WIDTH}" stroke="#ddd"/>`,
      `<text x="${LEFT - 6}" y="${y(value) + 4}" text-anchor="end">${label}</text>`,
    );
  }
  for (const share of SHARES) {
    parts.push(
      `<text x="${x(share).toFixed(1)}" y="${HEIGHT + 40}" text-anchor="middle">${
        100 * share
      } %</text>`,
    );
  }
  for (const [name, own] of Map.groupBy(rows, ({ policy }) => curveOf(policy))) {
    parts.push(line(own, colourOf(name), y));
  }
  return parts.join("");
}

function line(rows: readonly Row[], colour: string, y: (value: number) => number): string {
  const isRead = rows[0]!.family === "read", isBits = rows[0]!.family === "bits";
  const points = rows.map((row) => ({
    ...row,
    at: x(Math.max(0.04, isRead ? row.ratio : isBits ? row.bytes : row.kept)),
  })).sort((a, b) => a.at - b.at);
  const path = points.map(({ at, value }, i) =>
    `${i === 0 ? "M" : "L"}${at.toFixed(1)} ${y(value).toFixed(1)}`
  ).join("");
  const dash = isRead ? ` stroke-dasharray="5 3"` : "";
  const marks = points.map(({ at, value, low, high }) =>
    `<path d="M${at.toFixed(1)} ${y(low).toFixed(1)}V${
      y(high).toFixed(1)
    }" stroke="${colour}" opacity="0.35"/>` +
    `<circle cx="${at.toFixed(1)}" cy="${y(value).toFixed(1)}" r="2.4" fill="${colour}"/>`
  );
  return `<path d="${path}" stroke="${colour}" fill="none" stroke-width="1.6"${dash}/>${
    marks.join("")
  }`;
}

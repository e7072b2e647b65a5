/** One fact in filler: accuracy by its depth, of policies that keep or read a quarter. */
import { wilson } from "../../models/evaluate.ts";
import { lineChart } from "../_chart.ts";
import type { CellRow, Row } from "./_table.ts";

const SHOWN = [
  "streaming",
  "h2o",
  "snapkv",
  "expected-attention",
  "key-diff",
  "nats (bias 0)",
  "quest",
  "tokenbutler",
  "attention-predictor (network)",
];

/** An SVG; lengths taken together. Dashed lines read less and keep everything. */
export function passkeyFigure(rows: readonly Row[]): string {
  const curves = SHOWN.flatMap((name) => {
    const row = rows.find(({ task, policy, ratio, cells }) =>
      task === "passkey" && policy === name && cells !== undefined &&
      (ratio === 0.25 || name.startsWith("nats"))
    );
    if (row === undefined) return [];
    const label = row.ratio === 1 ? `${name}, ${(100 * row.kept).toFixed(0)} % kept` : name;
    return [{ name: label, points: byDepth(row.cells!), dashed: row.family === "read" }];
  });
  return lineChart({
    title: "One fact in 128 to 512 tokens, question hidden, 25 % kept (dashed: read)",
    x: { name: "depth of the fact (1 = newest)", min: 0, max: 1 },
    y: { name: "right", min: 0, max: 1 },
    curves,
  });
}

function byDepth(cells: Readonly<Record<string, CellRow>>) {
  const depths = Map.groupBy(
    Object.entries(cells),
    ([name]) => Number(name.match(/depth (.*)$/)?.[1]),
  );
  return [...depths].map(([depth, list]) => {
    const sum = (pick: (cell: CellRow) => number) =>
      list.reduce((sum, [, cell]) => sum + pick(cell), 0);
    const right = sum((cell) => cell.right), asked = sum((cell) => cell.asked);
    return [depth, { mean: right / asked, ...wilson(right, asked) }] as const;
  }).sort(([a], [b]) => a - b);
}

/** The README's table of what strategies do to answers, from the result files of quality_*.ts. */
import type { Estimate } from "./_quality.ts";

const folder = "bench/results/";

type Row = readonly [strategy: string, against: string, figure: string, file: string];

async function read<T>(name: string): Promise<T | undefined> {
  try {
    const url = new URL(`../results/quality-${name}.json`, import.meta.url);
    return JSON.parse(await Deno.readTextFile(url)) as T;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
}

const number = ({ mean, low, high }: Estimate, factor: number, digits: number) =>
  [mean, low, high].map((value) => (factor * value).toFixed(digits));

/** "+4.8 points (3.5 to 6.2)", for differences of shares. */
function points(estimate: Estimate): string {
  const [mean = "", low = "", high = ""] = number(estimate, 100, 1);
  return `${estimate.mean > 0 ? "+" : ""}${mean} points (${low} to ${high})`;
}

/** "3.51 (3.40 to 3.62)" */
function plain(estimate: Estimate): string {
  const [mean = "", low = "", high = ""] = number(estimate, 1, 2);
  return `${mean} (${low} to ${high})`;
}

/** "94.1 % (92.3 to 95.8)" */
function share(estimate: Estimate): string {
  const [mean = "", low = "", high = ""] = number(estimate, 100, 1);
  return `${mean} % (${low} to ${high})`;
}

async function cautious(): Promise<Row[]> {
  const found = await read<{ differences: Record<string, Estimate> }>("cautious");
  return Object.entries(found?.differences ?? {}).map(([against, estimate]) => [
    "`cautious-ntp`",
    `${against}: accuracy`,
    points(estimate),
    "cautious",
  ]);
}

interface ListRow {
  readonly label: string;
  readonly oracle: Estimate;
  readonly top1: Estimate;
  readonly distinct2: Estimate;
}

async function lists(): Promise<Row[]> {
  const found = await read<{ overall: readonly ListRow[] }>("diversity");
  return (found?.overall ?? []).map(({ label, oracle, top1, distinct2 }) => [
    `${label}, five answers`,
    "right in the list; right first; distinct bigrams",
    [share(oracle), share(top1), plain(distinct2)].join("; "),
    "diversity",
  ]);
}

interface CascadeRow {
  readonly label: string;
  readonly summary: { readonly gain: Estimate };
}

async function cascades(): Promise<Row[]> {
  const found = await read<{ columns: Record<string, readonly CascadeRow[]> }>("cascade");
  return (found?.columns["all tasks"] ?? [])
    .filter(({ label }) => !label.startsWith("quantile") && label !== "random")
    .map(({ label, summary }) => [
      label === "oracle" ? "the best any cascade could do" : `\`cascade\`, ${label}`,
      "deferring at random: area under the deferral curve",
      points(summary.gain),
      "cascade",
    ]);
}

interface SpeculationRow {
  readonly method: string;
  readonly temperature: number;
  readonly "tokens_per_pass": Estimate;
  readonly speedup: Estimate;
}

async function speculation(): Promise<Row[]> {
  const found = await read<{ rows: readonly SpeculationRow[] }>("speculation");
  return (found?.rows ?? []).filter(({ temperature }) => temperature === 0).map((row) => [
    `\`${/weighted|contrastive/.test(row.method) ? "speculative-ensemble" : "speculative"}\`, ` +
    row.method,
    "the plain method, greedy: tokens per pass; speed",
    `${plain(row.tokens_per_pass)}; ${plain(row.speedup)} times`,
    "speculation",
  ]);
}

/** Every figure with its 95 % interval, and where all of them are. */
export async function qualityTable(): Promise<string> {
  const rows = (await Promise.all([cautious(), lists(), cascades(), speculation()])).flat();
  return [
    "| what | against | measured (95 % interval) | all figures |",
    "| --- | --- | --- | --- |",
    ...rows.map(([what, against, figure, file]) =>
      `| ${what} | ${against} | ${figure} | [json](${folder}quality-${file}.json), ` +
      `[plot](${folder}quality-${file}.svg) |`
    ),
  ].join("\n");
}

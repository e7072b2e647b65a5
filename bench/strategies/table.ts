/** The README's table of what strategies do to answers, from the result files of quality_*.ts. */
import { type Estimate, percent, withInterval } from "./_quality.ts";

const folder = "bench/results/";

interface Row {
  readonly what: string;
  readonly against: string;
  readonly figure: string;
  /** Whether it helps, as far as the interval tells. */
  readonly verdict: string;
  readonly file: string;
}

async function read<T>(name: string): Promise<T | undefined> {
  try {
    const url = new URL(`../results/quality-${name}.json`, import.meta.url);
    return JSON.parse(await Deno.readTextFile(url)) as T;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
}

/** "+4.8 points (3.5 to 6.2)", for differences of shares. */
function points(estimate: Estimate): string {
  const [mean, ...interval] = percent(estimate).split(" (");
  return `${estimate.mean > 0 ? "+" : ""}${mean} points (${interval.join(" (")}`;
}

/** "94.1 % (92.3 to 95.8)" */
function share(estimate: Estimate): string {
  return percent(estimate).replace(" (", " % (");
}

/** What an interval says of a value that would be `neutral` if nothing changed. */
function verdict({ low, high }: Estimate, neutral: number, better: string, worse: string): string {
  if (low > neutral) return better;
  return high < neutral ? worse : "no difference seen";
}

const helps = (estimate: Estimate) => verdict(estimate, 0, "better", "**worse**");
const pays = (estimate: Estimate) => verdict(estimate, 1, "faster", "**slower**");

async function cautious(): Promise<Row[]> {
  const found = await read<{ differences: Record<string, Estimate> }>("cautious");
  return Object.entries(found?.differences ?? {}).map(([against, estimate]) => ({
    what: "`cautious-ntp`",
    against: `${against}: accuracy`,
    figure: points(estimate),
    verdict: helps(estimate),
    file: "cautious",
  }));
}

interface ListRow {
  readonly label: string;
  readonly oracle: Estimate;
  readonly top1: Estimate;
  readonly distinct2: Estimate;
}

/** Lists are held against those of sampling: intervals that do not meet tell a difference. */
async function lists(): Promise<Row[]> {
  const found = await read<{ overall: readonly ListRow[] }>("diversity");
  const overall = found?.overall ?? [];
  const plain = overall.find(({ label }) => label === "sample");
  return overall.map(({ label, oracle, top1, distinct2 }) => ({
    what: `${label}, five answers`,
    against: "right in the list; right first; distinct bigrams",
    figure: [share(oracle), share(top1), withInterval(distinct2)].join("; "),
    verdict: !plain || label === plain.label
      ? ""
      : `list ${apart(oracle, plain.oracle)}; first ${apart(top1, plain.top1)}`,
    file: "diversity",
  }));
}

function apart(a: Estimate, b: Estimate): string {
  if (a.low > b.high) return "better than of sampling";
  return a.high < b.low ? "**worse** than of sampling" : "no difference seen";
}

interface CascadeRow {
  readonly label: string;
  readonly summary: { readonly gain: Estimate };
}

async function cascades(): Promise<Row[]> {
  const found = await read<{ columns: Record<string, readonly CascadeRow[]> }>("cascade");
  return (found?.columns["all tasks"] ?? [])
    .filter(({ label }) => !label.startsWith("quantile") && label !== "random")
    .map(({ label, summary: { gain } }) => ({
      what: label === "oracle" ? "the best any cascade could do" : `\`cascade\`, ${label}`,
      against: "deferring at random: area under the deferral curve",
      figure: points(gain),
      verdict: label === "oracle" ? "" : helps(gain),
      file: "cascade",
    }));
}

interface AwrsRow {
  readonly task: string;
  readonly model: string;
  readonly temperature: number;
  readonly method: string;
  readonly accuracy: Estimate;
  readonly "minus_mask": Estimate;
}

/** Five particles; a single one gives what the mask gives. */
async function particles(): Promise<Row[]> {
  const found = await read<{ rows: readonly AwrsRow[] }>("awrs");
  return (found?.rows ?? []).filter(({ method }) => method === "5 particles").map((row) => ({
    what:
      `\`awrs\`, 5 particles, ${row.task.toUpperCase()}, ${row.model}, temperature ${row.temperature}`,
    against: "a mask token by token: right; difference",
    figure: `${share(row.accuracy)}; ${points(row.minus_mask)}`,
    verdict: helps(row.minus_mask),
    file: "awrs",
  }));
}

interface DistanceRow {
  readonly problem: string;
  readonly model: string;
  readonly mass: number;
  readonly masking: number;
  readonly rows: readonly { readonly way: string; readonly distance: Estimate }[];
}

/** Problems that masks distort, and of whose answers at least a thousandth is allowed. */
async function distances(): Promise<Row[]> {
  const found = await read<{ distances: readonly DistanceRow[] }>("awrs-distance");
  return (found?.distances ?? []).filter(({ mass, masking }) => mass > 1e-3 && masking > 0.1)
    .map(({ model, mass, masking, rows }) => {
      const { distance } = rows.find(({ way }) => way === "awrs 60")!;
      return {
        what: `\`awrs\`, 60 particles, ${model}, ${withoutZeros(mass)} of answers allowed`,
        against: "exact distribution: distance of a mask; distance",
        figure: `${masking.toFixed(2)}; ${withInterval(distance)}`,
        verdict: verdict(distance, masking, "**farther**", "closer"),
        file: "awrs-distance",
      };
    });
}

function withoutZeros(mass: number): string {
  return `${Number((100 * mass).toPrecision(2))} %`;
}

interface CollaborationRow {
  readonly task: string;
  readonly temperature: number;
  readonly method: string;
  readonly "minus_large": Estimate;
  readonly "passes_per_token": Estimate;
}

async function collaboration(): Promise<Row[]> {
  const found = await read<{ rows: readonly CollaborationRow[] }>("collaboration");
  const shown = ["small alone", "token-v3 0.6", "chow 0.1", "chow 0.6", "chow 0.6, ahead"];
  return (found?.rows ?? [])
    .filter(({ method, temperature }) => temperature === 0 && shown.includes(method))
    .map(({ task, method, minus_large: difference, passes_per_token: passes }) => ({
      what: `\`speculative-cascade\`, ${method}, \`${task}\``,
      against: "the large model alone, greedy: accuracy; its passes per token",
      figure: `${points(difference)}; ${withInterval(passes)}`,
      verdict: helps(difference),
      file: "collaboration",
    }));
}

interface SpeculationRow {
  readonly method: string;
  readonly temperature: number;
  readonly "tokens_per_pass": Estimate;
}

interface TimeRow {
  readonly group: string;
  readonly method: string;
  readonly speed: Estimate;
}

const times = async () => (await read<{ rows: readonly TimeRow[] }>("time"))?.rows ?? [];

async function speculation(): Promise<Row[]> {
  const found = await read<{ rows: readonly SpeculationRow[] }>("speculation");
  const timed = await times();
  return (found?.rows ?? []).filter(({ temperature }) => temperature === 0).map((row) => {
    const { method, tokens_per_pass: perPass } = row;
    const speed = timed.find((one) => one.group === "speculation" && one.method === method)?.speed;
    const strategy = /weighted|contrastive/.test(method) ? "speculative-ensemble" : "speculative";
    return {
      what: `\`${strategy}\`, ${method}`,
      against: "the plain method, greedy: tokens per pass; speed",
      figure: withInterval(perPass) + (speed ? `; ${withInterval(speed)} times` : ""),
      verdict: speed ? pays(speed) : "",
      file: "speculation",
    };
  });
}

/** What is not about speculation. */
async function otherTimes(): Promise<Row[]> {
  return (await times()).filter(({ group }) => group !== "speculation").map((row) => ({
    what: `${row.method}: ${row.group}`,
    against: row.group.startsWith("two")
      ? "the large model alone, greedy: speed"
      : "sampling without a constraint: speed",
    figure: `${withInterval(row.speed)} times`,
    verdict: row.method === "no constraint" ? "" : pays(row.speed),
    file: "time",
  }));
}

/** Every figure with its 95 % interval, and where all of them are. */
export async function qualityTable(): Promise<string> {
  const parts = [
    cautious(),
    lists(),
    particles(),
    distances(),
    cascades(),
    collaboration(),
    speculation(),
    otherTimes(),
  ];
  const rows = (await Promise.all(parts)).flat();
  return [
    "| what | against | measured (95 % interval) | here | all figures |",
    "| --- | --- | --- | --- | --- |",
    ...rows.map(({ what, against, figure, verdict, file }) =>
      `| ${what} | ${against} | ${figure} | ${verdict} | [json](${folder}quality-${file}.json), ` +
      `[plot](${folder}quality-${file}.svg) |`
    ),
  ].join("\n");
}

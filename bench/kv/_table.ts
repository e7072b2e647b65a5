// deno-lint-ignore-file camelcase -- names as in the results
/** What `bench/results/kv.json` holds, and the README's table of it. */

/** One cell of a task's grid. */
export interface CellRow {
  readonly right: number;
  readonly asked: number;
}

/** One policy at one share, over all seeds. */
export interface Row {
  readonly task: string;
  readonly policy: string;
  readonly family: string;
  /** Share of tokens asked for; of the read family: read, of the others: kept. */
  readonly ratio: number;
  readonly kept: number;
  readonly bytes: number;
  readonly seeds: number;
  readonly asked: number;
  /** Accuracy, or for `story` the perplexity relative to the full cache. */
  readonly value: number;
  readonly low: number;
  readonly high: number;
  /** Whether its 95 % interval lies above `streaming`'s at the same share (`story`: below). */
  readonly beats_streaming: boolean;
  /** Of tasks with a grid. */
  readonly cells?: Readonly<Record<string, CellRow>>;
}

/** What `<out>.json` holds. */
export interface KvReport {
  readonly date: string;
  readonly model: string;
  readonly rows: readonly Row[];
}

/** Titles with a share in them are per cent right. */
const COLUMNS: readonly (readonly [title: string, task: string, ratio: number])[] = [
  ["recall, 5 %", "recall", 0.05],
  ["10 %", "recall", 0.1],
  ["25 %", "recall", 0.25],
  ["50 %", "recall", 0.5],
  ["passkey, 10 %", "passkey", 0.1],
  ["25 %", "passkey", 0.25],
  ["multi-fact, 10 %", "multi-fact", 0.1],
  ["25 %", "multi-fact", 0.25],
  ["recall, question seen, 25 %", "recall, question visible", 0.25],
  ["perplexity, 25 %", "story", 0.25],
];

/** The README's table: a policy a line, bold where it beats `streaming` outside the intervals. */
export function kvTable({ rows }: KvReport): string {
  const names = [...new Set(rows.map(({ policy }) => policy))];
  const families: Record<string, string> = {
    full: "everything",
    kept: "kept",
    read: "read",
    bits: "all, fewer bits",
  };
  const lines = names.map((name) => {
    const own = rows.filter(({ policy }) => policy === name);
    const isFixed = own.every(({ ratio }) => ratio === 1);
    const cells = COLUMNS.map(([_, task, ratio], i) => {
      // What has no budget stands once per task.
      const repeats = isFixed && COLUMNS.findIndex(([, other]) => other === task) !== i;
      const row = own.find((one) => one.task === task && (isFixed || one.ratio === ratio));
      return row === undefined || repeats ? "" : cell(row);
    });
    const shown = own.find(({ task }) => task === "recall") ?? own[0]!;
    const share = isFixed && shown.family === "kept" ? `${percent(shown.kept)} kept` : undefined;
    const label = share ?? families[shown.family] ?? "";
    const held = own.find(({ task, ratio }) => task === "recall" && (isFixed || ratio === 0.25));
    const bytes = held === undefined ? "" : percent(held.bytes);
    return `| \`${name}\` | ${label} | ${bytes} | ${cells.join(" | ")} |`;
  });
  return [
    `| policy | share of tokens | bytes, 25 % | ${COLUMNS.map(([title]) => title).join(" | ")} |`,
    `| --- | --- | --- | ${COLUMNS.map(() => "---").join(" | ")} |`,
    ...lines,
  ].join("\n");
}

const percent = (share: number) => `${(100 * share).toFixed(0)} %`;

function cell({ task, value, low, high, beats_streaming: beats }: Row): string {
  const text = task === "story"
    ? `x ${value.toFixed(3)}`
    : `${(100 * value).toFixed(0)} (${(100 * low).toFixed(0)} to ${(100 * high).toFixed(0)})`;
  return beats ? `**${text}**` : text;
}

/** Tables of the comparisons with llama.cpp and transformers.js, from their result lines. */

/** One line of a result file. */
export type Line = Readonly<Record<string, unknown>>;

/** A line of speed, as compare.ts writes it. */
export interface Speed {
  readonly case: string;
  readonly model: string;
  readonly type: string;
  readonly threads: number;
  readonly decant: { readonly tokensPerSecond: number };
  readonly llama: { readonly tokensPerSecond: number };
  readonly ratio: { readonly median: number; readonly lowest: number; readonly highest: number };
}

interface Memory {
  readonly model: string;
  readonly type: string;
  readonly threads: number;
  readonly weightBytes: number;
  readonly decant: { readonly resident: number; readonly timesWeights: number };
  readonly llama: { readonly resident: number };
}

interface Start {
  readonly model: string;
  readonly type: string;
  readonly threads: number;
  readonly loadMs: { readonly decant: number; readonly llama: number };
}

/** Lines of one kind. */
export const of = <T>(lines: readonly Line[], name: string) =>
  lines.filter((line) => line.name === name) as unknown as readonly T[];

/** Names of the cases as people read them, in the order of the columns. */
export const titles: Readonly<Record<string, string>> = {
  decode: "decode",
  prefill: "prefill 512",
  "streams-4": "4 streams",
  "streams-8": "8 streams",
};

/** Speeds as tokens per second, ours / llama.cpp's (ratio); then memory and start. */
export function tableOfComparison(lines: readonly Line[]): string {
  const speeds = of<Speed>(lines, "cpu/speed");
  const memories = of<Memory>(lines, "cpu/memory");
  const starts = of<Start>(lines, "cpu/start");
  const rows = memories.map(({ model, type, threads, decant, llama }) => {
    const same = (line: { model: string; type: string; threads: number }) =>
      line.model === model && line.type === type && line.threads === threads;
    const cells = Object.keys(titles).map((name) => {
      const found = speeds.find((speed) => same(speed) && speed.case === name);
      return found === undefined ? "" : speedCell(found);
    });
    const load = starts.find(same)!.loadMs;
    return [
      `${model} ${type}`,
      String(threads),
      ...cells,
      `${mib(decant.resident)} / ${mib(llama.resident)}`,
      decant.timesWeights.toFixed(2),
      `${seconds(load.decant)} / ${seconds(load.llama)}`,
    ];
  });
  const head = [
    "weights",
    "threads",
    ...Object.values(titles).map((title) => `${title}, tokens/s`),
    "resident, MiB",
    "x weights",
    "load, s",
  ];
  return [head, head.map(() => "---"), ...rows].map((row) => `| ${row.join(" | ")} |`).join("\n");
}

/** As {@link tableOfComparison} for transformers.js; undefined where it was not measured. */
export function tableOfTransformers(lines: readonly Line[]): string | undefined {
  type Peer<L> = L & { readonly transformers: { readonly tokensPerSecond: number } };
  const speeds = of<Peer<Omit<Speed, "llama">>>(lines, "cpu/speed-transformers");
  if (speeds.length === 0) return undefined;
  const key = ({ model, type, threads }: Omit<Speed, "llama">) => `${model} ${type} | ${threads}`;
  const rows = [...new Set(speeds.map(key))].map((wanted) => [
    wanted,
    ...Object.keys(titles).map((name) => {
      const found = speeds.find((line) => key(line) === wanted && line.case === name);
      return found === undefined ? "" : speedCell({ ...found, llama: found.transformers });
    }),
  ]);
  const head = ["weights", "threads", ...Object.values(titles).map((t) => `${t}, tokens/s`)];
  return [head, head.map(() => "---"), ...rows].map((row) => `| ${row.join(" | ")} |`).join("\n");
}

function speedCell({ decant, llama, ratio }: Pick<Speed, "decant" | "llama" | "ratio">): string {
  const short = (value: number) => value >= 100 ? value.toFixed(0) : value.toFixed(1);
  return `${short(decant.tokensPerSecond)} / ${short(llama.tokensPerSecond)} (${
    ratio.median.toFixed(2)
  })`;
}

const mib = (bytes: number): string => (bytes / 2 ** 20).toFixed(0);
const seconds = (ms: number): string => (ms / 1000).toFixed(2);

/**
 * Fills the generated parts of README.md: between `<!-- name:start -->` and `<!-- name:end -->`.
 *
 *     deno run --allow-read=. --allow-write=README.md bench/readme.ts [--check]
 *
 * With --check nothing is written and a stale part is an error; tests do the same through
 * {@link generatedParts}.
 */
import type { ModelScores } from "../models/chart.ts";
import { tableOfComparison, tableOfTransformers } from "./cpu/table.ts";
import { type KvReport, kvTable } from "./kv/_table.ts";
import { qualityTable } from "./strategies/table.ts";
import { listStrategies, type Strategy } from "../strategies/mod.ts";

/** Generated parts of the README by name. */
export async function generatedParts(): Promise<ReadonlyMap<string, string>> {
  return new Map([
    ["strategies", strategyTable(listStrategies())],
    ["accuracy", await accuracyTable("models/eval.json")],
    ["quality", await qualityTable()],
    ["bench", await benchTable("bench/results/")],
    ["cpu", await cpuTable("bench/results/")],
    ["kv", await kvPart("bench/results/kv.json")],
  ]);
}

/** `text` with every marked part replaced. @throws {RangeError} if a marker is missing */
export function fill(text: string, parts: ReadonlyMap<string, string>): string {
  for (const [name, part] of parts) {
    const pattern = new RegExp(`(<!-- ${name}:start -->\n)([\\s\\S]*?)(<!-- ${name}:end -->)`);
    if (!pattern.test(text)) throw new RangeError(`README.md has no part "${name}"`);
    text = text.replace(
      pattern,
      (all, start, old, end) => plain(old) === plain(part) ? all : `${start}\n${part}\n\n${end}`,
    );
  }
  return text;
}

/** Without what the formatter adds to tables and lines. */
function plain(text: string): string {
  return text.replaceAll(/\s+/g, " ").replaceAll(/-{3,}/g, "---").trim();
}

function strategyTable(strategies: readonly Strategy[]): string {
  const rows = strategies.map(({ name, summary, streaming, needs, optionalNeeds, source }) => {
    const roles = Object.entries({ ...needs, ...optionalNeeds }).map(([role, list]) =>
      `${role}: ${list.join(", ")}`
    );
    const file = `strategies/${name.replaceAll("-", "_")}.ts`;
    return `| [\`${name}\`](${file}) | ${summary} | ${roles.join("; ")} | ${streaming} | ${
      /^https?:/.test(source)
        ? `[${source.includes("arxiv") ? "paper" : "source"}](${source})`
        : source
    } |`;
  });
  return [
    "| name | what it does | needs | streams | source |",
    "| --- | --- | --- | --- | --- |",
    ...rows,
  ].join("\n");
}

async function kvPart(path: string): Promise<string> {
  return kvTable(JSON.parse(
    await Deno.readTextFile(new URL(`../${path}`, import.meta.url)),
  ) as KvReport);
}

interface Evaluation {
  readonly models: readonly ModelScores[];
}

async function accuracyTable(path: string): Promise<string> {
  const { models } = JSON.parse(
    await Deno.readTextFile(new URL(`../${path}`, import.meta.url)),
  ) as Evaluation;
  const percent = (share: number) => (100 * share).toFixed(1);
  const rows = models[0]!.scores.map(({ task }) => {
    const cells = models.map(({ scores }) => {
      const score = scores.find((row) => row.task === task);
      if (!score) return "";
      return `${percent(score.accuracy)} % (${percent(score.low)} to ${percent(score.high)})`;
    });
    return `| ${task} | ${cells.join(" | ")} |`;
  });
  return [
    `| task | ${models.map(({ model }) => `\`${model}\``).join(" | ")} |`,
    `| --- | ${models.map(() => "---").join(" | ")} |`,
    ...rows,
  ].join("\n");
}

type Line = Readonly<Record<string, unknown>>;

/** The newest result file with this ending. */
async function newestResult(
  folder: string,
  ending: string,
): Promise<{ readonly name: string; readonly lines: readonly Line[] } | undefined> {
  const root = new URL(`../${folder}`, import.meta.url);
  const names: string[] = [];
  for await (const { name } of Deno.readDir(root)) if (name.endsWith(ending)) names.push(name);
  const name = names.sort().at(-1);
  if (name === undefined) return undefined;
  const text = await Deno.readTextFile(new URL(name, root));
  return { name, lines: text.trim().split("\n").map((line) => JSON.parse(line) as Line) };
}

/** Our WebAssembly backend beside llama.cpp and transformers.js. */
async function cpuTable(folder: string): Promise<string> {
  const result = await newestResult(folder, "-cpu-comparison.jsonl");
  if (result === undefined) return "Not measured yet: `deno task bench:cpu`.";
  const { name, lines } = result;
  const { device, cores, deno } = lines[0]!;
  const plot = name.replace(/jsonl$/, "svg");
  return [
    `One run of \`deno task bench:cpu\` on ${device} (${cores} cores), Deno ${deno}: the same GGUF ` +
    "files of random weights, \`wasm\` and llama.cpp (node-llama-cpp's binary) in alternation. " +
    "Speeds are ours / llama.cpp's, in tokens per second, with the median ratio; what exactly is " +
    `measured is in [bench/README.md](bench/README.md), all lines in [${folder}${name}](${folder}${name}).`,
    "",
    tableOfComparison(lines),
    "",
    `![Ratios of speed per model and case](${folder}${plot})`,
    ...transformersPart(lines),
  ].join("\n");
}

function transformersPart(lines: readonly Line[]): readonly string[] {
  const table = tableOfTransformers(lines);
  if (table === undefined) return [];
  const commitOf = (line: Line | undefined) => String(line?.commit);
  const commit = commitOf(lines.find(({ name }) => name === "cpu/speed-transformers"));
  const when = commit === commitOf(lines[0]) ? "" : `, measured by itself at commit ${commit}`;
  return [
    "",
    "Beside transformers.js, which computes with onnxruntime's native library in servers: the same " +
    `weights as an ONNX graph, ours / theirs${when}.`,
    "",
    table,
  ];
}

/** Headline figures of the newest result file that has all suites. */
async function benchTable(folder: string): Promise<string> {
  const result = await newestResult(folder, "-all.jsonl");
  if (result === undefined) throw new RangeError(`${folder} has no results of all suites`);
  const { name: newest, lines } = result;
  const find = (name: string, fields: Line = {}): Line => {
    const found = lines.find((line) =>
      line.name === name && Object.entries(fields).every(([key, value]) => line[key] === value)
    );
    if (!found) throw new RangeError(`${newest} has no ${name} ${JSON.stringify(fields)}`);
    return found;
  };
  const { device, cores, deno } = lines[0]!;
  const wasm = { backend: "wasm", weights: "f32" }, cpu = { backend: "cpu", weights: "f32" };
  const speed = (fields: Line) => find("kernels/decode", fields).tokensPerSecond as number;
  const times = (fields: Line, base: Line) => (speed(fields) / speed(base)).toFixed(1);
  const served = (streams: number) => find("serve/throughput", { streams });
  const rows = [
    [
      "gateway overhead to the first token, median",
      `${find("serve/overhead/first_token").median} ms`,
    ],
    ...[1, 16].map((streams) => [
      `gateway overhead per streamed token, ${streams} stream${streams > 1 ? "s" : ""}, median`,
      `${find("serve/overhead/token", { streams }).median} us`,
    ]),
    ["`GET /v1/models`", `${find("serve/requests/models").median} requests/s`],
    [
      "scheduler overhead per row and step, 16 rows",
      `${(find("engine/overhead", { rows: 16 }).usPerRow as Line).median} us`,
    ],
    ...[1, 4, 16].map((streams) => [
      `\`decant-tiny\` served over HTTP, ${streams} stream${streams > 1 ? "s" : ""}`,
      `${served(streams).value} tokens/s (${served(streams).times_one_stream} times one stream)`,
    ]),
    ...[1, 8].map((rows) => [
      `decoder of that shape, ${rows} row${rows > 1 ? "s" : ""} a step: \`cpu\` f32`,
      `${speed({ ...cpu, rows })} tokens/s`,
    ]),
    ...["f32", "q8", "q4"].flatMap((weights) =>
      [1, 8].map((rows) => [
        `the same, \`wasm\` ${weights}, ${rows} row${rows > 1 ? "s" : ""}`,
        `${times({ ...wasm, weights, rows }, { ...cpu, rows })} times \`cpu\``,
      ])
    ),
  ];
  return [
    `One run of \`deno task bench\` on ${device} (${cores} cores), Deno ${deno}; all lines in ` +
    `[${folder}${newest}](${folder}${newest}).`,
    "",
    "| what | measured |",
    "| --- | --- |",
    ...rows.map((row) => `| ${row.join(" | ")} |`),
  ].join("\n");
}

if (import.meta.main) {
  const before = await Deno.readTextFile("README.md");
  const after = fill(before, await generatedParts());
  if (Deno.args.includes("--check")) {
    if (after !== before) throw new Error("README.md is stale: run bench/readme.ts");
  } else {
    await Deno.writeTextFile("README.md", after);
  }
}

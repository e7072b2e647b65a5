/**
 * JSON Schemas as constraints: what compiles, what is refused and why, whether instances are judged
 * rightly, and what compiling and masks cost.
 *
 * `deno task bench:constraints [--data DIR] [--out FILE]`
 *
 * MaskBench runs over the vocabulary of Llama 3 (128,000 tokens) in one thread, as its authors ran
 * it, but on the 458 of its 11,306 schemas that are in the data folder; the published figures beside
 * ours are of all of them, on another machine, with versions of early 2025. Times are processor time.
 */
import process from "node:process";
import { loadTiktoken } from "../../tests/fakes/tiktoken.ts";
import { readEnvironment } from "../_environment.ts";
import { round } from "../_report.ts";
import { maskBench, type SchemaCase, testSuite } from "./_cases.ts";
import { judge, noVerdicts, type Verdicts } from "./_judge.ts";

/** Published, microseconds: guidance-ai/jsonschemabench, maskbench, README. */
const published = {
  llguidance: { mean: 64, p50: 46, p90: 77, p99: 533, firstP50: 1037, passing: 8909, invalid: 0 },
  xgrammar: {
    mean: 728,
    p50: 9,
    p90: 99,
    p99: 5687,
    firstP50: 919459,
    passing: 8122,
    invalid: 1368,
  },
  "llama.cpp": {
    mean: 16565,
    p50: 17021,
    p90: 26818,
    p99: 60371,
    firstP50: 312,
    passing: 6505,
    invalid: 649,
  },
  outlines: {
    mean: 1858,
    p50: 34,
    p90: 6043,
    p99: 7184,
    firstP50: 587900,
    passing: 7050,
    invalid: 822,
  },
} as const;
const publishedSchemas = 11_306;

function option(name: string, fallback: string): string {
  const at = Deno.args.indexOf(`--${name}`);
  return at < 0 ? fallback : Deno.args[at + 1] ?? fallback;
}

const data = option("data", new URL("../../../shared/data", import.meta.url).pathname);
const out = option("out", new URL("../results/constraints.json", import.meta.url).pathname);
const vocab = loadTiktoken(Deno.readFileSync(`${data}/tokenizers/llama3/tokenizer.model`));

const suites: Readonly<Record<string, readonly SchemaCase[]>> = {
  maskbench: maskBench(data),
  "draft2020-12": testSuite(data, "draft2020-12"),
  draft7: testSuite(data, "draft7"),
};

/**
 * Milliseconds of processor time of this process: other programs on the machine do not count. All
 * threads do, so what the collector of garbage does beside us is in it.
 */
function clock(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
}

function run(name: string, cases: readonly SchemaCase[]): Verdicts {
  const verdicts = noVerdicts();
  for (const suite of cases) {
    judge(suite, verdicts, { vocab, clock, withMasks: name === "maskbench" });
  }
  return verdicts;
}

function timesOf(values: readonly number[]) {
  if (values.length === 0) return undefined;
  const sorted = [...values].sort((a, b) => a - b);
  const at = (q: number) =>
    round(sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))]!);
  const mean = round(values.reduce((sum, value) => sum + value, 0) / values.length);
  return { count: values.length, mean, p50: at(0.5), p90: at(0.9), p99: at(0.99), max: at(1) };
}

function resultOf({ compileUs, firstMaskUs, maskUs, advanceUs, ...counts }: Verdicts) {
  return {
    ...counts,
    compileUs: timesOf(compileUs),
    firstMaskUs: timesOf(firstMaskUs),
    maskUs: timesOf(maskUs),
    advanceUs: timesOf(advanceUs),
  };
}

// Once for the compiler of the host, once for the record.
run("maskbench", suites.maskbench!.slice(0, 60));
const results = Object.fromEntries(
  Object.entries(suites).map(([name, cases]) => [name, resultOf(run(name, cases))]),
);
const environment = await readEnvironment();
const report = { ...environment, vocabulary: vocab.size, published, publishedSchemas, results };
Deno.writeTextFileSync(out, JSON.stringify(report, undefined, 2) + "\n");

const ours = results.maskbench!;
const rows = [
  [
    "Decant",
    ours.maskUs!.mean,
    ours.maskUs!.p50,
    ours.maskUs!.p90,
    ours.maskUs!.p99,
    ours.firstMaskUs!.p50,
    `${ours.passing} of ${ours.schemas}`,
    ours.invalidAccepted,
  ],
  ...Object.entries(published).map(([name, p]) => [
    `${name} (published)`,
    p.mean,
    p.p50,
    p.p90,
    p.p99,
    p.firstP50,
    `${p.passing} of ${publishedSchemas}`,
    p.invalid,
  ]),
];
// deno-lint-ignore no-console
console.log([
  "| | mask mean us | p50 | p90 | p99 | first mask p50 us | schemas passing | invalid accepted |",
  "|---|---|---|---|---|---|---|---|",
  ...rows.map((row) => `| ${row.join(" | ")} |`),
  "",
  JSON.stringify(results, undefined, 1),
].join("\n"));

/**
 * `deno task bench [kernels|engine|strategies|serve|cpu ...]`: runs the named suites, all by default,
 * and writes bench/results/<date>-<device>.jsonl.
 */
import { readEnvironment, writeResult } from "./_environment.ts";
import { createReport, type Report } from "./_report.ts";
import { benchCpu } from "./cpu/cpu_bench.ts";
import { benchEngine } from "./engine/engine_bench.ts";
import { benchKernels } from "./kernels/ops_bench.ts";
import { benchServe } from "./serve/serve_bench.ts";
import { benchStrategies } from "./strategies/strategy_bench.ts";

const suites: Readonly<Record<string, (report: Report) => Promise<void> | void>> = {
  kernels: benchKernels,
  engine: benchEngine,
  strategies: benchStrategies,
  serve: benchServe,
  cpu: benchCpu,
};

const wanted = Deno.args.length > 0 ? Deno.args : Object.keys(suites);
const unknown = wanted.filter((name) => !Object.hasOwn(suites, name));
if (unknown.length > 0) {
  throw new RangeError(`Unknown suite ${unknown.join(", ")}: known are ${Object.keys(suites)}`);
}
const environment = await readEnvironment();
const { report, lines } = createReport(environment);
for (const name of wanted) await suites[name]!(report);
const what = wanted.length === Object.keys(suites).length ? "all" : wanted.join("-");
const file = await writeResult(environment, what, "jsonl", lines.join("\n") + "\n");
// deno-lint-ignore no-console
console.log(`wrote ${lines.length} results to ${file}`);
Deno.exit(0);

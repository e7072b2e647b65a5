/**
 * `deno task bench [kernels|engine|strategies|serve|cpu ...]`: runs the named suites, all by default,
 * and writes bench/results/<date>-<device>.jsonl.
 */
import { cpus } from "node:os";
import { createReport, type Environment, type Report } from "./_report.ts";
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

async function commitId(): Promise<string> {
  try {
    const head = (await Deno.readTextFile(".git/HEAD")).trim();
    if (!head.startsWith("ref: ")) return head.slice(0, 12);
    return (await Deno.readTextFile(`.git/${head.slice(5)}`)).trim().slice(0, 12);
  } catch {
    return "unknown";
  }
}

function deviceName(): string {
  return cpus()[0]?.model.trim() || `${Deno.build.os} ${Deno.build.arch}`;
}

const wanted = Deno.args.length > 0 ? Deno.args : Object.keys(suites);
const unknown = wanted.filter((name) => !Object.hasOwn(suites, name));
if (unknown.length > 0) {
  throw new RangeError(`Unknown suite ${unknown.join(", ")}: known are ${Object.keys(suites)}`);
}
const environment: Environment = {
  commit: await commitId(),
  date: new Date().toISOString().slice(0, 10),
  device: deviceName(),
  cores: navigator.hardwareConcurrency,
  deno: Deno.version.deno,
  v8: Deno.version.v8,
};
const { report, lines } = createReport(environment);
for (const name of wanted) await suites[name]!(report);
const device = environment.device.toLowerCase().replaceAll(/[^a-z0-9]+/g, "-").slice(0, 32);
await Deno.mkdir("bench/results", { recursive: true });
const file = `bench/results/${environment.date}-${device}-${
  wanted.length === Object.keys(suites).length ? "all" : wanted.join("-")
}.jsonl`;
await Deno.writeTextFile(file, lines.join("\n") + "\n");
// deno-lint-ignore no-console
console.log(`wrote ${lines.length} results to ${file}`);
Deno.exit(0);

/**
 * Fills the generated parts of README.md: between `<!-- name:start -->` and `<!-- name:end -->`.
 *
 *     deno run --allow-read=. --allow-write=README.md bench/readme.ts [--check]
 *
 * With --check nothing is written and a stale part is an error; tests do the same through
 * {@link generatedParts}.
 */
import { listStrategies, type Strategy } from "../strategies/mod.ts";

/** Generated parts of the README by name. */
export async function generatedParts(): Promise<ReadonlyMap<string, string>> {
  return new Map([
    ["strategies", strategyTable(listStrategies())],
    ["accuracy", await accuracyTable("models/eval.json")],
  ]);
}

/** `text` with every marked part replaced. @throws {RangeError} if a marker is missing */
export function fill(text: string, parts: ReadonlyMap<string, string>): string {
  for (const [name, part] of parts) {
    const pattern = new RegExp(`(<!-- ${name}:start -->\n)[\\s\\S]*?(<!-- ${name}:end -->)`);
    if (!pattern.test(text)) throw new RangeError(`README.md has no part "${name}"`);
    text = text.replace(pattern, (_, start, end) => `${start}\n${part}\n\n${end}`);
  }
  return text;
}

function strategyTable(strategies: readonly Strategy[]): string {
  const rows = strategies.map(({ name, summary, streaming, needs, source }) => {
    const roles = Object.entries(needs).map(([role, list]) => `${role}: ${list.join(", ")}`);
    const file = `strategies/${name.replaceAll("-", "_")}.ts`;
    return `| [\`${name}\`](${file}) | ${summary} | ${roles.join("; ")} | ${streaming} | ${
      /^https?:/.test(source) ? `[paper](${source})` : source
    } |`;
  });
  return [
    "| name | what it does | needs | streams | source |",
    "| --- | --- | --- | --- | --- |",
    ...rows,
  ].join("\n");
}

interface Evaluation {
  readonly models: readonly {
    readonly id: string;
    readonly tasks: readonly {
      readonly task: string;
      readonly correct: number;
      readonly total: number;
      readonly low: number;
      readonly high: number;
    }[];
  }[];
}

async function accuracyTable(path: string): Promise<string> {
  const { models } = JSON.parse(await Deno.readTextFile(path)) as Evaluation;
  const percent = (x: number) => (100 * x).toFixed(1);
  const rows = models[0]!.tasks.map(({ task }) => {
    const cells = models.map((model) => {
      const found = model.tasks.find((row) => row.task === task);
      if (!found) return "";
      const { correct, total, low, high } = found;
      return `${percent(correct / total)} % (${percent(low)} to ${percent(high)})`;
    });
    return `| ${task} | ${cells.join(" | ")} |`;
  });
  return [
    `| task | ${models.map((model) => `\`${model.id}\``).join(" | ")} |`,
    `| --- | ${models.map(() => "---").join(" | ")} |`,
    ...rows,
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

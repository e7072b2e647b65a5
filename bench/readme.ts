/**
 * Fills the generated parts of README.md: between `<!-- name:start -->` and `<!-- name:end -->`.
 *
 *     deno run --allow-read=. --allow-write=README.md bench/readme.ts [--check]
 *
 * With --check nothing is written and a stale part is an error; tests do the same through
 * {@link generatedParts}.
 */
import type { ModelScores } from "../models/chart.ts";
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
  const rows = strategies.map(({ name, summary, streaming, needs, optionalNeeds, source }) => {
    const roles = Object.entries({ ...needs, ...optionalNeeds }).map(([role, list]) =>
      `${role}: ${list.join(", ")}`
    );
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

if (import.meta.main) {
  const before = await Deno.readTextFile("README.md");
  const after = fill(before, await generatedParts());
  if (Deno.args.includes("--check")) {
    if (after !== before) throw new Error("README.md is stale: run bench/readme.ts");
  } else {
    await Deno.writeTextFile("README.md", after);
  }
}

/**
 * `deno task calibrate`: asks two models the prompts of a JSONL file, judges their answers, and writes
 * rules that tell when the small one's is good enough.
 *
 * A line has `prompt` (text) or `messages`, and `answer`, what is right. Both models are asked through
 * the gateway itself, so what is calibrated is what requests get; with `--config` they may be upstream.
 */
import { parseArgs } from "node:util";
import { createGateway, type Gateway } from "../mod.ts";
import { extractAnswer } from "../strategies/mod.ts";
import { calibrate, type RuleResult } from "./calibrate.ts";
import { chord, oracle, summarise } from "./curve.ts";
import { deferralPlot } from "./plot.ts";
import type { Answered } from "./train.ts";

const help = `deno task calibrate --prompts FILE.jsonl --out FILE.json
  --small ID        cheap model                        (decant-tiny-draft)
  --large ID        model to fall back on              (decant-tiny)
  --config FILE     configuration of the gateway       (the embedded models)
  --judge RULE      exact, contains, last-number or last-line  (exact)
  --price Q         cost of asking the large model, in quality  (0.05)
  --defer-rate R    defer this share instead
  --max-tokens N    longest answer                     (256)
  --parallel N      prompts at once                    (4)
  --seed TEXT       of folds, fits and intervals       (calibrate)
`;

/** How an answer is judged: 1 = right. */
type Judge = (answer: string, expected: string) => number;

const judges: { readonly [name: string]: Judge } = {
  exact: (answer, expected) => Number(answer.trim() === expected.trim()),
  contains: (answer, expected) => Number(answer.includes(expected.trim())),
  "last-number": (answer, expected) =>
    Number(extractAnswer(answer, "last-number") === extractAnswer(expected, "last-number")),
  "last-line": (answer, expected) =>
    Number(extractAnswer(answer, "last-line") === extractAnswer(expected, "last-line")),
};

interface Line {
  readonly messages: readonly { readonly role: string; readonly content: string }[];
  readonly answer: string;
}

/** @throws {RangeError} naming the line that cannot be used */
export function readLines(text: string): Line[] {
  return text.split("\n").flatMap((line, i) => {
    if (line.trim() === "") return [];
    let value: unknown;
    try {
      value = JSON.parse(line);
    } catch {
      throw new RangeError(`line ${i + 1} is not JSON`);
    }
    const { prompt, messages, answer } = Object(value);
    if (typeof answer !== "string") throw new RangeError(`line ${i + 1} has no "answer"`);
    if (typeof prompt === "string") {
      return [{ messages: [{ role: "user", content: prompt }], answer }];
    }
    if (!Array.isArray(messages) || messages.length === 0) {
      throw new RangeError(`line ${i + 1} has neither "prompt" nor "messages"`);
    }
    return [{ messages, answer }];
  });
}

interface Asking {
  readonly gateway: Gateway;
  readonly small: string;
  readonly large: string;
  readonly maxTokens: number;
  readonly judge: Judge;
}

async function ask({ gateway, maxTokens }: Asking, body: object) {
  const response = await gateway.fetch(
    new Request("http://localhost/v1/chat/completions", {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ max_tokens: maxTokens, seed: 1, ...body }),
    }),
  );
  const answer = await response.json();
  if (response.status !== 200) throw new Error(answer.error.message);
  return answer;
}

/** Both models' answers to one prompt. */
async function record(asking: Asking, { messages, answer }: Line): Promise<Answered | undefined> {
  const { small, large, judge } = asking;
  const [cheap, dear] = await Promise.all([
    ask(asking, {
      model: large,
      messages,
      decoding: {
        strategy: "cascade",
        models: { small },
        params: { rule: "sum", threshold: -1e6, early_stop: false },
        trace: "steps",
      },
    }),
    ask(asking, { model: large, messages, decoding: { strategy: "greedy" } }),
  ]);
  const [step] = cheap.decoding.steps;
  if (step.logprobs.length === 0) return undefined; // deferred whatever the rule
  // An answer that was cut is always deferred; what it was worth does not matter.
  const isKept = step.deferred === false;
  return {
    prompt: messages.map(({ content }) => content).join("\n"),
    logprobs: step.logprobs,
    small: isKept ? judge(cheap.choices[0].message.content, answer) : 0,
    large: judge(dear.choices[0].message.content, answer),
  };
}

async function recordAll(
  asking: Asking,
  lines: readonly Line[],
  parallel: number,
): Promise<Answered[]> {
  const records: (Answered | undefined)[] = [];
  const progress = progressBar("asking both models", lines.length);
  let next = 0;
  const work = async () => {
    for (let i = next++; i < lines.length; i = next++) {
      records[i] = await record(asking, lines[i]!);
      progress();
    }
  };
  await Promise.all(Array.from({ length: parallel }, work));
  return records.filter((one) => one !== undefined);
}

function progressBar(label: string, all: number): () => void {
  const started = performance.now();
  const encoder = new TextEncoder();
  let done = 0;
  return () => {
    const share = ++done / all;
    if (!Deno.stderr.isTerminal() && done % Math.ceil(all / 10) !== 0 && done < all) return;
    const left = (performance.now() - started) / 1000 * (1 / share - 1);
    const bar = "#".repeat(Math.round(share * 30)).padEnd(30, ".");
    const end = done === all || !Deno.stderr.isTerminal() ? "\n" : "";
    const text = `\r${label} [${bar}] ${done}/${all}  ${left.toFixed(0)} s left   ${end}`;
    Deno.stderr.writeSync(encoder.encode(text));
  };
}

/** Areas with intervals, beside chance and the best possible. */
export function table(results: readonly RuleResult[], seed: string): string {
  const { judged } = results[0]!;
  const number = (value: number) => value.toFixed(3);
  const line = (label: string, cells: readonly string[]) =>
    label.padEnd(16) + cells.map((cell) => cell.padEnd(26)).join("").trimEnd();
  const rows = [
    ...results.map(({ label, summary, entry }) => ({
      label,
      summary,
      advice: `${number(entry.threshold)} defers ${(100 * entry.defer_rate).toFixed(0)} %`,
    })),
    { label: "random", summary: summarise(chord(judged), { seed }), advice: "" },
    { label: "oracle", summary: summarise(oracle(judged), { seed }), advice: "" },
  ];
  return [
    line("rule", ["area under curve, 95 %", "less random's, 95 %", "recommended threshold"]),
    ...rows.map(({ label, summary: { area, gain }, advice }) =>
      line(label, [
        ...[area, gain].map(({ mean, low, high }) =>
          `${number(mean)} (${number(low)} to ${number(high)})`
        ),
        advice,
      ])
    ),
  ].join("\n") + "\n";
}

function options(args: readonly string[]) {
  const { values } = parseArgs({
    args: [...args],
    options: {
      help: { type: "boolean", default: false },
      prompts: { type: "string" },
      out: { type: "string" },
      small: { type: "string", default: "decant-tiny-draft" },
      large: { type: "string", default: "decant-tiny" },
      config: { type: "string" },
      judge: { type: "string", default: "exact" },
      price: { type: "string", default: "0.05" },
      "defer-rate": { type: "string" },
      "max-tokens": { type: "string", default: "256" },
      parallel: { type: "string", default: "4" },
      seed: { type: "string", default: "calibrate" },
    },
  });
  const between = (name: string, text: string, low: number, high: number) => {
    const value = Number(text);
    if (text.trim() !== "" && value >= low && value <= high) return value;
    throw new RangeError(`--${name} is a number from ${low} to ${high}, got ${text}`);
  };
  if (!Object.hasOwn(judges, values.judge)) {
    throw new RangeError(`--judge is one of ${Object.keys(judges).join(", ")}`);
  }
  const rate = values["defer-rate"];
  return {
    ...values,
    judge: judges[values.judge]!,
    price: between("price", values.price, 0, 1000),
    deferRate: rate === undefined ? undefined : between("defer-rate", rate, 0, 1),
    maxTokens: Math.floor(between("max-tokens", values["max-tokens"], 1, 1e6)),
    parallel: Math.floor(between("parallel", values.parallel, 1, 64)),
  };
}

async function main(args: readonly string[]): Promise<void> {
  const print = (text: string) => void Deno.stdout.writeSync(new TextEncoder().encode(text));
  const set = options(args);
  const { prompts, out, small, large, config, seed, price, deferRate, judge, maxTokens } = set;
  if (set.help || prompts === undefined || out === undefined) return print(help);
  const lines = readLines(await Deno.readTextFile(prompts));
  await using gateway = await createGateway(
    config === undefined ? {} : JSON.parse(await Deno.readTextFile(config)),
    { env: (name) => Deno.env.get(name) },
  );
  const asking = { gateway, small, large, maxTokens, judge };
  const records = await recordAll(asking, lines, set.parallel);
  const created = new Date().toISOString().slice(0, 10);
  const { calibration, results } = calibrate(records, {
    models: [small, large],
    created,
    price,
    deferRate,
    seed,
  });
  await Deno.writeTextFile(out, JSON.stringify(calibration) + "\n");
  const picture = `${out.replace(/\.json$/, "")}.svg`;
  const title = `${small} to ${large}, ${records.length} prompts`;
  await Deno.writeTextFile(picture, deferralPlot(title, results, seed));
  print(table(results, seed));
  print(`\nWritten: ${out} and ${picture}. Use it with\n`);
  print(`  "calibrations": { "NAME": ${JSON.stringify(out)} }    in the configuration, and\n`);
  print(`  X-Decoding-Strategy: cascade;calibration="NAME";rule=learned\n`);
}

if (import.meta.main) {
  try {
    await main(Deno.args);
  } catch (error) {
    if (!(error instanceof RangeError || error instanceof Deno.errors.NotFound)) throw error;
    Deno.stderr.writeSync(new TextEncoder().encode(`${error.message}\n`));
    Deno.exit(1);
  }
}

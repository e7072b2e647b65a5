/**
 * Held-out accuracy of the embedded models: `deno task model:eval [--count N] [--model ID]...
 * [--weights f32|q8|q4]`
 *
 * Prints a table with 95 % intervals and, when all models were asked for as they are served by
 * default, writes eval.json and eval.svg beside this file.
 */
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { greedySampling, type LanguageModel } from "../runtime/mod.ts";
import { loadModel } from "../runtime/load.ts";
import { type WeightFormat, weightFormats } from "../runtime/models/mod.ts";
import { chart, type ModelScores } from "./chart.ts";
import { type Complete, evaluate } from "./evaluate.ts";
import { EVALUATION } from "./recipe/tasks/mod.ts";

const MODELS = ["decant-tiny", "decant-tiny-draft"] as const;
const SEED = "eval";
const DEFAULT_WEIGHTS = "auto";
/** The longest exact answer (five digits, worked) has about 50 tokens. */
const MAX_TOKENS = 96;
const PARALLEL = 16;

/** Greedy chat through a session, without stop tokens in the text. */
function completer(model: LanguageModel<"generate">): Complete {
  const { vocab } = model;
  if (!vocab) throw new TypeError(`${model.id} has no vocabulary`);
  return async (messages) => {
    using session = model.session(messages);
    const tokens: number[] = [];
    const drawn = session.generate({ sampling: greedySampling, maxTokens: MAX_TOKENS });
    for await (const { token } of drawn) if (!vocab.stopTokens.has(token)) tokens.push(token);
    return vocab.decode(tokens);
  };
}

function progress(model: string, done: number, all: number, started: number) {
  const share = done / all;
  const left = (performance.now() - started) / 1000 * (1 / share - 1);
  const bar = "#".repeat(Math.round(share * 30)).padEnd(30, ".");
  write(Deno.stderr, `\r${model} [${bar}] ${done}/${all}  ${left.toFixed(0)} s left   `);
  if (done === all) write(Deno.stderr, "\n");
}

async function score(
  id: string,
  { count, weights }: { readonly count: number; readonly weights: WeightFormat },
): Promise<ModelScores> {
  await using loaded = await loadModel(folder(id), {
    id,
    backend: "auto",
    thread: "own",
    weights,
    kvBytes: 256 << 20,
    created: 0,
    ownedBy: "decant",
  });
  const started = performance.now();
  const scores = await evaluate(completer(loaded.engine), {
    tasks: EVALUATION,
    count,
    seed: SEED,
    parallel: PARALLEL,
    onProgress: (done, all) => progress(id, done, all, started),
  });
  return { model: id, scores };
}

function table(models: readonly ModelScores[]): string {
  const rows = [["task", ...models.map((m) => m.model)]];
  for (const task of EVALUATION) {
    rows.push([
      task.name,
      ...models.map(({ scores }) => {
        const s = scores.find((s) => s.task === task.name);
        const percent = (share: number) => (share * 100).toFixed(1);
        return s ? `${percent(s.accuracy)} % (${percent(s.low)} to ${percent(s.high)})` : "";
      }),
    ]);
  }
  return rows.map((row) => row.map((cell) => cell.padEnd(28)).join("").trimEnd()).join("\n") + "\n";
}

async function main(args: string[]) {
  const { values } = parseArgs({
    args,
    options: {
      count: { type: "string", default: "500" },
      model: { type: "string", multiple: true, default: [...MODELS] },
      weights: { type: "string", default: DEFAULT_WEIGHTS },
    },
  });
  const count = Number(values.count);
  if (!Number.isInteger(count) || count < 1) throw new RangeError("--count is a whole number >= 1");
  const weights = weightFormats.find((format) => format === values.weights);
  if (weights === undefined) {
    throw new RangeError(`--weights is one of ${weightFormats.join(", ")}`);
  }
  const models: ModelScores[] = [];
  for (const id of values.model) models.push(await score(id, { count, weights }));
  write(Deno.stdout, table(models));
  if (weights !== DEFAULT_WEIGHTS || MODELS.some((id) => !values.model.includes(id))) return;
  const result = { seed: SEED, count, decoding: "greedy, exact match", models };
  await Deno.writeTextFile(beside("eval.json"), JSON.stringify(result, undefined, 2) + "\n");
  const title = `Held-out accuracy, ${count} samples per task, 95 % intervals`;
  await Deno.writeTextFile(beside("eval.svg"), chart(models, title));
}

const beside = (name: string) => new URL(name, import.meta.url);
const folder = (id: string) => fileURLToPath(beside(id));
const write = (to: { writeSync(bytes: Uint8Array): number }, text: string) =>
  to.writeSync(new TextEncoder().encode(text));

if (import.meta.main) await main(Deno.args);

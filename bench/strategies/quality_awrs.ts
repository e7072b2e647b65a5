/**
 * What do `awrs` and its particles change, against masking token by token?
 *
 * `deno run -A bench/strategies/quality_awrs.ts [--count N] [--seeds N] [--task NAME]... [--out FILE]`
 *
 * First, small problems whose exact conditional distribution can be enumerated, at both embedded models:
 * total variation between answers and that distribution. Then held-out instances of JSON and SQL under a
 * JSON Schema and a regular expression that names the table's columns: validity, accuracy, checks per
 * drawn token, time. All at temperature 1. Accuracy is exact match averaged over seeds, its interval
 * Wilson's over instances; differences to the mask are paired by instance, with bootstrap intervals.
 */
import { chart, type ModelScores } from "../../models/chart.ts";
import { testSamples, wilson } from "../../models/evaluate.ts";
import type { Sample, Task } from "../../models/recipe/task.ts";
import {
  type Constraint,
  jsonSchemaConstraint,
  type LanguageModel,
  regexConstraint,
  type Vocab,
} from "../../runtime/mod.ts";
import { round } from "../_report.ts";
import { type DistanceResult, measureDistances } from "./_awrs_distance.ts";
import { type ConstrainedRun, decode, type Way, withoutMask } from "./_awrs_runs.ts";
import {
  bootstrap,
  type Estimate,
  INSTANCES,
  markdown,
  mean,
  openEmbedded,
  progressBar,
  type QualityOptions,
  qualityOptions,
  setup,
} from "./_quality.ts";

const maxTokens = 64;
const temperature = 1;
const drawsPerProblem = 200;

interface Method extends Way {
  readonly constrained: "no" | "mask" | "judged";
}

const masking: Method = { label: "mask", strategy: "sample", constrained: "mask" };
const methods: readonly Method[] = [
  { label: "no constraint", strategy: "sample", constrained: "no" },
  masking,
  { label: "awrs", strategy: "awrs", constrained: "mask" },
  { label: "awrs, no mask", strategy: "awrs", constrained: "judged" },
  {
    label: "awrs, no mask, no weights",
    strategy: "awrs",
    params: { proper_weights: false },
    constrained: "judged",
  },
  {
    label: "5 particles, no resampling",
    strategy: "awrs",
    params: { n_particles: 5, ess_threshold: 0 },
    constrained: "mask",
  },
  { label: "5 particles", strategy: "awrs", params: { n_particles: 5 }, constrained: "mask" },
  {
    label: "5 particles, no mask",
    strategy: "awrs",
    params: { n_particles: 5 },
    constrained: "judged",
  },
];

const schema = {
  type: "object",
  properties: {
    name: { type: "string", minLength: 1, maxLength: 40 },
    age: { type: "integer", minimum: 0, maximum: 150 },
    city: { type: "string", minLength: 1, maxLength: 40 },
    job: { type: "string", minLength: 1, maxLength: 40 },
  },
  required: ["name", "age", "city", "job"],
  additionalProperties: false,
};

/** A query over the table and columns of the question. */
function sqlPattern(question: string): string {
  const [, table, list] = question.match(/^Table (\w+)\((.*)\)\n/)!;
  const column = `(${list!.split(", ").join("|")})`;
  return `SELECT (COUNT\\(\\*\\)|${column}) FROM ${table} WHERE ${column} ` +
    `(=|<|>) ('[A-Za-z]+'|[0-9]{1,4})( ORDER BY ${column})?( LIMIT [0-9]{1,3})?`;
}

/** Constraints by task; equal questions share theirs. */
function constraintsFor(vocab: Vocab): (task: string, question: string) => Constraint {
  const made = new Map<string, Constraint>();
  return (task, question) => {
    const key = task === "sql" ? sqlPattern(question) : "json";
    const known = made.get(key) ??
      (task === "sql"
        ? regexConstraint(key, vocab)
        : jsonSchemaConstraint(schema, vocab, { allowsSpace: false }));
    made.set(key, known);
    return known;
  };
}

/** One method on one task. */
interface Outcome {
  readonly label: string;
  /** Per instance, shares of seeds. */
  readonly right: readonly number[];
  readonly valid: readonly number[];
  readonly runs: readonly ConstrainedRun[];
}

/** All methods on one task, one after the other on each instance, so that they see the same machine. */
async function measure(
  model: LanguageModel & { readonly vocab: Vocab },
  task: Task,
  options: QualityOptions,
): Promise<readonly Outcome[]> {
  const samples = testSamples(task, options.count, INSTANCES);
  const tick = progressBar(task.name, methods.length * samples.length * options.seeds);
  const constraintOf = constraintsFor(model.vocab);
  const outcomes = methods.map(({ label }) => ({
    label,
    right: [] as number[],
    valid: [] as number[],
    runs: [] as ConstrainedRun[],
  }));
  for (const [i, sample] of samples.entries()) {
    const constraint = constraintOf(task.name, sample.messages[0].content);
    for (const { right, valid } of outcomes) {
      right.push(0);
      valid.push(0);
    }
    for (let k = 0; k < options.seeds; k++) {
      for (const [m, method] of methods.entries()) {
        const run = await answer(model, method, sample, {
          constraint,
          seed: 1 + i + k * samples.length,
        });
        const { right, valid, runs } = outcomes[m]!;
        const isWhole = run.reason === "stop" && isValid(constraint, model.vocab, run.text);
        right[i]! += +(run.text === sample.answer) / options.seeds;
        valid[i]! += +isWhole / options.seeds;
        runs.push(run);
        tick();
      }
    }
  }
  return outcomes;
}

function answer(
  model: LanguageModel,
  method: Method,
  { messages: [question] }: Sample,
  { constraint, seed }: { readonly constraint: Constraint; readonly seed: number },
): Promise<ConstrainedRun> {
  const used = method.constrained === "judged" ? withoutMask(constraint) : constraint;
  return decode(model, method, {
    prompt: [question],
    constraint: method.constrained === "no" ? undefined : used,
    seed,
    maxTokens,
    temperature,
  });
}

function isValid(constraint: Constraint, vocab: Vocab, text: string): boolean {
  let state: unknown = constraint.start();
  for (const token of vocab.encode(text)) {
    state = constraint.advance(state, token);
    if (state === undefined) return false;
  }
  return constraint.accepting(state);
}

/** Runs the benchmark and writes its files. */
async function qualityAwrs(options: QualityOptions): Promise<void> {
  await using model = await openEmbedded(options.model);
  await using small = await openEmbedded(`${options.model}-draft`);
  const distances = [
    ...await measureDistances(options.model, model.engine, drawsPerProblem),
    ...await measureDistances(`${options.model}-draft`, small.engine, drawsPerProblem),
  ].sort((a, b) => b.mass - a.mass);
  const all = new Map<string, readonly Outcome[]>();
  for (const task of options.tasks.filter(({ name }) => name === "json" || name === "sql")) {
    all.set(task.name, await measure(model.engine, task, options));
  }
  const rows = [...all].flatMap(([task, outcomes]) =>
    outcomes.map((outcome) => rowOf(task, outcome, outcomes, options.count))
  );
  const result = {
    ...setup(options, model),
    draft: small.info.fingerprint,
    "max_tokens": maxTokens,
    temperature,
    "draws_per_problem": drawsPerProblem,
    distances,
    tasks: rows,
  };
  await write(options.out, result, { distances, rows, count: options.count });
}

function rowOf(task: string, outcome: Outcome, outcomes: readonly Outcome[], count: number) {
  const { label, right, valid, runs } = outcome;
  const base = outcomes.find((other) => other.label === masking.label)!;
  const total = (read: (run: ConstrainedRun) => number) =>
    runs.reduce((sum, run) => sum + read(run), 0);
  const rights = right.reduce((sum, share) => sum + share, 0);
  const valids = valid.reduce((sum, share) => sum + share, 0);
  return {
    task,
    method: label,
    accuracy: mean(right),
    ...wilson(rights, count),
    validity: { mean: mean(valid), ...wilson(valids, count) },
    minus_mask: bootstrap(right.map((share, i) => share - base.right[i]!), `${task} ${label}`),
    drawn_per_answer: total(({ drawn }) => drawn) / runs.length,
    checks_per_token: total(({ metrics }) => metrics["checks"] ?? 0) / total(({ drawn }) => drawn),
    ms_per_answer: total(({ ms }) => ms) / runs.length,
    time_against_mask: total(({ ms }) => ms) / base.runs.reduce((sum, { ms }) => sum + ms, 0),
  };
}

type Row = ReturnType<typeof rowOf>;

async function write(
  out: string,
  result: unknown,
  { distances, rows, count }: {
    readonly distances: readonly DistanceResult[];
    readonly rows: readonly Row[];
    readonly count: number;
  },
): Promise<void> {
  await Deno.mkdir(out.slice(0, Math.max(0, out.lastIndexOf("/"))) || ".", { recursive: true });
  const precise = (_: string, value: unknown) => typeof value === "number" ? round(value) : value;
  await Deno.writeTextFile(`${out}.json`, JSON.stringify(result, precise, 2) + "\n");
  await Deno.writeTextFile(
    `${out}.svg`,
    chart(
      accuracies(rows, count),
      `Accuracy under a constraint, ${count} instances, 95 % intervals`,
    ),
  );
  await Deno.writeTextFile(
    `${out}-distance.svg`,
    chart(distanceScores(distances), "Total variation to the exact conditional distribution"),
  );
  const text = `${distanceTable(distances)}\n${taskTable(rows)}`;
  Deno.stdout.writeSync(new TextEncoder().encode(text));
}

function accuracies(rows: readonly Row[], count: number): ModelScores[] {
  return methods.map(({ label }) => ({
    model: label,
    scores: rows.filter(({ method }) => method === label).map(({ task, accuracy, low, high }) => ({
      task,
      right: accuracy * count,
      count,
      accuracy,
      low,
      high,
    })),
  }));
}

function distanceScores(distances: readonly DistanceResult[]): ModelScores[] {
  return distances[0]!.rows.map(({ way }, w) => ({
    model: way,
    scores: distances.map(({ mass, rows }) => {
      const { mean, low, high } = rows[w]!.distance;
      const task = `mass ${mass.toExponential(1)}`;
      return { task, right: 0, count: 0, accuracy: mean, low, high };
    }),
  }));
}

const interval = ({ mean, low, high }: Estimate, digits = 2) =>
  `${mean.toFixed(digits)} (${low.toFixed(digits)} to ${high.toFixed(digits)})`;

function distanceTable(distances: readonly DistanceResult[]): string {
  const labels = distances[0]!.rows.map(({ way }) => way);
  return "Total variation to the exact conditional distribution (95 % interval)\n\n" + markdown([
    ["problem", "model", "mass", "masking, exact", "noise", ...labels],
    ...distances.map(({ problem, model, mass, masking, floor, rows }) => [
      problem,
      model,
      mass.toExponential(1),
      masking.toFixed(2),
      floor.toFixed(2),
      ...rows.map(({ distance }) => interval(distance)),
    ]),
  ]);
}

function taskTable(rows: readonly Row[]): string {
  const percent = ({ mean, low, high }: Estimate) =>
    interval({ mean: 100 * mean, low: 100 * low, high: 100 * high }, 1);
  return markdown([
    [
      "task",
      "method",
      "accuracy %",
      "minus mask",
      "valid %",
      "drawn per answer",
      "checks per token",
      "ms per answer",
      "time / mask",
    ],
    ...rows.map((row) => [
      row.task,
      row.method,
      percent({ mean: row.accuracy, low: row.low, high: row.high }),
      percent(row.minus_mask),
      percent(row.validity),
      row.drawn_per_answer.toFixed(1),
      row.checks_per_token.toFixed(2),
      row.ms_per_answer.toFixed(1),
      row.time_against_mask.toFixed(2),
    ]),
  ]);
}

if (import.meta.main) await qualityAwrs(qualityOptions(Deno.args, "quality-awrs"));

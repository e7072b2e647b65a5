/** Held-out JSON and SQL under a constraint: validity, accuracy, checks, time. */
import { testSamples, wilson } from "../../models/evaluate.ts";
import type { Sample, Task } from "../../models/recipe/task.ts";
import {
  type Constraint,
  jsonSchemaConstraint,
  type LanguageModel,
  regexConstraint,
  type Vocab,
} from "../../runtime/mod.ts";
import { type ConstrainedRun, decode, type Way, withoutMask } from "./_awrs_runs.ts";
import { bootstrap, INSTANCES, mean, progressBar, type QualityOptions } from "./_quality.ts";

/** Longest answer: twice that of the longest right one. */
export const maxTokens = 64;

interface Method extends Way {
  readonly constrained: "no" | "mask" | "judged";
}

const masking: Method = { label: "mask", strategy: "sample", constrained: "mask" };
/** Ways to decode. */
export const methods: readonly Method[] = [
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

/** What is asked of which model. */
export interface TaskSetting {
  readonly id: string;
  readonly model: LanguageModel & { readonly vocab: Vocab };
  readonly task: Task;
  readonly temperature: number;
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
  { model, task, temperature }: TaskSetting,
  options: Pick<QualityOptions, "count" | "seeds">,
): Promise<readonly Outcome[]> {
  const samples = testSamples(task, options.count, INSTANCES);
  const tick = progressBar(
    `${task.name} ${temperature}`,
    methods.length * samples.length * options.seeds,
  );
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
          temperature,
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
  { constraint, ...options }: {
    readonly constraint: Constraint;
    readonly seed: number;
    readonly temperature: number;
  },
): Promise<ConstrainedRun> {
  const used = method.constrained === "judged" ? withoutMask(constraint) : constraint;
  return decode(model, method, {
    prompt: [question],
    constraint: method.constrained === "no" ? undefined : used,
    ...options,
    maxTokens,
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

/** All methods in one setting, each against the mask. */
export async function measureTask(
  setting: TaskSetting,
  options: Pick<QualityOptions, "count" | "seeds">,
): Promise<readonly TaskRow[]> {
  const outcomes = await measure(setting, options);
  return outcomes.map((outcome) => rowOf(setting, outcome, outcomes, options.count));
}

function rowOf(
  { id, task: { name: task }, temperature }: TaskSetting,
  outcome: Outcome,
  outcomes: readonly Outcome[],
  count: number,
) {
  const { label, right, valid, runs } = outcome;
  const base = outcomes.find((other) => other.label === masking.label)!;
  const total = (read: (run: ConstrainedRun) => number) =>
    runs.reduce((sum, run) => sum + read(run), 0);
  const rights = right.reduce((sum, share) => sum + share, 0);
  const valids = valid.reduce((sum, share) => sum + share, 0);
  return {
    model: id,
    task,
    temperature,
    method: label,
    accuracy: mean(right),
    ...wilson(rights, count),
    validity: { mean: mean(valid), ...wilson(valids, count) },
    minus_mask: bootstrap(
      right.map((share, i) => share - base.right[i]!),
      `${id} ${task} ${temperature} ${label}`,
    ),
    drawn_per_answer: total(({ drawn }) => drawn) / runs.length,
    checks_per_token: total(({ metrics }) => metrics["checks"] ?? 0) / total(({ drawn }) => drawn),
    ms_per_answer: total(({ ms }) => ms) / runs.length,
    time_against_mask: total(({ ms }) => ms) / base.runs.reduce((sum, { ms }) => sum + ms, 0),
  };
}

/** One method in one setting. */
export type TaskRow = ReturnType<typeof rowOf>;

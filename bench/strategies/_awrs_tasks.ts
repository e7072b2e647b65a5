/** Held-out JSON and SQL under a constraint: validity, accuracy, tokens, checks. */
import type { Sample, Task } from "../../models/recipe/task.ts";
import type { Engine } from "../../runtime/engine/engine.ts";
import {
  type Constraint,
  jsonSchemaConstraint,
  regexConstraint,
  type Vocab,
} from "../../runtime/mod.ts";
import { type ConstrainedWay, constraintFor } from "./_awrs_ways.ts";
import { type Bench, instances } from "./_quality.ts";
import { overSeeds, run } from "./_run.ts";

/** Longest answer: twice that of the longest right one. */
export const maxTokens = 64;

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

/** Constraints by task and question; equal questions share theirs. */
export function constraintsFor(vocab: Vocab): (task: Task, sample: Sample) => Constraint {
  const made = new Map<string, Constraint>();
  return ({ name }, { messages: [question] }) => {
    const key = name === "sql" ? sqlPattern(question.content) : "json";
    const known = made.get(key) ??
      (name === "sql"
        ? regexConstraint(key, vocab)
        : jsonSchemaConstraint(schema, vocab, { allowsSpace: false }));
    made.set(key, known);
    return known;
  };
}

/** What is asked of which model. */
export interface TaskSetting {
  readonly engine: Engine;
  readonly task: Task;
  readonly temperature: number;
}

/** One way on one task; a number per instance. */
export interface Outcome {
  /** Shares of seeds. */
  readonly right: readonly number[];
  readonly valid: readonly number[];
  /** Sums over seeds. */
  readonly drawn: readonly number[];
  readonly checks: readonly number[];
}

/** All instances side by side. */
export async function measureTask(
  { engine, task, temperature }: TaskSetting,
  way: ConstrainedWay,
  bench: Pick<Bench, "count" | "seeds">,
  tick: () => void,
): Promise<Outcome> {
  const constraintOf = constraintsFor(engine.vocab);
  const runs = await overSeeds(instances(task, bench), bench.seeds, async (sample, seed) => {
    const constraint = constraintOf(task, sample);
    const { texts: [text = ""], reasons: [reason], result } = await run(way, {
      models: { model: engine },
      prompt: [sample.messages[0]],
      constraint: constraintFor(way, constraint),
      sampling: { temperature },
      seed,
      maxTokens,
    });
    tick();
    return {
      right: +(text === sample.answer),
      valid: +(reason === "stop" && isValid(constraint, engine.vocab, text)),
      drawn: result.usage.drawnTokens,
      checks: result.metrics["checks"] ?? 0,
    };
  });
  const sums = (name: keyof Outcome, of = 1) =>
    runs.map((seeds) => seeds.reduce((sum, one) => sum + one[name] / of, 0));
  return {
    right: sums("right", bench.seeds),
    valid: sums("valid", bench.seeds),
    drawn: sums("drawn"),
    checks: sums("checks"),
  };
}

function isValid(constraint: Constraint, vocab: Vocab, text: string): boolean {
  let state: unknown = constraint.start();
  for (const token of vocab.encode(text)) {
    state = constraint.advance(state, token);
    if (state === undefined) return false;
  }
  return constraint.accepting(state);
}

/** How far answers are from the model's own conditional distribution, on problems that can be enumerated. */
import { taskRng } from "../../models/recipe/rng.ts";
import type { Engine } from "../../runtime/engine/engine.ts";
import { enumerate, type Exact, type Problem, problems, totalVariation } from "./_awrs_exact.ts";
import { type ConstrainedWay, constraintFor, crowds } from "./_awrs_ways.ts";
import { type Bench, bootstrap, type Estimate, ratio } from "./_quality.ts";
import { run, sideBySide } from "./_run.ts";

/** One way on one problem. */
export interface DistanceRow {
  readonly way: string;
  /** Total variation between the answers' shares and the exact conditional distribution. */
  readonly distance: Estimate;
  /** Mean estimated mass over the exact one; for those that estimate it. */
  readonly massRatio?: Estimate;
  readonly checksPerToken?: Estimate;
}

/** One problem at one model. */
export interface DistanceResult {
  readonly problem: string;
  readonly model: string;
  /** Probability that the model's own answer is allowed. */
  readonly mass: number;
  /** Exact distance of masking token by token, without counting noise. */
  readonly masking: number;
  /** Expected distance of as many exact draws: the noise of counting. */
  readonly floor: number;
  readonly rows: readonly DistanceRow[];
}

/** All problems at one model, `count` answers per way and problem. */
export async function measureDistances(
  engine: Engine,
  bench: Pick<Bench, "count" | "once" | "progress">,
): Promise<readonly DistanceResult[]> {
  const results: DistanceResult[] = [];
  const tick = bench.progress(engine.id, problems.length * crowds.length * bench.count);
  for (const problem of problems) {
    const measured = async () => await measureProblem(problem, engine, bench.count, tick);
    results.push(await bench.once(`${engine.id} ${problem.name}`, measured));
  }
  return results;
}

async function measureProblem(
  problem: Problem,
  engine: Engine,
  count: number,
  tick: () => void,
): Promise<DistanceResult> {
  const exact = await enumerate(problem, engine);
  const rows: DistanceRow[] = [];
  for (const way of crowds) rows.push(await measure(problem, exact, way, { count, tick }));
  return {
    problem: problem.name,
    model: engine.id,
    mass: exact.mass,
    masking: totalVariation(exact.masked, exact.conditional),
    floor: floorOf(exact.conditional, count, problem.name),
    rows,
  };
}

async function measure(
  problem: Problem,
  exact: Exact,
  way: ConstrainedWay,
  { count, tick }: { readonly count: number; readonly tick: () => void },
): Promise<DistanceRow> {
  const seeds = Array.from({ length: count }, (_, i) => i + 1);
  const runs = await sideBySide(seeds, async (seed) => {
    const { texts, result } = await run(way, {
      models: { model: exact.model },
      prompt: exact.prompt,
      constraint: constraintFor(way, exact.constraint),
      sampling: { temperature: 1 },
      seed,
      maxTokens: 24,
    });
    tick();
    return {
      answer: problem.answers.indexOf(texts[0] ?? ""),
      mass: Math.exp(result.choices[0]?.["log_z"] ?? -Infinity) / exact.mass,
      checks: result.metrics["checks"] ?? 0,
      drawn: result.usage.drawnTokens,
    };
  });
  const name = `${problem.name} ${way.label}`;
  const answers = runs.map(({ answer }) => answer);
  const distance = interval(answers, name, (some) => distanceOf(some, exact.conditional));
  if (way.strategy !== "awrs") return { way: way.label, distance };
  return {
    way: way.label,
    distance,
    massRatio: bootstrap(runs.map(({ mass }) => mass), `${name} mass`),
    checksPerToken: ratio(
      runs.map(({ checks }) => checks),
      runs.map(({ drawn }) => drawn),
      `${name} checks`,
    ),
  };
}

function distanceOf(answers: readonly number[], exact: readonly number[]): number {
  const shares = exact.map(() => 0);
  for (const answer of answers) shares[answer]! += 1 / answers.length;
  return totalVariation(shares, exact);
}

/** Statistic with a basic bootstrap interval over runs: resampled distances are biased upwards. */
function interval(
  values: readonly number[],
  seed: string,
  statistic: (sample: readonly number[]) => number,
): Estimate {
  const rng = taskRng(`bootstrap ${seed}`);
  const mean = statistic(values);
  const resampled = Array.from(
    { length: 400 },
    () => statistic(values.map(() => values[rng.int(values.length)]!)),
  ).sort((a, b) => a - b);
  const low = Math.max(0, 2 * mean - resampled[389]!);
  return { mean, low, high: Math.max(mean, 2 * mean - resampled[10]!) };
}

function floorOf(law: readonly number[], runs: number, seed: string): number {
  const rng = taskRng(`floor ${seed}`);
  let sum = 0;
  for (let i = 0; i < 100; i++) {
    const draws = Array.from({ length: runs }, () => draw(law, rng.int(2 ** 30) / 2 ** 30));
    sum += distanceOf(draws, law);
  }
  return sum / 100;
}

function draw(law: readonly number[], uniform: number): number {
  let left = uniform;
  const index = law.findIndex((p) => (left -= p) < 0);
  return index < 0 ? law.length - 1 : index;
}

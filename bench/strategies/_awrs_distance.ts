/** How far answers are from the model's own conditional distribution, on problems that can be enumerated. */
import { taskRng } from "../../models/recipe/rng.ts";
import type { Constraint, LanguageModel, Vocab } from "../../runtime/mod.ts";
import { enumerate, type Exact, type Problem, problems, totalVariation } from "./_awrs_exact.ts";
import { decode, type Way, withoutMask } from "./_awrs_runs.ts";
import type { Estimate } from "./_quality.ts";

/** Particles and how the constraint is asked. */
const ways: readonly (Way & { readonly isJudged?: boolean })[] = [
  { label: "mask", strategy: "sample" },
  { label: "awrs 5", strategy: "awrs", params: { n_particles: 5 } },
  { label: "awrs 20", strategy: "awrs", params: { n_particles: 20 } },
  { label: "awrs 60", strategy: "awrs", params: { n_particles: 60 } },
  { label: "awrs 5, no mask", strategy: "awrs", params: { n_particles: 5 }, isJudged: true },
  { label: "awrs 20, no mask", strategy: "awrs", params: { n_particles: 20 }, isJudged: true },
];

/** One way on one problem. */
export interface DistanceRow {
  readonly way: string;
  /** Total variation between the answers' shares and the exact conditional distribution. */
  readonly distance: Estimate;
  /** Mean estimated mass over the exact one; for those that estimate it. */
  readonly massRatio: Estimate | undefined;
  readonly checksPerToken: number | undefined;
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

/** All problems at one model. @param runs answers per way and problem */
export async function measureDistances(
  id: string,
  model: LanguageModel<"edit" | "logits"> & { readonly vocab: Vocab },
  runs: number,
): Promise<readonly DistanceResult[]> {
  const results: DistanceResult[] = [];
  for (const problem of problems) {
    const exact = await enumerate(problem, model);
    const rows: DistanceRow[] = [];
    for (const way of ways) rows.push(await measure(problem, exact, way, runs));
    results.push({
      problem: problem.name,
      model: id,
      mass: exact.mass,
      masking: totalVariation(exact.masked, exact.conditional),
      floor: floorOf(exact.conditional, runs, problem.name),
      rows,
    });
  }
  return results;
}

async function measure(
  problem: Problem,
  exact: Exact,
  way: Way & { readonly isJudged?: boolean },
  runs: number,
): Promise<DistanceRow> {
  const constraint: Constraint = way.isJudged ? withoutMask(exact.constraint) : exact.constraint;
  const answers: number[] = [];
  const masses: number[] = [];
  let checks = 0, tokens = 0;
  for (let seed = 1; seed <= runs; seed++) {
    const run = await decode(exact.model, way, {
      prompt: exact.prompt,
      constraint,
      seed,
      maxTokens: 24,
    });
    answers.push(problem.answers.indexOf(run.text));
    masses.push(Math.exp(run.choice["log_z"] ?? -Infinity) / exact.mass);
    checks += run.metrics["checks"] ?? 0;
    tokens += run.drawn;
  }
  const isWeighed = way.strategy === "awrs";
  return {
    way: way.label,
    distance: interval(
      answers,
      `${problem.name} ${way.label}`,
      (sample) => distanceOf(sample, exact.conditional),
    ),
    massRatio: isWeighed
      ? interval(
        masses,
        `${problem.name} ${way.label} mass`,
        (sample) => sample.reduce((sum, mass) => sum + mass, 0) / sample.length,
      )
      : undefined,
    checksPerToken: isWeighed ? checks / tokens : undefined,
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

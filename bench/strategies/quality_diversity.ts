/**
 * How different are lists of answers, and is the right one among them?
 *
 * Every method returns a list of five. Measured per instance, averaged over seeds: distinct-1 and
 * distinct-2 of the list, mean pairwise BLEU (both over the model's tokens), whether any answer is
 * right (oracle) and whether the first is. Intervals are bootstrapped over instances, all tasks
 * together; accuracies per task have Wilson's.
 */
import { barChart } from "../_chart.ts";
import type { Task } from "../../models/recipe/task.ts";
import type { SamplingParams } from "../../runtime/mod.ts";
import { distinctN, pairwiseBleu } from "./_list_metrics.ts";
import {
  type Bench,
  bootstrap,
  type Estimate,
  instances,
  markdown,
  MAX_TOKENS,
  mean,
  type Part,
  shareOf,
  withInterval,
} from "./_quality.ts";
import { type Answers, overSeeds, run, type Way } from "./_run.ts";

const size = 5;

/** A way to get a list. */
interface Method extends Way {
  readonly label: string;
  readonly sampling: Partial<SamplingParams>;
  /** Whether another seed may give another list; otherwise one seed is enough. */
  readonly draws: boolean;
}

const beams = (
  label: string,
  strategy: string,
  params: Readonly<Record<string, unknown>> = {},
): Method => ({
  label,
  strategy,
  params: { num_beams: size, ...params },
  sampling: {},
  draws: false,
});

const methods: readonly Method[] = [
  beams("beam", "beam"),
  beams("diverse-beam", "diverse-beam"),
  beams("diverse-beam, ngram", "diverse-beam", { diversity_fn: "ngram" }),
  beams("diverse-beam, cumulative", "diverse-beam", { diversity_fn: "cumulative" }),
  beams("diverse-beam, embedding", "diverse-beam", { diversity_fn: "embedding" }),
  beams("diverse-beam, strength 3", "diverse-beam", { diversity: 3 }),
  { ...beams("stochastic-beam", "stochastic-beam"), sampling: { temperature: 1 }, draws: true },
  { ...beams("sample", "sample"), params: {}, sampling: { temperature: 1 }, draws: true },
];

const metrics = ["distinct1", "distinct2", "bleu", "oracle", "top1", "listed", "drawn"] as const;
type Metrics = Record<typeof metrics[number], number>;

/** The part. */
export const qualityDiversity: Part = {
  name: "diversity",
  about: `how different lists of ${size} answers are, and whether the right one is among them`,
  count: 100,
  seeds: 2,
  async measure(bench) {
    const found = new Map<string, readonly (readonly Metrics[])[]>();
    for (const task of bench.tasks) found.set(task.name, await measureTask(bench, task));
    const overall = methods.map(({ label, strategy, params }, m) => {
      const all = [...found.values()].flatMap((task) => task[m]!);
      const estimates = metrics.map((name) =>
        [name, bootstrap(all.map((one) => one[name]), label + name)] as const
      );
      return { label, strategy, params, ...Object.fromEntries(estimates) };
    });
    const oracle = scoresOf(found, "oracle");
    return {
      result: { list: size, overall, oracle, top1: scoresOf(found, "top1") },
      svg: plot(oracle, bench),
      table: tableOf(overall),
    };
  },
};

async function measureTask(
  bench: Bench,
  task: Task,
): Promise<readonly (readonly Metrics[])[]> {
  const jobs = methods.reduce((n, { draws }) => n + (draws ? bench.seeds : 1), 0);
  const tick = bench.progress(task.name, jobs * bench.count);
  const results = [];
  for (const method of methods) {
    const work = () => metricsOf(bench, task, method, tick);
    results.push(await bench.once(`${task.name} ${method.label}`, work));
  }
  return results;
}

/** Means over the seeds of each instance. */
async function metricsOf(
  bench: Bench,
  task: Task,
  method: Method,
  tick: () => void,
): Promise<readonly Metrics[]> {
  const seeds = method.draws ? bench.seeds : 1;
  const runs = await overSeeds(instances(task, bench), seeds, async (sample, seed) => {
    const answers = await run(method, {
      models: { model: bench.large.engine },
      prompt: [sample.messages[0]],
      sampling: method.sampling,
      choices: size,
      maxTokens: MAX_TOKENS,
      seed,
    });
    tick();
    return judge(answers, sample.answer);
  });
  return runs.map((all) => {
    const entries = metrics.map((name) => [name, mean(all.map((one) => one[name]))] as const);
    return Object.fromEntries(entries) as Metrics;
  });
}

function judge({ texts, tokens, result }: Answers, expected: string): Metrics {
  return {
    distinct1: distinctN(tokens, 1),
    distinct2: distinctN(tokens, 2),
    bleu: pairwiseBleu(tokens),
    oracle: +texts.includes(expected),
    top1: +(texts[0] === expected),
    /** Different answers in the list. */
    listed: new Set(texts).size,
    drawn: result.usage.drawnTokens,
  };
}

/** Accuracies of a method on every task. */
interface Scores {
  readonly label: string;
  readonly scores: readonly (Estimate & { readonly task: string })[];
}

function scoresOf(
  found: ReadonlyMap<string, readonly (readonly Metrics[])[]>,
  name: "oracle" | "top1",
): readonly Scores[] {
  return methods.map(({ label }, m) => ({
    label,
    scores: [...found].map(([task, all]) => ({
      task,
      ...shareOf(all[m]!.map((one) => one[name])),
    })),
  }));
}

function plot(oracle: readonly Scores[], { count, seeds }: Bench): string {
  return barChart({
    title: `Right answer in a list of ${size}, ${count} instances per task, ${seeds} seeds, 95 %`,
    value: { name: "share of lists with the right answer", min: 0, max: 1 },
    labels: oracle[0]!.scores.map(({ task }) => task),
    series: oracle.map(({ label, scores }) => ({
      name: label,
      bars: scores.map(({ mean, low, high }) => ({ mean: Number(mean.toFixed(3)), low, high })),
    })),
  });
}

function tableOf(overall: readonly Readonly<Record<string, unknown>>[]): string {
  const head = ["list of 5", "distinct-1", "distinct-2", "pairwise BLEU", "oracle", "top-1"];
  const rows = overall.map((row) => [
    String(row["label"]),
    ...metrics.map((name) => {
      const digits = name === "drawn" ? 0 : name === "listed" ? 2 : 3;
      return withInterval(row[name] as Estimate, digits);
    }),
  ]);
  return "All tasks together, mean over instances (95 % interval)\n\n" +
    markdown([[...head, "different answers", "tokens drawn"], ...rows]);
}

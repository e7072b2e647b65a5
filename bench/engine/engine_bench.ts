/**
 * What the engine costs besides the model: time per step and row, and how well the steps of
 * requests that decode in different ways are filled.
 */
import { createEngine, type Engine } from "../../runtime/engine/engine.ts";
import { greedySampling, type LanguageModel, seedFrom } from "../../runtime/mod.ts";
import { type Report, round, summary } from "../_report.ts";
import { nullExecutor, nullVocab } from "./_null_executor.ts";

const PROMPT = Array.from({ length: 40 }, (_, i) => i);

/** All engine results. */
export async function benchEngine(report: Report): Promise<void> {
  for (const rows of [1, 16, 64, 256]) await overhead(report, rows);
  for (const requests of [1, 4, 16]) await fill(report, requests);
}

function open(step?: () => Promise<void>): Engine {
  return createEngine({
    id: "null",
    vocab: nullVocab,
    executor: nullExecutor({ pages: 1 << 14, ...step === undefined ? {} : { step } }),
    limits: { stepTokens: 1024, chunkTokens: 128 },
  });
}

/** Plain decoding of different sequences; the executor takes no time. */
async function overhead(report: Report, rows: number): Promise<void> {
  const tokens = 300, runs = 7;
  const perRow: number[] = [], perStep: number[] = [];
  for (let run = 0; run < runs + 2; run++) { // the first two warm up
    await using engine = open();
    const start = performance.now();
    await Promise.all(Array.from({ length: rows }, async (_, i) => {
      using session = engine.session([i % 64, i >> 6, ...PROMPT]);
      for await (const _ of session.generate({ sampling: greedySampling, maxTokens: tokens }));
    }));
    const micros = (performance.now() - start) * 1000;
    const stats = engine.stats();
    if (run < 2) continue;
    perRow.push(micros / stats.rows);
    perStep.push(micros / stats.steps);
  }
  report({
    name: "engine/overhead",
    rows,
    tokens,
    usPerRow: summary(perRow),
    usPerStep: summary(perStep),
    stepsPerSecond: round(1e6 / summary(perStep).median),
  });
}

/** Requests that decode in four ways; a step takes about as long as on a small model. */
async function fill(report: Report, requests: number): Promise<void> {
  const kinds = [greedy, beam, bestOf, search];
  await using engine = open(() => new Promise((resolve) => setTimeout(resolve, 4)));
  const start = performance.now();
  await Promise.all(Array.from({ length: requests }, (_, i) => kinds[i % 4]!(engine, i)));
  const ms = performance.now() - start;
  const { steps, rows } = engine.stats();
  report({
    name: "engine/fill",
    requests,
    steps,
    rows,
    rowsPerStep: round(rows / steps),
    ms: round(ms),
  });
}

const LENGTH = 40;

async function greedy(model: LanguageModel, seed: number): Promise<void> {
  using session = model.session([seed, ...PROMPT]);
  for await (const _ of session.generate({ sampling: greedySampling, maxTokens: LENGTH }));
}

/** Four branches, each step a topk of all of them and new forks. */
async function beam(model: LanguageModel, seed: number): Promise<void> {
  using root = model.session([seed, ...PROMPT]);
  let beams = [root];
  for (let i = 0; i < LENGTH; i++) {
    const tops = await Promise.all(beams.map((session) => session.topk(4)));
    const next = tops.flatMap(({ 0: top }, b) => {
      const fork = beams[b]!.fork();
      fork.append([top!.candidates[b % 4]!.token]);
      return beams.length === 1 ? [fork, ...more(root, top!.candidates.slice(1))] : [fork];
    });
    for (const old of beams) if (old !== root) old[Symbol.dispose]();
    beams = next;
  }
  for (const session of beams) session[Symbol.dispose]();
}

function more<S extends { fork(): S; append(tokens: readonly number[]): void }>(
  root: S,
  candidates: readonly { readonly token: number }[],
): S[] {
  return candidates.map(({ token }) => {
    const fork = root.fork();
    fork.append([token]);
    return fork;
  });
}

/** Four samples of one prompt. */
async function bestOf(model: LanguageModel, seed: number): Promise<void> {
  using root = model.session([seed, ...PROMPT]);
  await Promise.all(Array.from({ length: 4 }, async (_, i) => {
    using branch = root.fork();
    branch.append([i]);
    const sampling = { ...greedySampling, seed: seedFrom(i) };
    for await (const _ of branch.generate({ sampling, maxTokens: LENGTH }));
  }));
}

/** Now and then something outside has to answer before decoding goes on. */
async function search(model: LanguageModel, seed: number): Promise<void> {
  using session = model.session([seed, ...PROMPT]);
  for (let i = 0; i < LENGTH; i++) {
    const [row] = await session.logits();
    if (i % 10 === 9) await new Promise((resolve) => setTimeout(resolve, 1));
    session.append([(row!.length + i) % 64]);
  }
}

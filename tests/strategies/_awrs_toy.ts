/** A small model whose conditional distribution under a constraint is known, for tests of awrs. */
import { choiceConstraint, type Constraint, seedFrom } from "../../runtime/mod.ts";
import { getStrategy } from "../../strategies/mod.ts";
import { requestOf, runToEnd } from "../conformance/_strategy_run.ts";
import {
  type FakeModel,
  type FakeModelOptions,
  fakeVocab,
  predicateConstraint,
  tableModel,
} from "../fakes/mod.ts";

export const awrs = getStrategy("awrs");
export const vocab = fakeVocab({ pieces: ["a", "b", "c", "x"], chat: false });

/** Three steps in which the likely way in leads to unlikely ends. */
export const table = {
  "": { a: 0.7, b: 0.2, c: 0.1 },
  a: { a: 0.02, b: 0.18, c: 0.8 },
  b: { a: 0.6, b: 0.1, c: 0.3 },
  c: { a: 0.3, b: 0.3, c: 0.4 },
  aa: { "<end>": 0.5, a: 0.5 },
  ab: { "<end>": 0.1, a: 0.9 },
  ba: { "<end>": 0.9, a: 0.1 },
  bb: { "<end>": 0.4, a: 0.6 },
};
export const valid: Readonly<Record<string, number>> = {
  aa: 0.7 * 0.02 * 0.5,
  ab: 0.7 * 0.18 * 0.1,
  ba: 0.2 * 0.6 * 0.9,
  bb: 0.2 * 0.1 * 0.4,
};
export const texts = Object.keys(valid);
export const mass = Object.values(valid).reduce((sum, p) => sum + p, 0);
export const exact = texts.map((text) => valid[text]! / mass);

export function toy(options: FakeModelOptions = {}): FakeModel {
  return tableModel({ vocab, table, ...options });
}

/** Shows no logits: tells some tokens, and draws. */
export const remote = { capabilities: ["edit", "topk", "generate"] } as const;

export function judged(): Constraint {
  return predicateConstraint({
    vocab,
    viable: (text) => texts.some((whole) => whole.startsWith(text)),
    accepting: (text) => texts.includes(text),
  });
}

export const masked = () => choiceConstraint(vocab, texts);

export async function run(
  params: Record<string, unknown>,
  seed: number,
  constraint: Constraint = judged(),
  maxTokens = 3,
  model = toy(),
) {
  const { choices, result } = await runToEnd(requestOf(awrs, model, {
    params,
    constraint,
    maxTokens,
    prompt: [3],
    sampling: { seed: seedFrom(seed) },
  }));
  return { text: choices[0]!.text, reason: choices[0]!.reason, ...result };
}

/** Counts of texts and the mean of the estimated masses, over seeds. */
export async function survey(
  params: Record<string, unknown>,
  runs: number,
  constraint: () => Constraint = judged,
  model: () => FakeModel = toy,
) {
  const counts = texts.map(() => 0);
  const masses: number[] = [];
  await Promise.all(Array.from({ length: runs }, async (_, seed) => {
    const { text, choices } = await run(params, seed, constraint(), 3, model());
    counts[texts.indexOf(text)]!++;
    masses.push(Math.exp(choices[0]!["log_z"] ?? 0));
  }));
  const mean = masses.reduce((sum, z) => sum + z, 0) / runs;
  const squares = masses.reduce((sum, z) => sum + (z - mean) ** 2, 0);
  return { counts, mean, error: Math.sqrt(squares / (runs - 1) / runs) };
}

export function distance(counts: readonly number[]): number {
  const total = counts.reduce((sum, count) => sum + count, 0);
  return counts.reduce((sum, count, i) => sum + Math.abs(count / total - exact[i]!), 0) / 2;
}

/** What masking step by step gives: (p a / 0.9)(...)(...) and so on. */
export const local = texts.map((text) => {
  const [first, second] = text as unknown as [("a" | "b"), ("a" | "b")];
  const row = table[first];
  return table[""][first] / 0.9 * row[second] / (row.a + row.b);
});

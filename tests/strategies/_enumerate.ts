/** Exact laws of randomised code: every decision is taken every way, and weighted. */
import type { Chance } from "../../strategies/_chance.ts";

interface Fork {
  taken: number;
  readonly probabilities: readonly number[];
}

/** Probability of each outcome, by its JSON text. @param run may decide by its chance alone */
export async function lawOf<T>(
  run: (chance: Chance) => MaybePromise<T>,
): Promise<ReadonlyMap<string, number>> {
  const law = new Map<string, number>();
  const path: Fork[] = [];
  do {
    let depth = 0;
    const decide = (probabilities: readonly number[]): number => {
      if (depth === path.length) {
        path.push({ taken: probabilities.findIndex((p) => p > 0), probabilities });
      }
      return path[depth++]!.taken;
    };
    const outcome = JSON.stringify(
      await run({
        coin(part, whole) {
          const heads = whole === 0 ? (part > 0 ? 1 : 0) : Math.min(1, part / whole);
          return decide([1 - heads, heads]) === 1;
        },
        draw(weights) {
          const total = weights.reduce((sum, weight) => sum + weight, 0);
          return decide(Array.from(weights, (weight) => weight / total));
        },
      }),
    );
    const weight = path.reduce(
      (product, { taken, probabilities }) => product * probabilities[taken]!,
      1,
    );
    law.set(outcome, (law.get(outcome) ?? 0) + weight);
  } while (advance(path));
  return law;
}

/** Moves to the next combination of decisions; false after the last. */
function advance(path: Fork[]): boolean {
  for (let last = path.at(-1); last; last = path.at(-1)) {
    const { taken, probabilities } = last;
    const next = probabilities.findIndex((p, i) => i > taken && p > 0);
    if (next >= 0) {
      last.taken = next;
      return true;
    }
    path.pop();
  }
  return false;
}

/**
 * Law of the first `length` tokens of code that goes round by round: a round depends on the tokens
 * before it alone, so each prefix is enumerated once.
 *
 * @param round tokens of one round, at least one
 */
export async function roundsLaw(
  round: (prefix: readonly number[], chance: Chance) => MaybePromise<readonly number[]>,
  length: number,
): Promise<ReadonlyMap<string, number>> {
  const done = new Map<string, number>();
  let open = new Map<string, number>([["[]", 1]]);
  while (open.size > 0) {
    const next = new Map<string, number>();
    for (const [key, weight] of open) {
      const prefix: readonly number[] = JSON.parse(key);
      for (const [tokens, share] of await lawOf((chance) => round(prefix, chance))) {
        const made = [...prefix, ...JSON.parse(tokens) as number[]].slice(0, length);
        const target = made.length === length ? done : next;
        const madeKey = JSON.stringify(made);
        target.set(madeKey, (target.get(madeKey) ?? 0) + weight * share);
      }
    }
    open = next;
  }
  return done;
}

type MaybePromise<T> = T | Promise<T>;

/** Half the summed differences of two laws, in [0, 1]. */
export function totalVariation(
  a: ReadonlyMap<string, number>,
  b: ReadonlyMap<string, number>,
): number {
  const keys = new Set([...a.keys(), ...b.keys()]);
  let sum = 0;
  for (const key of keys) sum += Math.abs((a.get(key) ?? 0) - (b.get(key) ?? 0));
  return sum / 2;
}

/** Law of the first `length` tokens when each is drawn from `next` given those before. */
export function productLaw(
  next: (prefix: readonly number[]) => ArrayLike<number>,
  length: number,
): ReadonlyMap<string, number> {
  const law = new Map<string, number>();
  const visit = (prefix: readonly number[], weight: number): void => {
    if (weight === 0) return;
    if (prefix.length === length) {
      law.set(JSON.stringify(prefix), weight);
      return;
    }
    const row = next(prefix);
    for (let token = 0; token < row.length; token++) {
      visit([...prefix, token], weight * row[token]!);
    }
  };
  visit([], 1);
  return law;
}

/** A law that depends on the whole prefix, from a hash. @param sharpness higher = more uneven */
export function hashLaw(
  seed: number,
  vocab: number,
  sharpness = 1.5,
): (prefix: readonly number[]) => Float64Array {
  return (prefix) => {
    let state = seed * 7919 + 17;
    for (const token of [...prefix, vocab]) {
      state = Math.imul(state ^ (token + 1), 0x9e3779b1) ^ state >>> 13;
    }
    const weights = Float64Array.from({ length: vocab }, (_, i) => {
      const mixed = Math.imul(state ^ Math.imul(i + 1, 0x85ebca6b), 0xc2b2ae35) >>> 8;
      return Math.exp(sharpness * 2 * (mixed / 2 ** 24 - 0.5));
    });
    const total = weights.reduce((sum, weight) => sum + weight, 0);
    return weights.map((weight) => weight / total);
  };
}

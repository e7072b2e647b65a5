/**
 * Expressions as nondeterministic automata over bytes.
 *
 * Source: K. Thompson, Regular expression search algorithm, CACM 11(6), 1968. Built from the back,
 * so that every part knows where it leads and equal tails of UTF-8 sequences share states.
 */
import { type Budget, ConstraintTooComplexError } from "./budget.ts";
import { type CodePoints, rangesOf } from "./code_points.ts";
import type { Expression } from "./syntax.ts";
import { type ByteSequence, byteSequences } from "./utf8.ts";

/** States 0 to size - 1. Edges are [lo, hi, to, lo, hi, to, ...]: any byte from `lo` to `hi`. */
export interface Nfa {
  readonly size: number;
  readonly start: number;
  /** The only accepting state; nothing leaves it. */
  readonly accept: number;
  readonly edges: readonly (readonly number[])[];
  /** Where a state leads without a byte. */
  readonly free: readonly (readonly number[])[];
}

/** @throws {ConstraintTooComplexError} if it needs too many states or steps */
export function buildNfa(expression: Expression, maxStates: number, budget: Budget): Nfa {
  const edges: number[][] = [];
  const free: number[][] = [];
  const sequences = new Map<CodePoints, readonly ByteSequence[]>();

  function add(to: readonly number[]): number {
    budget.spend(1 + to.length);
    if (edges.length >= maxStates) {
      throw new ConstraintTooComplexError("automaton states", maxStates);
    }
    free.push([...to]);
    return edges.push([]) - 1;
  }
  /** The state from which `part` leads to `next`. */
  function build(part: Expression, next: number): number {
    budget.spend(1);
    if (part.kind === "set") return buildSet(part.set, next);
    if (part.kind === "sequence") return part.parts.reduceRight((to, p) => build(p, to), next);
    if (part.kind === "choice") return add(part.parts.map((p) => build(p, next)));
    return buildRepeat(part, next);
  }
  function buildRepeat({ part, min, max }: Expression & { kind: "repeat" }, next: number): number {
    let at = next;
    if (max === Infinity) {
      const again = add([next]);
      const body = build(part, again);
      free[again]!.push(body);
      at = min === 0 ? again : body;
      min = Math.max(min - 1, 0);
    } else {
      for (let i = min; i < max; i++) at = add([build(part, at), next]);
    }
    for (let i = 0; i < min; i++) at = build(part, at);
    return at;
  }
  function buildSet(set: CodePoints, next: number): number {
    let list = sequences.get(set);
    if (!list) {
      list = rangesOf(set).flatMap(([lo, hi]) => byteSequences(lo, hi));
      sequences.set(set, list);
    }
    const start = add([]);
    const tails = new Map<string, number>();
    for (const sequence of list) {
      budget.spend(sequence.length);
      let to = next;
      for (let i = sequence.length - 2; i > 0; i -= 2) to = tail(sequence, i, to, tails);
      edges[start]!.push(sequence[0]!, sequence[1]!, to);
    }
    return start;
  }
  function tail(sequence: ByteSequence, i: number, to: number, tails: Map<string, number>): number {
    const key = `${sequence[i]} ${sequence[i + 1]} ${to}`;
    let state = tails.get(key);
    if (state === undefined) {
      tails.set(key, state = add([]));
      edges[state]!.push(sequence[i]!, sequence[i + 1]!, to);
    }
    return state;
  }

  const accept = add([]);
  const start = build(expression, accept);
  return { size: edges.length, start, accept, edges, free };
}

/**
 * The states that reach one of `goals`, one byte per state (1 = reaches). Only edges with a byte
 * for which `isUsable` holds count.
 */
export function reaching(
  { size, edges, free }: Nfa,
  goals: Iterable<number>,
  isUsable: (lo: number, hi: number) => boolean,
  budget: Budget,
): Uint8Array {
  const from: number[][] = Array.from({ length: size }, () => []);
  for (let state = 0; state < size; state++) {
    const out = edges[state]!;
    budget.spend(1 + out.length + free[state]!.length);
    for (const to of free[state]!) from[to]!.push(state);
    for (let i = 0; i < out.length; i += 3) {
      if (isUsable(out[i]!, out[i + 1]!)) from[out[i + 2]!]!.push(state);
    }
  }
  const found = new Uint8Array(size);
  const todo: number[] = [...goals];
  for (const goal of todo) found[goal] = 1;
  for (let state = todo.pop(); state !== undefined; state = todo.pop()) {
    for (const before of from[state]!) {
      if (found[before]) continue;
      found[before] = 1;
      todo.push(before);
    }
  }
  return found;
}

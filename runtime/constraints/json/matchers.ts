/** What strings must match, as automata over the UTF-8 bytes of the decoded string. */
import { Budget } from "../regex/budget.ts";
import { Dfa, type DfaState } from "../regex/dfa.ts";
import { buildNfa, type Nfa, reaching } from "../regex/nfa.ts";
import { textsExpression } from "../regex/mod.ts";
import { parseRegex } from "../regex/parse.ts";
import { regexLimits } from "../regex/budget.ts";
import type { Expression } from "../regex/syntax.ts";
import type { SchemaLimits } from "./limits.ts";
import type { MatcherSpec } from "./program.ts";

/**
 * The matcher of a pattern, which may match anywhere in the string, as JSON Schema has it.
 *
 * @throws {FormatError} for what the regular expressions here do not have
 */
export function patternMatcher(pattern: string, limits: SchemaLimits, budget: Budget): MatcherSpec {
  const { maxPatternBytes, maxRepeat } = limits;
  const expression = parseRegex(pattern, { ...regexLimits, maxPatternBytes, maxRepeat }, true);
  return matcherOf(expression, limits, budget, undefined);
}

/** The matcher of a list of strings. */
export function listMatcher(
  values: readonly string[],
  limits: SchemaLimits,
  budget: Budget,
): MatcherSpec {
  return matcherOf(textsExpression(values), limits, budget, values);
}

function matcherOf(
  expression: Expression,
  { maxStates }: SchemaLimits,
  budget: Budget,
  values: readonly string[] | undefined,
): MatcherSpec {
  const nfa = buildNfa(expression, maxStates, budget);
  const alive = reaching(nfa, [nfa.accept], () => true, budget);
  budget.spend(4 * nfa.size);
  return { nfa, alive, ...distances(nfa, alive), values };
}

/** Whether an edge begins a character. */
const beginsCharacter = (lo: number) => lo < 0x80 || lo >= 0xc0;

/** Least and greatest number of characters from each state to the end. */
function distances(nfa: Nfa, alive: Uint8Array) {
  const { size, edges, free, accept } = nfa;
  const least = new Float64Array(size).fill(Infinity);
  const most = new Float64Array(size).fill(Infinity);
  const into: number[][] = Array.from({ length: size }, () => []);
  const out = new Uint32Array(size);
  eachEdge(edges, free, alive, (from, to, weight) => {
    into[to]!.push(from, weight);
    out[from]!++;
  });
  least[accept] = 0;
  for (let level: number[] = [accept], next: number[] = []; level.length > 0; level = next) {
    next = [];
    for (let state = level.pop(); state !== undefined; state = level.pop()) {
      for (let i = 0; i < into[state]!.length; i += 2) {
        const [from, weight] = [into[state]![i]!, into[state]![i + 1]!];
        if (least[from]! <= least[state]! + weight) continue;
        least[from] = least[state]! + weight;
        (weight === 0 ? level : next).push(from);
      }
    }
  }
  // States are finished from the end; what is never finished can go round in circles.
  const longest = new Float64Array(size);
  const todo = Array.from(out.keys()).filter((state) => alive[state] === 1 && out[state] === 0);
  for (let state = todo.pop(); state !== undefined; state = todo.pop()) {
    most[state] = longest[state]!;
    for (let i = 0; i < into[state]!.length; i += 2) {
      const [from, weight] = [into[state]![i]!, into[state]![i + 1]!];
      longest[from] = Math.max(longest[from]!, longest[state]! + weight);
      if (--out[from]! === 0) todo.push(from);
    }
  }
  return { least, most };
}

function eachEdge(
  edges: Nfa["edges"],
  free: Nfa["free"],
  alive: Uint8Array,
  visit: (from: number, to: number, weight: number) => void,
): void {
  for (let from = 0; from < edges.length; from++) {
    if (!alive[from]) continue;
    for (const to of free[from]!) if (alive[to]) visit(from, to, 0);
    const out = edges[from]!;
    for (let i = 0; i < out.length; i += 3) {
      if (alive[out[i + 2]!]) visit(from, out[i + 2]!, beginsCharacter(out[i]!) ? 1 : 0);
    }
  }
}

/** A matcher at work. */
export class Matcher {
  readonly values: readonly string[] | undefined;
  readonly start: DfaState | null;
  readonly #dfa: Dfa;
  readonly #spec: MatcherSpec;
  readonly #spans = new WeakMap<DfaState, readonly [number, number]>();

  constructor(spec: MatcherSpec) {
    const { nfa, alive, values } = spec;
    this.#spec = spec;
    this.values = values;
    this.#dfa = new Dfa({ nfa, alive, hopeful: alive, cachedStates: 4096 });
    this.start = this.#dfa.stateAt([nfa.start], new Budget(10 * nfa.size + 100));
  }

  /** The state after a byte of the string, or null if no string goes on with it. */
  step(state: DfaState, byte: number, budget: Budget): DfaState | null {
    return this.#dfa.step(this.#dfa.current(state), byte, budget);
  }

  /** Least and greatest number of characters until a match, between two characters. */
  span(state: DfaState): readonly [number, number] {
    let span = this.#spans.get(state);
    if (!span) {
      const { least, most } = this.#spec;
      const [shortest, longest] = [least, most].map((list) =>
        Array.from(state.places, (p) => list[p]!)
      );
      span = [Math.min(...shortest!), Math.max(...longest!)];
      this.#spans.set(state, span);
    }
    return span;
  }

  /** Whether a whole string matches. */
  matches(text: string, budget: Budget): boolean {
    let state = this.start;
    for (const byte of new TextEncoder().encode(text)) {
      if (!state) return false;
      state = this.step(state, byte, budget);
    }
    return state?.isAccepting ?? false;
  }
}

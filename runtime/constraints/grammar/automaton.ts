/** Texts of a grammar, byte by byte: all ways to read the text so far are followed at once. */
import { type Budget, ConstraintTooComplexError } from "../regex/budget.ts";
import type { Network } from "./network.ts";

/** Where to go on once a rule is done. Equal ones are the same object while they are remembered. */
interface Stack {
  readonly id: number;
  readonly node: number;
  readonly below: Stack | undefined;
}

/** One way to read the text: a place in a rule, and what waits for the rule. */
interface Reading {
  readonly node: number;
  readonly stack: Stack | undefined;
}

/** All ways to read the text so far. */
export interface GrammarState {
  /** Only places where a byte can come next. */
  readonly readings: readonly Reading[];
  readonly isAccepting: boolean;
  readonly key: string;
  readonly next: Map<number, GrammarState | null>;
}

/** Ways to read one text; more are refused. */
const maxReadings = 2000;
const maxStacks = 100_000;
const maxStates = 5000;

/** The reader of one grammar's texts. Left recursion must have been refused. */
export class GrammarAutomaton {
  readonly #network: Network;
  readonly #alive: Uint8Array;
  /** By node: whether nothing but the end of the rule follows. */
  readonly #isTail: Uint8Array;
  #stacks = new Map<string, Stack>();
  #states = new Map<string, GrammarState>();
  #nextStack = 0;

  constructor(network: Network, alive: Uint8Array) {
    this.#network = network;
    this.#alive = alive;
    this.#isTail = Uint8Array.from({ length: network.size }, (_, node) => isTail(network, node));
  }

  /** The beginning, or undefined if there is no text. */
  start(budget: Budget): GrammarState | undefined {
    const { starts, root } = this.#network;
    return this.#closure([{ node: starts[root]!, stack: undefined }], budget) ?? undefined;
  }

  key(state: GrammarState): string {
    return state.key;
  }

  isAccepting(state: GrammarState): boolean {
    return state.isAccepting;
  }

  /** Every place can be finished, inside characters too: see {@link grammarProgramConstraint}. */
  isBoundary(): boolean {
    return true;
  }

  step(state: GrammarState, byte: number, budget: Budget): GrammarState | null {
    const known = state.next.get(byte);
    if (known !== undefined) return known;
    const { edges } = this.#network;
    const found: Reading[] = [];
    for (const { node, stack } of state.readings) {
      const out = edges[node]!;
      budget.spend(1 + out.length / 3);
      for (let i = 0; i < out.length; i += 3) {
        if (out[i]! <= byte && byte <= out[i + 1]!) found.push({ node: out[i + 2]!, stack });
      }
    }
    const to = found.length === 0 ? null : this.#closure(found, budget);
    // Forgotten states do not learn: they would hold on to all that came after them.
    if (this.#states.get(state.key) === state) state.next.set(byte, to);
    return to;
  }

  #closure(from: readonly Reading[], budget: Budget): GrammarState | null {
    const { edges, free, calls, ends, starts } = this.#network;
    const seen = new Set<string>();
    const readings: Reading[] = [];
    const todo = [...from];
    let isAccepting = false;
    for (let reading = todo.pop(); reading; reading = todo.pop()) {
      const { node, stack } = reading;
      if (!this.#alive[node]) continue;
      const key = `${node},${stack?.id ?? -1}`;
      if (seen.has(key)) continue;
      seen.add(key);
      budget.spend(1);
      if (seen.size > maxReadings) {
        throw new ConstraintTooComplexError("readings of the text", maxReadings);
      }
      if (edges[node]!.length > 0) readings.push(reading);
      for (const to of free[node]!) todo.push({ node: to, stack });
      const list = calls[node]!;
      for (let i = 0; i < list.length; i += 2) {
        const after = list[i + 1]!;
        if (!this.#alive[after]) continue;
        todo.push({
          node: starts[list[i]!]!,
          stack: this.#isTail[after] ? stack : this.#push(after, stack),
        });
      }
      if (ends[node] !== 1) continue;
      if (stack) todo.push({ node: stack.node, stack: stack.below });
      else isAccepting = true;
    }
    return readings.length === 0 && !isAccepting ? null : this.#intern(readings, isAccepting);
  }

  #push(node: number, below: Stack | undefined): Stack {
    const key = `${node},${below?.id ?? -1}`;
    let stack = this.#stacks.get(key);
    if (!stack) {
      if (this.#stacks.size >= maxStacks) this.#stacks = new Map();
      this.#stacks.set(key, stack = { id: this.#nextStack++, node, below });
    }
    return stack;
  }

  #intern(readings: readonly Reading[], isAccepting: boolean): GrammarState {
    const parts = readings.map(({ node, stack }) => `${node},${stack?.id ?? -1}`).sort();
    const key = `${isAccepting ? "+" : ""}${parts.join(";")}`;
    let state = this.#states.get(key);
    if (!state) {
      if (this.#states.size >= maxStates) this.#states = new Map();
      this.#states.set(key, state = { readings, isAccepting, key, next: new Map() });
    }
    return state;
  }
}

/** Follows the only way without bytes from a node: does it come to the end of the rule? */
function isTail({ edges, free, calls, ends }: Network, node: number): number {
  for (let at = node, steps = 0; steps < 16; steps++) {
    if (edges[at]!.length > 0 || calls[at]!.length > 0) return 0;
    if (ends[at] === 1) return 1;
    if (free[at]!.length !== 1) return 0;
    at = free[at]![0]!;
  }
  return 0;
}

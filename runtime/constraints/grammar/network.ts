/**
 * Grammars as recursive transition networks over bytes.
 *
 * Source: W. A. Woods, Transition network grammars for natural language analysis, CACM 13(10), 1970.
 */
import { FormatError } from "../../errors.ts";
import { type Budget, ConstraintTooComplexError } from "../regex/budget.ts";
import { type CodePoints, rangesOf } from "../regex/code_points.ts";
import { byteSequences } from "../regex/utf8.ts";
import type { Body, Rules } from "./syntax.ts";

/** Plain data: nodes 0 to size - 1. */
export interface Network {
  readonly size: number;
  readonly root: number;
  /** By rule: where it begins. */
  readonly starts: readonly number[];
  readonly names: readonly string[];
  /** By node: [lo, hi, to, ...], any byte from `lo` to `hi`. */
  readonly edges: readonly (readonly number[])[];
  /** By node: where it leads without a byte. */
  readonly free: readonly (readonly number[])[];
  /** By node: [rule, to, ...], `to` once the rule is done. */
  readonly calls: readonly (readonly number[])[];
  /** By node: whether a rule is done here. */
  readonly ends: Uint8Array;
}

/** @throws {FormatError} for unknown rules @throws {ConstraintTooComplexError} */
export function buildNetwork(rules: Rules, maxNodes: number, budget: Budget): Network {
  const edges: number[][] = [];
  const free: number[][] = [];
  const calls: number[][] = [];
  const ends: number[] = [];
  const ids = new Map([...rules.keys()].map((name, i) => [name, i]));

  function add(to: readonly number[]): number {
    budget.spend(1 + to.length);
    if (edges.length >= maxNodes) throw new ConstraintTooComplexError("grammar states", maxNodes);
    edges.push([]);
    calls.push([]);
    return free.push([...to]) - 1;
  }
  /** The node from which `body` leads to `next`. */
  function build(body: Body, next: number): number {
    budget.spend(1);
    switch (body.kind) {
      case "set":
        return buildSet(body.set, next);
      case "sequence":
        return body.parts.reduceRight((to, part) => build(part, to), next);
      case "choice":
        return add(body.parts.map((part) => build(part, next)));
      case "repeat":
        return buildRepeat(body, next);
      case "rule": {
        const rule = ids.get(body.name);
        if (rule === undefined) {
          const { offset } = body;
          throw new FormatError(`there is no rule ${body.name}`, { source: "grammar", offset });
        }
        const node = add([]);
        calls[node]!.push(rule, next);
        return node;
      }
    }
  }
  function buildRepeat({ part, min, max }: Body & { kind: "repeat" }, next: number): number {
    let at = next;
    if (max === Infinity) {
      at = add([next]);
      free[at]!.push(build(part, at));
    } else {
      for (let i = min; i < max; i++) at = add([build(part, at), next]);
    }
    for (let i = 0; i < min; i++) at = build(part, at);
    return at;
  }
  function buildSet(set: CodePoints, next: number): number {
    const start = add([]);
    const tails = new Map<string, number>();
    for (const sequence of rangesOf(set).flatMap(([lo, hi]) => byteSequences(lo, hi))) {
      let to = next;
      for (let i = sequence.length - 2; i > 0; i -= 2) {
        const key = `${sequence[i]} ${sequence[i + 1]} ${to}`;
        let tail = tails.get(key);
        if (tail === undefined) {
          tails.set(key, tail = add([]));
          edges[tail]!.push(sequence[i]!, sequence[i + 1]!, to);
        }
        to = tail;
      }
      edges[start]!.push(sequence[0]!, sequence[1]!, to);
    }
    return start;
  }

  const starts = [...rules.values()].map((body) => {
    const end = add([]);
    ends[end] = 1;
    return build(body, end);
  });
  return {
    size: edges.length,
    root: ids.get("root")!,
    starts,
    names: [...rules.keys()],
    edges,
    free,
    calls,
    ends: Uint8Array.from({ length: edges.length }, (_, node) => ends[node] ?? 0),
  };
}

/**
 * Nodes from which their rule can be finished, one byte per node; only edges with a byte for which
 * `isUsable` holds count.
 */
export function finishing(
  { size, edges, free, calls, ends, starts }: Network,
  isUsable: (lo: number, hi: number) => boolean,
): Uint8Array {
  const before: number[][] = Array.from({ length: size }, () => []);
  const callers: number[][] = starts.map(() => []);
  for (let node = 0; node < size; node++) {
    for (const to of free[node]!) before[to]!.push(node);
    const out = edges[node]!;
    for (let i = 0; i < out.length; i += 3) {
      if (isUsable(out[i]!, out[i + 1]!)) before[out[i + 2]!]!.push(node);
    }
    for (let i = 0; i < calls[node]!.length; i += 2) callers[calls[node]![i]!]!.push(node);
  }
  const found = new Uint8Array(size);
  const rulesAt = new Map<number, number[]>();
  starts.forEach((start, rule) => rulesAt.set(start, [...rulesAt.get(start) ?? [], rule]));
  const isCallDone = (node: number) => {
    const list = calls[node]!;
    for (let i = 0; i < list.length; i += 2) {
      if (found[starts[list[i]!]!] && found[list[i + 1]!]) return true;
    }
    return false;
  };
  // A call is done when both its rule and what follows are: either may be found last.
  for (let node = 0; node < size; node++) {
    for (let i = 1; i < calls[node]!.length; i += 2) before[calls[node]![i]!]!.push(~node);
  }
  const todo = Array.from(ends.keys()).filter((node) => ends[node] === 1);
  for (const node of todo) found[node] = 1;
  const reach = (node: number) => {
    if (found[node]) return;
    found[node] = 1;
    todo.push(node);
  };
  for (let node = todo.pop(); node !== undefined; node = todo.pop()) {
    for (const from of before[node]!) {
      if (from >= 0) reach(from);
      else if (isCallDone(~from)) reach(~from);
    }
    for (const rule of rulesAt.get(node) ?? []) {
      for (const caller of callers[rule]!) if (isCallDone(caller)) reach(caller);
    }
  }
  return found;
}

/**
 * A rule that can come to itself before any byte would never stop growing.
 *
 * @throws {FormatError} naming the rule
 */
export function refuseLeftRecursion(network: Network, budget: Budget): void {
  const { starts, names } = network;
  const empty = emptyRules(network, budget);
  const first = starts.map((start) => [...callsBeforeBytes(network, start, empty, budget)]);
  const waits = first.map((list) => list.length);
  const users: number[][] = starts.map(() => []);
  first.forEach((list, rule) => list.forEach((other) => users[other]!.push(rule)));
  const ready = Array.from(waits.keys()).filter((rule) => waits[rule] === 0);
  for (let rule = ready.pop(); rule !== undefined; rule = ready.pop()) {
    waits[rule] = -1;
    for (const user of users[rule]!) if (--waits[user]! === 0) ready.push(user);
  }
  const bad = waits.findIndex((count) => count > 0);
  if (bad >= 0) {
    throw new FormatError(
      `the rule ${names[bad]} leads to left recursion, which is not supported`,
      { source: "grammar" },
    );
  }
}

/** Rules that the empty text satisfies. */
function emptyRules(network: Network, budget: Budget): ReadonlySet<number> {
  const empty = new Set<number>();
  for (let size = -1; size !== empty.size;) {
    size = empty.size;
    network.starts.forEach((start, rule) => {
      if (empty.has(rule)) return;
      const reached = [...freelyReached(network, start, empty, budget)];
      if (reached.some((node) => network.ends[node] === 1)) empty.add(rule);
    });
  }
  return empty;
}

function freelyReached(
  { free, calls }: Network,
  start: number,
  empty: ReadonlySet<number>,
  budget: Budget,
): Set<number> {
  const seen = new Set([start]);
  for (const node of seen) {
    budget.spend(1 + free[node]!.length);
    for (const to of free[node]!) seen.add(to);
    const list = calls[node]!;
    for (let i = 0; i < list.length; i += 2) if (empty.has(list[i]!)) seen.add(list[i + 1]!);
  }
  return seen;
}

function callsBeforeBytes(
  network: Network,
  start: number,
  empty: ReadonlySet<number>,
  budget: Budget,
): Set<number> {
  const rules = new Set<number>();
  for (const node of freelyReached(network, start, empty, budget)) {
    const list = network.calls[node]!;
    for (let i = 0; i < list.length; i += 2) rules.add(list[i]!);
  }
  return rules;
}

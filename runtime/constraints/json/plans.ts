/**
 * What is decided about one value: the schemas that apply to it, and how their verdicts combine
 * (which evaluate.ts does).
 *
 * A schema's own keywords give a verdict of their own (its leaf); applicators combine verdicts of
 * schemas that apply to the same value. All of them are followed at once while the value is written.
 */
import { ConstraintTooComplexError } from "../regex/budget.ts";
import { inPlace } from "./in_place.ts";
import { anyType, type ArrayRule, type SchemaNode, type SchemaProgram } from "./program.ts";
import { fail, open, pass, type Verdict } from "./verdict.ts";

/** Verdicts of the leaves of a plan, one byte each. */
export type Leaves = Uint8Array;

/** Schemas that apply to one value. */
export interface Plan {
  readonly id: number;
  /** Every schema after the ones it needs. */
  readonly nodes: readonly SchemaNode[];
  /** Places in `nodes` of the schemas that were asked for. */
  readonly roots: readonly number[];
  readonly steps: readonly Step[];
  /** Whether the leaves are all there is: no schema combines others. */
  readonly isFlat: boolean;
  /** By root: places of the schemas that must hold if it does, where there are several. */
  readonly groups: readonly (readonly [root: number, places: readonly number[]])[];
  /** Verdicts before the value begins. */
  readonly initial: Leaves;
  /** Verdicts once the type is known. */
  readonly byType: Map<number, Leaves>;
  /** Names that some schema says something about. */
  readonly names: ReadonlySet<string>;
  /** Matchers of names, each once. */
  readonly nameMatchers: readonly number[];
  /** Numbers of items from here on make no difference. */
  readonly itemCap: number;
  /** Plans of members, made when they are needed. */
  readonly children: Map<string, Child>;
}

/** How the verdict of a schema comes from others: places in the plan's nodes. */
interface Step {
  readonly isLeaf: boolean;
  readonly allOf: readonly number[];
  readonly anyOf: readonly (readonly number[])[];
  readonly oneOf: readonly (readonly number[])[];
  readonly not: readonly number[];
  readonly conditions: readonly (readonly [number, number, number])[];
  readonly dependent: readonly (readonly [string, number])[];
}

/** Where a member's verdict goes. */
export interface Link {
  /** Place in the member's `roots`. */
  readonly root: number;
  /** Place in the container's `nodes`. */
  readonly parent: number;
  /** The verdict counts towards `contains`; otherwise the parent fails with it. */
  readonly isCounted: boolean;
}

/** The plan of a member and what it means for the container. */
export interface Child {
  readonly plan: Plan;
  readonly links: readonly Link[];
}

/** Makes plans, each once. */
export class Plans {
  readonly #plans = new Map<string, Plan>();

  constructor(readonly program: SchemaProgram, readonly maxParallel: number) {}

  /** How many there are. */
  get size(): number {
    return this.#plans.size;
  }

  /** The plan of a set of schemas. */
  of(ids: readonly number[]): Plan {
    const key = ids.join();
    let plan = this.#plans.get(key);
    if (!plan) {
      plan = makePlan(this.#plans.size, this.program, ids, this.maxParallel);
      this.#plans.set(key, plan);
    }
    return plan;
  }

  /** A member that must satisfy or be counted for these schemas of the container. */
  child(
    links: readonly {
      readonly node: number;
      readonly parent: number;
      readonly isCounted: boolean;
    }[],
  ): Child {
    const ids = [...new Set(links.map(({ node }) => node))].sort((a, b) => a - b);
    const plan = this.of(ids);
    return {
      plan,
      links: links.map(({ node, parent, isCounted }) => ({
        root: ids.indexOf(node),
        parent,
        isCounted,
      })),
    };
  }
}

function makePlan(
  id: number,
  { nodes, matchers: specs }: SchemaProgram,
  ids: readonly number[],
  maxParallel: number,
): Plan {
  const order = closure(nodes, ids, maxParallel);
  const place = new Map(order.map((node, i) => [node.id, i]));
  const at = (node: number) => node < 0 ? -1 : place.get(node)!;
  const names = new Set<string>();
  const matchers = new Set<number>();
  for (const { object, dependentSchemas } of order) {
    for (const [name] of dependentSchemas) names.add(name);
    if (!object) continue;
    for (const name of [...object.known, ...object.required]) names.add(name);
    for (const [matcher] of object.patterns) matchers.add(matcher);
    for (const matcher of object.knownPatterns) matchers.add(matcher);
    for (const matcher of object.names?.matchers ?? []) {
      matchers.add(matcher);
      for (const name of specs[matcher]!.values ?? []) names.add(name);
    }
  }
  return {
    id,
    nodes: order,
    roots: ids.map(at),
    steps: order.map((node) => ({
      isLeaf: inPlace(node).length === 0,
      allOf: node.allOf.map(at),
      anyOf: node.anyOf.map((group) => group.map(at)),
      oneOf: node.oneOf.map((group) => group.map(at)),
      not: node.not.map(at),
      conditions: node.conditions.map((c) => [at(c.test), at(c.then), at(c.otherwise)] as const),
      dependent: node.dependentSchemas.map(([name, child]) => [name, at(child)] as const),
    })),
    groups: ids.map((root) => [at(root), [...mustHold(nodes, root)].map(at)] as const)
      .filter(([, places]) => places.length > 1),
    isFlat: order.every((node) => inPlace(node).length === 0),
    initial: Uint8Array.from(order, leafBefore),
    byType: new Map(),
    names,
    nameMatchers: [...matchers],
    itemCap: Math.max(1, ...order.map(({ array }) => array ? capOf(array) : 0)),
    children: new Map(),
  };
}

/** A schema and all it joins by `allOf`. */
function mustHold(nodes: readonly SchemaNode[], root: number): Set<number> {
  const found = new Set([root]);
  for (const id of found) for (const part of nodes[id]!.allOf) found.add(part);
  return found;
}

function capOf({ prefix, min, max, contains }: ArrayRule): number {
  const bounds = [prefix.length, min, max, contains?.min ?? 0, contains?.max ?? 0];
  return 1 + Math.max(...bounds.filter(Number.isFinite));
}

/** The schemas and all that apply with them, each after the ones it needs. */
function closure(
  nodes: readonly SchemaNode[],
  ids: readonly number[],
  maxParallel: number,
): SchemaNode[] {
  const order: SchemaNode[] = [];
  const seen = new Set<number>();
  // An entry is a schema to visit, or (as its complement) one whose needs have been visited.
  const todo = [...ids].reverse();
  for (let id = todo.pop(); id !== undefined; id = todo.pop()) {
    if (id < 0) {
      order.push(nodes[~id]!);
      continue;
    }
    if (seen.has(id)) continue;
    seen.add(id);
    if (seen.size > maxParallel) {
      throw new ConstraintTooComplexError("schemas for one value", maxParallel);
    }
    todo.push(~id, ...inPlace(nodes[id]!));
  }
  return order;
}

function leafBefore(node: SchemaNode): Verdict {
  if (node.types === 0) return fail;
  const isFree = node.types === anyType && node.literals === 7 && !node.number && !node.string &&
    !node.array && !node.object;
  return isFree ? pass : open;
}

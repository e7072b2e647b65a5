/** Schemas that apply to one value together. */
import { ConstraintTooComplexError } from "../regex/budget.ts";
import type { SchemaNode } from "./program.ts";
import { schemaError } from "./resources.ts";

/** All schemas that apply to the same value as this one. */
export function inPlace(node: SchemaNode): number[] {
  const conditions = node.conditions.flatMap((c) => [c.test, c.then, c.otherwise]);
  return [
    ...node.allOf,
    ...node.anyOf.flat(),
    ...node.oneOf.flat(),
    ...node.not,
    ...conditions.filter((id) => id >= 0),
    ...node.dependentSchemas.map(([, id]) => id),
  ];
}

/**
 * A schema that applies to a value because it applies to that value never ends.
 *
 * @throws {FormatError}
 */
export function requireProgress(nodes: readonly SchemaNode[]): void {
  if (inOrder(nodes).length < nodes.length) {
    throw schemaError("a schema refers to itself without end", "");
  }
}

/** Most schemas that a validator may have to try on one value. */
const MOST_TRIALS = 100_000;

/**
 * Our automata keep schemas apart that apply twice; a validator tries them again each time, so that
 * thirty levels of two references are a thousand million.
 *
 * @param nodes that {@link requireProgress} has passed
 * @throws {ConstraintTooComplexError}
 */
export function requireCheckable(nodes: readonly SchemaNode[]): void {
  const trials = new Float64Array(nodes.length);
  for (const id of inOrder(nodes)) {
    trials[id] = inPlace(nodes[id]!).reduce((sum, part) => sum + trials[part]!, 1);
    if (trials[id]! > MOST_TRIALS) {
      throw new ConstraintTooComplexError("schemas to try on one value", MOST_TRIALS);
    }
  }
}

/** Schemas after those that apply in their place; without those that never end. */
function inOrder(nodes: readonly SchemaNode[]): number[] {
  const waits = nodes.map((node) => new Set(inPlace(node)).size);
  const users: number[][] = nodes.map(() => []);
  for (const node of nodes) for (const id of new Set(inPlace(node))) users[id]!.push(node.id);
  const order = nodes.filter((node) => waits[node.id] === 0).map((node) => node.id);
  for (let i = 0; i < order.length; i++) {
    for (const user of users[order[i]!]!) if (--waits[user]! === 0) order.push(user);
  }
  return order;
}

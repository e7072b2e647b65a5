/** Schemas that apply to one value together. */
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
  const waits = nodes.map((node) => new Set(inPlace(node)).size);
  const users: number[][] = nodes.map(() => []);
  for (const node of nodes) for (const id of new Set(inPlace(node))) users[id]!.push(node.id);
  const ready = nodes.filter((node) => waits[node.id] === 0).map((node) => node.id);
  let done = 0;
  for (let id = ready.pop(); id !== undefined; id = ready.pop()) {
    done++;
    for (const user of users[id]!) if (--waits[user]! === 0) ready.push(user);
  }
  if (done < nodes.length) throw schemaError("a schema refers to itself without end", "");
}

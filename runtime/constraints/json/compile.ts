/**
 * JSON Schemas as programs.
 *
 * Source: JSON Schema 2020-12, core and validation; drafts 4, 6, 7 and 2019-09 by `$schema`.
 * Differs: what cannot be enforced while the text is written is refused by name, with its place.
 */
import { ConstraintTooComplexError } from "../regex/budget.ts";
import { createCompiling } from "./compiling.ts";
import { fillNode } from "./fill_node.ts";
import { requireProgress } from "./in_place.ts";
import type { SchemaLimits } from "./limits.ts";
import type { SchemaProgram } from "./program.ts";

/**
 * @throws {FormatError} naming the keyword and its place, for what is malformed or not supported
 * @throws {ConstraintTooComplexError} above a limit
 */
export function compileSchema(schema: unknown, limits: SchemaLimits): SchemaProgram {
  requireDepth(schema, 4 * limits.maxDepth);
  const bytes = new TextEncoder().encode(JSON.stringify(schema) ?? "").length;
  if (bytes > limits.maxBytes) {
    throw new ConstraintTooComplexError("bytes in the schema", limits.maxBytes);
  }
  const { compiling, nodes, matchers, notes, drain } = createCompiling(schema, limits);
  const root = compiling.node(compiling.resources.root);
  drain(fillNode);
  requireProgress(nodes);
  return { nodes, root, matchers, notes: [...notes] };
}

/** Depth is checked with a counter before anything recurses. */
function requireDepth(schema: unknown, max: number): void {
  let level: unknown[] = [schema];
  for (let depth = 0; level.length > 0; depth++) {
    if (depth > max) throw new ConstraintTooComplexError("levels in the schema", max);
    level = level.flatMap((value) =>
      typeof value === "object" && value !== null ? Object.values(value) : []
    );
  }
}

/** Verdicts of a plan's schemas: those of leaves by the value's type, and how steps combine them. */
import type { Leaves, Plan } from "./plans.ts";
import { jsonType, type SchemaNode } from "./program.ts";
import { and, choose, exactlyOne, fail, not, open, or, pass, type Verdict } from "./verdict.ts";

const leafKeys = new WeakMap<Leaves, string>();

/** Equal for equal verdicts. */
export function keyOfLeaves(leaves: Leaves): string {
  let key = leafKeys.get(leaves);
  if (key === undefined) leafKeys.set(leaves, key = String.fromCharCode(...leaves));
  return key;
}

/** Verdicts of the leaves for a value of this type, before anything else is known of it. */
export function leavesOf(plan: Plan, type: number): Leaves {
  let leaves = plan.byType.get(type);
  if (!leaves) {
    leaves = Uint8Array.from(plan.nodes, (node) => leafOf(node, type));
    plan.byType.set(type, leaves);
  }
  return leaves;
}

function leafOf(node: SchemaNode, type: number): Verdict {
  if ((node.types & type) === 0) return fail;
  const rule = type === jsonType.number
    ? node.number
    : type === jsonType.string
    ? node.string
    : type === jsonType.array
    ? node.array
    : type === jsonType.object
    ? node.object
    : undefined;
  const isLiteral = type === jsonType.null || type === jsonType.boolean;
  return rule !== undefined || (isLiteral && node.literals !== 7) ? open : pass;
}

/** Whether an object has a property: asked for `dependentSchemas`. */
export type Presence = (name: string) => Verdict;

/** No property is there: the value is no object. */
export const absent: Presence = () => fail;

/** Verdicts of all schemas of a plan. */
export function evaluate(
  { steps }: Plan,
  leaves: Leaves,
  presence: Presence | undefined,
): Verdict[] {
  const verdicts: Verdict[] = [];
  for (let i = 0; i < steps.length; i++) {
    let verdict = leaves[i] as Verdict;
    const step = steps[i]!;
    if (!step.isLeaf && verdict !== fail) {
      const at = (place: number): Verdict => place < 0 ? pass : verdicts[place]!;
      for (const place of step.allOf) verdict = and(verdict, at(place));
      for (const group of step.anyOf) {
        verdict = and(verdict, group.reduce((sum: Verdict, p) => or(sum, at(p)), fail));
      }
      for (const group of step.oneOf) verdict = and(verdict, exactlyOne(group.map(at)));
      for (const place of step.not) verdict = and(verdict, not(at(place)));
      for (const [test, then, otherwise] of step.conditions) {
        verdict = and(verdict, choose(at(test), at(then), at(otherwise)));
      }
      for (const [name, place] of step.dependent) {
        const isThere = presence ? presence(name) : open;
        verdict = and(verdict, or(not(isThere), at(place)));
      }
    }
    verdicts.push(verdict);
  }
  return verdicts;
}

/** Open arrays and objects, and how verdicts travel from values to what contains them. */
import { absent, evaluate, type Presence } from "./evaluate.ts";
import type { Leaves, Link, Plan } from "./plans.ts";
import { fail, open, pass, type Verdict } from "./verdict.ts";

/** A value being written: its schemas, what is decided of them, what they mean for the container. */
export interface Value {
  readonly plan: Plan;
  readonly leaves: Leaves;
  readonly links: readonly Link[];
}

/** An open array or object: itself a value. */
export interface Frame extends Value {
  readonly isObject: boolean;
  readonly parent: Frame | undefined;
  readonly depth: number;
  /** Names so far, or undefined in arrays. */
  readonly keys: readonly string[];
  /** Finished items, as far as their number matters. */
  readonly count: number;
  /** Per node of the plan with `contains`: items that satisfied it. Aligned with the nodes. */
  readonly contained: readonly number[];
  /** Canonical texts of finished items where they must differ. */
  readonly items: readonly string[] | undefined;
  /** Whether this or an outer array keeps its items, so that the text is captured. */
  readonly isCapturing: boolean;
  /** Where the current item begins in the captured text. */
  readonly itemAt: number;
}

/** The text leaves no way to satisfy the schema. */
export const dead = Symbol("dead");

/** Whether an open object has a property, as far as known. */
export function presenceIn(frame: Frame, isClosing: boolean): Presence {
  return (name) => frame.keys.includes(name) ? pass : isClosing ? fail : open;
}

/** Changes some leaves to `fail`; the same array if there is nothing to change. */
export function failing(leaves: Leaves, places: readonly number[]): Leaves {
  if (places.length === 0) return leaves;
  const fresh = places.filter((place) => leaves[place] !== fail);
  if (fresh.length === 0) return leaves;
  const changed = leaves.slice();
  for (const place of fresh) changed[place] = fail;
  return changed;
}

/**
 * Tells the containers what a value's verdicts mean so far.
 *
 * @param frame the container, undefined for the outermost value
 * @returns the container with what it now knows, or `dead` if the whole text can no longer be valid
 */
export function settle(
  frame: Frame | undefined,
  value: Value,
  presence?: Presence,
): Frame | undefined | typeof dead {
  const { plan, links } = value;
  if (plan.roots.length === 0) return frame;
  const verdicts = plan.isFlat ? value.leaves : evaluate(plan, value.leaves, presence);
  if (!frame) return verdicts[plan.roots[0]!] === fail ? dead : frame;
  const hit: number[] = [];
  for (const { root, parent, isCounted } of links) {
    if (!isCounted && verdicts[plan.roots[root]!] === fail) hit.push(parent);
  }
  const leaves = failing(frame.leaves, hit);
  return leaves === frame.leaves ? frame : settleFrame({ ...frame, leaves });
}

/** A container whose own verdicts have changed, with what that means for its containers. */
export function settleFrame(frame: Frame): Frame | typeof dead {
  const presence = frame.isObject ? presenceIn(frame, false) : absent;
  const parent = settle(frame.parent, frame, presence);
  if (parent === dead) return dead;
  return parent === frame.parent ? frame : { ...frame, parent };
}

/** The container after a value with these verdicts has ended, before the container's own checks. */
export function afterMember(
  frame: Frame,
  value: Value,
  verdicts: readonly Verdict[],
): Frame {
  const { plan, links } = value;
  const verdict = (root: number) => verdicts[plan.roots[root]!]!;
  const hit = links.filter((link) => !link.isCounted && verdict(link.root) === fail);
  const counted = links.filter((link) => link.isCounted && verdict(link.root) === pass);
  let { contained } = frame;
  if (counted.length > 0) {
    const next = contained.slice();
    for (const { parent } of counted) {
      next[parent] = Math.min((next[parent] ?? 0) + 1, frame.plan.itemCap);
    }
    contained = next;
  }
  return {
    ...frame,
    leaves: failing(frame.leaves, hit.map((link) => link.parent)),
    contained,
    count: Math.min(frame.count + 1, frame.plan.itemCap),
  };
}

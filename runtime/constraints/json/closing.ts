/** The end of values: final verdicts, and what they mean for the container. */
import { absent, evaluate, keyOfLeaves, type Presence } from "./evaluate.ts";
import {
  afterMember,
  dead,
  failing,
  type Frame,
  presenceIn,
  settle,
  settleFrame,
  type Value,
} from "./frames.ts";
import {
  beforeItem,
  beforeProperty,
  childOfIndex,
  fromLatin1,
  type Machine,
  nameOptions,
  placesOf,
  viableChild,
} from "./members.ts";
import type { Leaves } from "./plans.ts";
import type { ArrayRule, ObjectRule } from "./program.ts";
import { frameState, type JsonState } from "./state.ts";
import { fail, open, pass, type Verdict } from "./verdict.ts";

/** A value that has ended, its leaves decided. Undefined if the text cannot go on from there. */
export function endValue(
  machine: Machine,
  frame: Frame | undefined,
  value: Value,
  raw: string | undefined,
  presence: Presence = absent,
): JsonState | undefined {
  machine.budget.spend(1 + value.plan.nodes.length);
  const verdicts = evaluate(value.plan, value.leaves, presence);
  if (!frame) {
    return verdicts[value.plan.roots[0]!] === pass
      ? frameState("done", undefined, undefined)
      : undefined;
  }
  const counted = overfull(withItem(afterMember(frame, value, verdicts), raw));
  const checked = counted.leaves === frame.leaves ? counted : settleFrame(counted);
  if (checked === dead) return undefined;
  const after = frameState("after", checked, raw);
  return canGoOn(machine, checked) || closeContainer(machine, after) ? after : undefined;
}

/** The last end of a value whose text does not matter, by the value as it was being written. */
const ends = new WeakMap<Value, Ending>();

interface Ending {
  readonly frame: Frame | undefined;
  readonly leaves: string;
  readonly result: JsonState | undefined;
}

/** {@link endValue} for a string or number: equal ends are the same state, made once. */
export function endOnce(
  machine: Machine,
  state: JsonState,
  value: Value,
  raw: string | undefined,
): JsonState | undefined {
  const leaves = keyOfLeaves(value.leaves);
  const last = raw === undefined ? ends.get(state.value!) : undefined;
  if (last?.frame === state.frame && last?.leaves === leaves) return last.result;
  const frame = settle(state.frame, value, absent);
  const result = frame === dead ? undefined : endValue(machine, frame, value, raw);
  if (raw === undefined) ends.set(state.value!, { frame: state.frame, leaves, result });
  return result;
}

/** Arrays with more matching items than `maxContains` allows fail. */
function overfull(frame: Frame): Frame {
  const hit = placesOf(frame, (node) => {
    const contains = node.array?.contains;
    if (!contains) return false;
    return (frame.contained[frame.plan.nodes.indexOf(node)] ?? 0) > contains.max;
  });
  return hit.length === 0 ? frame : { ...frame, leaves: failing(frame.leaves, hit) };
}

/** Remembers an item where items must differ, and fails the schemas that say so for a repeated one. */
function withItem(frame: Frame, raw: string | undefined): Frame {
  if (!frame.items || raw === undefined) return frame;
  const item = canonical(JSON.parse(fromLatin1(raw.slice(frame.itemAt))));
  if (!frame.items.includes(item)) return { ...frame, items: [...frame.items, item] };
  const hit = placesOf(frame, ({ array }) => array?.isUnique ?? false);
  return { ...frame, leaves: failing(frame.leaves, hit) };
}

/** Equal texts for equal JSON values. */
export function canonical(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(canonical).join()}]`;
  if (typeof value !== "object" || value === null) return JSON.stringify(value);
  const members = Object.entries(value).map(([key, member]) =>
    `${JSON.stringify(key)}:${canonical(member)}`
  );
  return `{${members.sort().join()}}`;
}

/** Whether another member can follow. */
export function canGoOn(machine: Machine, frame: Frame): boolean {
  if (frame.isObject) {
    const next = beforeProperty(frame);
    if (!next) return false;
    const { names, isFree, patterns } = nameOptions(machine, next);
    return names.length > 0 || isFree || patterns.length > 0;
  }
  const next = beforeItem(frame);
  return next !== undefined &&
    viableChild(machine, next, childOfIndex(machine, next)) !== undefined;
}

/** The state after the container has been closed, or undefined if it may not be. */
export function closeContainer(machine: Machine, state: JsonState): JsonState | undefined {
  const { frame, raw } = state;
  if (!frame) return undefined;
  const leaves = finalLeaves(frame);
  const { plan, links, parent } = frame;
  const presence = frame.isObject ? presenceIn(frame, true) : absent;
  const kept = parent?.isCapturing ? raw : undefined;
  return endValue(machine, parent, { plan, leaves, links }, kept, presence);
}

function finalLeaves(frame: Frame): Leaves {
  const { plan, leaves } = frame;
  return leaves.map((verdict, place): Verdict => {
    if (verdict !== open) return verdict as Verdict;
    const { array, object } = plan.nodes[place]!;
    const holds = frame.isObject
      ? object === undefined || objectHolds(object, frame)
      : array === undefined || arrayHolds(array, frame, frame.contained[place] ?? 0);
    return holds ? pass : fail;
  });
}

function objectHolds(rule: ObjectRule, { keys }: Frame): boolean {
  return keys.length >= rule.min && keys.length <= rule.max &&
    rule.required.every((name) => keys.includes(name)) &&
    rule.dependentRequired.every(([name, needed]) =>
      !keys.includes(name) || needed.every((other) => keys.includes(other))
    );
}

function arrayHolds(rule: ArrayRule, { count }: Frame, contained: number): boolean {
  const { contains } = rule;
  return count >= rule.min && count <= rule.max &&
    (!contains || (contained >= contains.min && contained <= contains.max));
}

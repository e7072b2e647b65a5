/** Members of open containers: which schemas they must satisfy, and whether there can be one. */
import type { Budget } from "../regex/budget.ts";
import { absent, keyOfLeaves, leavesOf } from "./evaluate.ts";
import { dead, failing, type Frame, settle, settleFrame, type Value } from "./frames.ts";
import type { Matcher } from "./matchers.ts";
import type { Child, Plans } from "./plans.ts";
import { jsonType, type StringRule } from "./program.ts";
import { open } from "./verdict.ts";

/** What all automaton parts share. */
export interface Machine {
  readonly plans: Plans;
  readonly matchers: readonly Matcher[];
  readonly maxTextDepth: number;
  readonly budget: Budget;
}

const types = Object.values(jsonType);

/** The beginning of a member, or undefined if no value at all can stand there. */
export function viableChild(machine: Machine, frame: Frame, child: Child): Value | undefined {
  const { plan, links } = child;
  const value: Value = { plan, leaves: plan.initial, links };
  if (plan.roots.length === 0) return value;
  machine.budget.spend(plan.nodes.length);
  const isViable = types.some((type) => {
    const presence = type === jsonType.object ? undefined : absent;
    return settle(frame, { plan, leaves: leavesOf(plan, type), links }, presence) !== dead;
  });
  return isViable ? value : undefined;
}

const unknown = new WeakMap<Frame, Map<Child, Value | undefined>>();

/** {@link viableChild} for a name that no schema of the object knows. */
export function viableUnknown(machine: Machine, frame: Frame, child: Child): Value | undefined {
  let known = unknown.get(frame);
  if (!known) unknown.set(frame, known = new Map());
  if (!known.has(child)) known.set(child, viableChild(machine, frame, child));
  return known.get(child);
}

/** The member of an object under a name that matches exactly these matchers. */
export function childOfKey(
  { plans }: Machine,
  { plan, leaves }: Frame,
  name: string,
  matched: ReadonlySet<number>,
): Child {
  const isKnown = plan.names.has(name);
  const some = matched.size === 0 ? "" : [...matched].join();
  const key = `${keyOfLeaves(leaves)}${some}|${isKnown ? name : ""}`;
  let child = plan.children.get(key);
  if (child) return child;
  const links: { node: number; parent: number; isCounted: boolean }[] = [];
  for (const [parent, { object }] of plan.nodes.entries()) {
    if (!object || leaves[parent] !== open) continue;
    const nodes = object.patterns.filter(([matcher]) => matched.has(matcher)).map(([, n]) => n);
    const declared = object.properties.get(name);
    if (declared !== undefined) nodes.push(declared);
    const isOther = !object.known.has(name) &&
      !object.knownPatterns.some((matcher) => matched.has(matcher));
    if (isOther && object.additional !== undefined) nodes.push(object.additional);
    for (const node of nodes) links.push({ node, parent, isCounted: false });
  }
  child = plans.child(links);
  plan.children.set(key, child);
  return child;
}

/** The next item of an array. */
export function childOfIndex({ plans }: Machine, { plan, leaves, count }: Frame): Child {
  const key = `${keyOfLeaves(leaves)}${count}`;
  let child = plan.children.get(key);
  if (child) return child;
  const links: { node: number; parent: number; isCounted: boolean }[] = [];
  for (const [parent, { array }] of plan.nodes.entries()) {
    if (!array || leaves[parent] !== open) continue;
    const node = array.prefix[count] ?? (count < array.prefix.length ? undefined : array.rest);
    if (node !== undefined) links.push({ node, parent, isCounted: false });
    const { contains } = array;
    if (contains) links.push({ node: contains.node, parent, isCounted: true });
  }
  child = plans.child(links);
  plan.children.set(key, child);
  return child;
}

/** The array when one more item begins, or undefined if none may. */
export function beforeItem(frame: Frame): Frame | undefined {
  const full = placesOf(frame, ({ array }) => array !== undefined && frame.count >= array.max);
  const next = full.length === 0 ? frame : settleFrame({
    ...frame,
    leaves: failing(frame.leaves, full),
  });
  return next === dead ? undefined : next;
}

/** The object when one more property begins, or undefined if none may. */
export function beforeProperty(frame: Frame): Frame | undefined {
  const { length } = frame.keys;
  const full = placesOf(frame, ({ object }) => object !== undefined && length >= object.max);
  const next = full.length === 0 ? frame : settleFrame({
    ...frame,
    leaves: failing(frame.leaves, full),
  });
  return next === dead ? undefined : next;
}

/** Undecided schemas of a container for which something holds. */
export function placesOf(
  { plan, leaves }: Frame,
  holds: (node: Frame["plan"]["nodes"][number]) => boolean,
): number[] {
  const places: number[] = [];
  for (let place = 0; place < leaves.length; place++) {
    if (leaves[place] === open && holds(plan.nodes[place]!)) places.push(place);
  }
  return places;
}

/** Names an object can still take. */
export interface NameOptions {
  /** Those that some schema names, as UTF-8 bytes, one character each. */
  readonly names: readonly string[];
  /** Whether names that no schema knows are fine. */
  readonly isFree: boolean;
  /** Matchers of which a name may match one. */
  readonly patterns: readonly number[];
}

const options = new WeakMap<Frame, NameOptions>();

/** The names that may come next; `frame` is what {@link beforeProperty} gave. */
export function nameOptions(machine: Machine, frame: Frame): NameOptions {
  const known = options.get(frame);
  if (known) return known;
  const isViable = (name: string, matched: ReadonlySet<number>) =>
    viableChild(machine, frame, childOfKey(machine, frame, name, matched)) !== undefined;
  const names: string[] = [];
  for (const name of frame.plan.names) {
    if (frame.keys.includes(name)) continue;
    const matched = matchersOf(machine, frame, name);
    if (nameFailures(frame, name, matched) && isViable(name, matched)) {
      names.push(latin1(name));
    }
  }
  const found: NameOptions = {
    names,
    // A name no schema knows: one that could not be a declared one.
    isFree: takesOtherNames(machine, frame) && isViable(unknownName, new Set()),
    patterns: patternsOf(frame).filter((matcher) => isViable(unknownName, new Set([matcher]))),
  };
  options.set(frame, found);
  return found;
}

/** Whether names may be others than a list of `propertyNames`. */
function takesOtherNames({ matchers }: Machine, frame: Frame): boolean {
  const hit = placesOf(frame, ({ object }) => {
    const rule = object?.names;
    return rule !== undefined && (rule.max < 0 || rule.matchers.some((id) => matchers[id]!.values));
  });
  return hit.length === 0 ||
    settleFrame({ ...frame, leaves: failing(frame.leaves, hit) }) !== dead;
}

/** Stands for every name that is in no schema; a lone surrogate is in none. */
const unknownName = "\ud800";

function patternsOf({ plan }: Frame): number[] {
  const all = plan.nodes.flatMap(({ object }) =>
    object?.patterns.map(([matcher]) => matcher) ?? []
  );
  return [...new Set(all)];
}

/** The matchers of the plan's names that match one. */
export function matchersOf({ matchers, budget }: Machine, { plan }: Frame, name: string) {
  return new Set(plan.nameMatchers.filter((id) => matchers[id]!.matches(name, budget)));
}

/** The object without the schemas whose `propertyNames` refuse a name; undefined if it is dead. */
export function nameFailures(
  frame: Frame,
  name: string,
  matched: ReadonlySet<number>,
): Frame | undefined {
  const length = [...name].length;
  const hit = placesOf(
    frame,
    ({ object }) => object?.names !== undefined && !namesAllow(object.names, length, matched),
  );
  if (hit.length === 0) return frame;
  const next = settleFrame({ ...frame, leaves: failing(frame.leaves, hit) });
  return next === dead ? undefined : next;
}

function namesAllow(rule: StringRule, length: number, matched: ReadonlySet<number>): boolean {
  return length >= rule.min && length <= rule.max && rule.matchers.every((id) => matched.has(id));
}

const isAscii = /^[\0-\x7f]*$/;

/** Text as UTF-8 bytes, one character each. */
export function latin1(text: string): string {
  if (isAscii.test(text)) return text;
  return Array.from(new TextEncoder().encode(text), (byte) => String.fromCharCode(byte)).join("");
}

/** The text of UTF-8 bytes, one character each. */
export function fromLatin1(bytes: string): string {
  if (isAscii.test(bytes)) return bytes;
  return new TextDecoder().decode(Uint8Array.from(bytes, (character) => character.charCodeAt(0)));
}

/** Schemas whose required names can never come: they fail as soon as the object opens. */
export function failImpossible(machine: Machine, frame: Frame): Frame | typeof dead {
  let at = frame;
  for (let changes = true; changes;) {
    const names = new Set(nameOptions(machine, at).names);
    const hit = placesOf(at, ({ object }) =>
      object !== undefined &&
      object.required.some((name) => !at.keys.includes(name) && !names.has(latin1(name))));
    changes = hit.length > 0;
    if (!changes) return at;
    const next = settleFrame({ ...at, leaves: failing(at.leaves, hit) });
    if (next === dead) return dead;
    at = next;
  }
  return at;
}

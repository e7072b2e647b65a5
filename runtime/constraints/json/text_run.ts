/** The inside of strings and names. */
import type { DfaState } from "../regex/dfa.ts";
import { endOnce } from "./closing.ts";
import { absent, leavesOf } from "./evaluate.ts";
import { dead, failing, type Frame, settle, settleFrame, type Value } from "./frames.ts";
import { type Lex, lexString, plain, strictTargets } from "./lexer.ts";
import {
  beforeProperty,
  childOfKey,
  fromLatin1,
  latin1,
  type Machine,
  nameFailures,
  nameOptions,
  placesOf,
  viableChild,
  viableUnknown,
} from "./members.ts";
import type { Plan } from "./plans.ts";
import { jsonType, type StringRule } from "./program.ts";
import { frameState, type JsonState } from "./state.ts";
import { fail, open, pass } from "./verdict.ts";

/** What a plan asks of strings. */
interface TextPlan {
  readonly matchers: readonly number[];
  readonly rules: readonly (readonly [number, StringRule])[];
  /** Lengths from here on make no difference, unless a greatest length is above. */
  readonly cap: number;
}

const textPlans = new WeakMap<Plan, TextPlan>();

/** What a plan asks of strings, worked out once. */
export function textPlan(plan: Plan): TextPlan {
  let made = textPlans.get(plan);
  if (!made) {
    const rules = plan.nodes.flatMap(({ string }, place) =>
      string ? [[place, string] as const] : []
    );
    const bounds = rules.flatMap(([, { min, max }]) => [min, max + 1]).filter(Number.isFinite);
    made = {
      rules,
      matchers: rules.flatMap(([, rule]) => rule.matchers),
      cap: Math.max(0, ...bounds),
    };
    textPlans.set(plan, made);
  }
  return made;
}

/** After the opening quote of a value. */
export function startString(
  machine: Machine,
  state: JsonState,
  { plan, links }: Value,
): JsonState | undefined {
  const leaves = leavesOf(plan, jsonType.string);
  const { matchers } = textPlan(plan);
  const begun: JsonState = {
    ...state,
    mode: "string",
    value: { plan, leaves, links },
    isFresh: false,
    space: 0,
    lex: plain,
    text: "",
    length: 0,
    runs: matchers.map((id) => machine.matchers[id]!.start),
  };
  return settled(machine, begun, true);
}

/** After the opening quote of a name. */
export function startName(machine: Machine, state: JsonState): JsonState | undefined {
  const frame = beforeProperty(state.frame!);
  if (!frame) return undefined;
  const runs = frame.plan.nameMatchers.map((id) => machine.matchers[id]!.start);
  return { ...frameState("key", frame, state.raw), lex: plain, runs };
}

/** The state after a byte inside a string or name. */
export function stepText(machine: Machine, state: JsonState, byte: number): JsonState | undefined {
  const lex = lexString(state.lex, byte);
  if (!lex) return undefined;
  if (lex === plain && state.lex === plain && isUnwatched(state)) return state;
  machine.budget.spend(1);
  if (lex.kind === "end") {
    return state.mode === "key" ? endName(machine, state) : endString(machine, state);
  }
  if (lex.kind === "char" || lex.kind === "utf8") {
    return feed(machine, state, lex, lex.out ?? [byte]);
  }
  if (!isStrict(state)) return settled(machine, { ...state, lex });
  if (lex.kind === "pair" || lex.kind === "pairU") return undefined;
  const isPossible = strictTargets(lex).some((point) =>
    feed(machine, state, plain, [point]) !== undefined
  );
  return isPossible ? { ...state, lex } : undefined;
}

/** Whether every character has one spelling, so that escapes can be judged before they end. */
function isStrict({ mode, runs, frame }: JsonState): boolean {
  return mode === "key" || runs.length > 0 || frame?.items !== undefined;
}

/** Whether nothing watches the characters of a string. */
export function isUnwatched({ mode, value, frame, length }: JsonState): boolean {
  if (mode === "key" || frame?.isCapturing) return false;
  const { rules, cap } = textPlan(value!.plan);
  if (rules.length === 0) return true;
  return rules.every(([place, rule]) =>
    value!.leaves[place] !== open || (rule.matchers.length === 0 && rule.max === Infinity)
  ) && length >= cap;
}

function feed(
  machine: Machine,
  state: JsonState,
  lex: Lex,
  bytes: readonly number[],
): JsonState | undefined {
  const { mode, frame } = state;
  const ids = mode === "key" ? frame!.plan.nameMatchers : textPlan(state.value!.plan).matchers;
  let runs = state.runs;
  if (ids.length > 0) {
    machine.budget.spend(ids.length);
    runs = state.runs.map((run, i) => {
      let at: DfaState | null = run;
      for (const byte of bytes) at &&= machine.matchers[ids[i]!]!.step(at, byte, machine.budget);
      return at;
    });
  }
  const isKept = mode === "key" || frame?.items !== undefined;
  const text = isKept ? state.text + String.fromCharCode(...bytes) : "";
  if (mode === "key") return settledName(machine, { ...state, lex, runs, text });
  const { cap } = textPlan(state.value!.plan);
  const length = lex.kind === "char" ? Math.min(state.length + 1, cap) : state.length;
  return settled(machine, { ...state, lex, runs, text, length });
}

/** Fails the schemas whose matchers or lengths no string can satisfy any more. */
function settled(machine: Machine, state: JsonState, isFirst = false): JsonState | undefined {
  const { plan, leaves, links } = state.value!;
  const { rules } = textPlan(plan);
  machine.budget.spend(1 + rules.length);
  if (rules.length === 0) return isFirst ? settledValue(state, state.value!) : state;
  const isBetween = state.lex.kind === "char";
  const hit: number[] = [];
  let run = 0;
  for (const [place, rule] of rules) {
    const end = run + rule.matchers.length;
    if (leaves[place] === open && isHopeless(machine, state, rule, [run, end], isBetween)) {
      hit.push(place);
    }
    run = end;
  }
  for (const [root, places] of plan.groups) {
    if (leaves[root] !== fail && isGroupHopeless(machine, state, places)) hit.push(root);
  }
  // Nothing new is known: what contains the value knows all of it already.
  if (hit.length === 0 && state.mode === "string" && !isFirst) return state;
  return settledValue(state, { plan, leaves: failing(leaves, hit), links });
}

function settledValue(state: JsonState, value: Value): JsonState | undefined {
  const frame = settle(state.frame, value, absent);
  return frame === dead ? undefined : { ...state, frame, value };
}

function isHopeless(
  machine: Machine,
  state: JsonState,
  { matchers, min, max }: StringRule,
  [from, to]: readonly [number, number],
  isBetween: boolean,
): boolean {
  // A character that has begun counts.
  if (state.length + (isBetween ? 0 : 1) > max) return true;
  for (let i = from; i < to; i++) {
    const run = state.runs[i];
    if (!run) return true;
    const matcher = machine.matchers[matchers[i - from]!]!;
    if (state.frame?.items && matcher.values && isUsedUp(state, matcher.values)) return true;
    if (!isBetween || (min === 0 && max === Infinity)) continue;
    const [least, most] = matcher.span(run);
    if (state.length + least > max || state.length + most < min) return true;
  }
  return false;
}

/** The same for schemas that must all hold: each matcher within the lengths of all of them. */
function isGroupHopeless(
  machine: Machine,
  state: JsonState,
  places: readonly number[],
): boolean {
  const { rules } = textPlan(state.value!.plan);
  const group = rules.filter(([place]) => places.includes(place)).map(([, rule]) => rule);
  if (group.length < 2) return false;
  const min = Math.max(...group.map((rule) => rule.min));
  const max = Math.min(...group.map((rule) => rule.max));
  if (min > max) return true;
  let run = 0;
  return rules.some(([place, rule]) => {
    const from = run;
    run += rule.matchers.length;
    return places.includes(place) &&
      isHopeless(machine, state, { ...rule, min, max }, [from, run], state.lex.kind === "char");
  });
}

/** Whether every listed string that begins like this one is already an item of the array. */
function isUsedUp({ text, frame }: JsonState, values: readonly string[]): boolean {
  return !values.some((value) =>
    latin1(value).startsWith(text) && !frame!.items!.includes(JSON.stringify(value))
  );
}

function endString(machine: Machine, state: JsonState): JsonState | undefined {
  const { plan, links } = state.value!;
  const { rules } = textPlan(plan);
  const leaves = state.value!.leaves.slice();
  let run = 0;
  for (const [place, { matchers, min, max }] of rules) {
    const runs = state.runs.slice(run, run += matchers.length);
    if (leaves[place] !== open) continue;
    const holds = state.length >= min && state.length <= max &&
      runs.every((r) => r?.isAccepting);
    leaves[place] = holds ? pass : fail;
  }
  const raw = state.raw === undefined ? undefined : `${state.raw}"`;
  return endOnce(machine, state, { plan, leaves, links }, raw);
}

/** Whether a name can still become one that the object can take. */
function settledName(machine: Machine, state: JsonState): JsonState | undefined {
  const frame = hopefulNames(machine, state);
  if (!frame) return undefined;
  const { names, isFree, patterns } = nameOptions(machine, frame);
  const isHopeful = isFree || names.some((name) => name.startsWith(state.text)) ||
    patterns.some((id) => state.runs[frame.plan.nameMatchers.indexOf(id)]);
  return isHopeful ? { ...state, frame } : undefined;
}

/** The object without the schemas whose `propertyNames` no longer match; undefined if it is dead. */
function hopefulNames(machine: Machine, { frame, runs }: JsonState): Frame | undefined {
  machine.budget.spend(1);
  const { plan } = frame!;
  const hit = plan.nameMatchers.length === 0 ? [] : placesOf(
    frame!,
    ({ object }) =>
      object?.names?.matchers.some((id) => !runs[plan.nameMatchers.indexOf(id)]) ?? false,
  );
  if (hit.length === 0) return frame;
  const next = settleFrame({ ...frame!, leaves: failing(frame!.leaves, hit) });
  return next === dead ? undefined : next;
}

function endName(machine: Machine, state: JsonState): JsonState | undefined {
  const { plan } = state.frame!;
  const name = fromLatin1(state.text);
  if (state.frame!.keys.includes(name)) return undefined;
  const matched = new Set(plan.nameMatchers.filter((_, i) => state.runs[i]?.isAccepting));
  const frame = nameFailures(state.frame!, name, matched);
  if (!frame) return undefined;
  const child = childOfKey(machine, frame, name, matched);
  const withName = { ...frame, keys: [...frame.keys, name].sort() };
  // What no schema knows by name changes nothing else: it is judged once for all such names.
  const value = plan.names.has(name)
    ? viableChild(machine, withName, child)
    : viableUnknown(machine, frame, child);
  return value && { ...frameState("colon", withName, state.raw), value };
}

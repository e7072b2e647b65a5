/** The inside of a number. Source: RFC 8259, section 6. */
import { endOnce } from "./closing.ts";
import { absent, leavesOf } from "./evaluate.ts";
import { dead, settle, type Value } from "./frames.ts";
import type { Machine } from "./members.ts";
import {
  digitLimits,
  digitsFor,
  hasTooManyDigits,
  joinRules,
  judgeBeginning,
  judgeNumber,
} from "./numbers.ts";
import type { Leaves, Plan } from "./plans.ts";
import { jsonType } from "./program.ts";
import type { JsonState } from "./state.ts";
import { fail, open, pass, type Verdict } from "./verdict.ts";

/** Parts of a number. */
const part = {
  minus: 0,
  zero: 1,
  whole: 2,
  point: 3,
  fraction: 4,
  e: 5,
  sign: 6,
  exponent: 7,
} as const;

/** Whether a number may end here, as far as its form goes. */
export function isWholeNumber({ phase }: JsonState): boolean {
  return phase === part.zero || phase === part.whole || phase === part.fraction ||
    phase === part.exponent;
}

/** The first byte of a number: a digit or a minus. */
export function startNumber(
  machine: Machine,
  state: JsonState,
  { plan, links }: Value,
  byte: number,
): JsonState | undefined {
  const leaves = leavesOf(plan, jsonType.number);
  const frame = settle(state.frame, { plan, leaves, links }, absent);
  if (frame === dead) return undefined;
  const phase = byte === 0x2d ? part.minus : byte === 0x30 ? part.zero : part.whole;
  const begun: JsonState = {
    ...state,
    mode: "number",
    frame,
    value: { plan, leaves, links },
    isFresh: false,
    space: 0,
    text: "",
    length: 0,
    phase,
  };
  return advance(machine, begun, byte, phase);
}

/** The state after a byte of the number; null if the schema refuses it, undefined if it is none. */
export function stepNumber(
  machine: Machine,
  state: JsonState,
  byte: number,
): JsonState | null | undefined {
  const phase = phaseAfter(state.phase, byte);
  if (phase === undefined) return undefined;
  const isExponent = phase >= part.e;
  if (isExponent && isTracked(state)) return null;
  return advance(machine, state, byte, phase) ?? null;
}

function phaseAfter(phase: number, byte: number): number | undefined {
  const isDigit = byte >= 0x30 && byte <= 0x39;
  const isE = byte === 0x65 || byte === 0x45;
  switch (phase) {
    case part.minus:
      return isDigit ? byte === 0x30 ? part.zero : part.whole : undefined;
    case part.zero:
    case part.whole:
      if (isDigit) return phase === part.whole ? part.whole : undefined;
      return byte === 0x2e ? part.point : isE ? part.e : undefined;
    case part.point:
      return isDigit ? part.fraction : undefined;
    case part.fraction:
      return isDigit ? part.fraction : isE ? part.e : undefined;
    case part.e:
      if (byte === 0x2b || byte === 0x2d) return part.sign;
      return isDigit ? part.exponent : undefined;
    default:
      return isDigit ? part.exponent : undefined;
  }
}

function isTracked({ value }: JsonState): boolean {
  return value!.plan.nodes.some((node) => node.number !== undefined);
}

function advance(
  machine: Machine,
  state: JsonState,
  byte: number,
  phase: number,
): JsonState | undefined {
  const length = phase === state.phase && phase !== part.minus ? state.length + 1 : 1;
  if (length > digitsOf(phase)) return undefined;
  // Without schemas that look at it, only the number of digits matters.
  if (!isTracked(state) && !state.frame?.isCapturing) return { ...state, phase, length, text: "" };
  const text = state.text + String.fromCharCode(byte);
  const { plan, links } = state.value!;
  machine.budget.spend(100 * plan.nodes.length);
  if (phase < part.e && hasTooManyDigits(text, digitsOfPlan(state.value!))) return undefined;
  const leaves = judge(state.value!, text);
  if (leaves === state.value!.leaves) return { ...state, phase, length, text };
  const frame = settle(state.frame, { plan, leaves, links }, absent);
  return frame === dead
    ? undefined
    : { ...state, phase, length, text, frame, value: { plan, leaves, links } };
}

function digitsOf(phase: number): number {
  if (phase === part.fraction) return digitLimits.fraction;
  return phase === part.exponent ? digitLimits.exponent : digitLimits.whole;
}

function judge({ plan, leaves }: Value, text: string): Leaves {
  if (/e/i.test(text)) return leaves;
  const digits = digitsOfPlan({ plan, leaves });
  const next = leaves.map((verdict, place): Verdict => {
    const { number } = plan.nodes[place]!;
    if (verdict !== open || !number) return verdict as Verdict;
    return judgeBeginning(text, number, digits);
  });
  for (const [root, places] of plan.groups) {
    const rules = places.flatMap((place) => plan.nodes[place]!.number ?? []);
    if (rules.length < 2 || next[root] === fail) continue;
    if (judgeBeginning(text, joinRules(rules), digits) === fail) next[root] = fail;
  }
  return next.every((verdict, place) => verdict === leaves[place]) ? leaves : next;
}

/** The rules never change while the number is written, so neither does what they allow. */
const digitsByPlan = new WeakMap<Plan, number>();

function digitsOfPlan({ plan }: Pick<Value, "plan" | "leaves">): number {
  let digits = digitsByPlan.get(plan);
  if (digits === undefined) {
    digits = digitsFor(plan.nodes.flatMap(({ number }) => number ?? []));
    digitsByPlan.set(plan, digits);
  }
  return digits;
}

/**
 * The state after the number has ended.
 *
 * @param raw the captured text up to the number's last digit
 */
export function endNumber(
  machine: Machine,
  state: JsonState,
  raw: string | undefined,
): JsonState | undefined {
  if (!isWholeNumber(state)) return undefined;
  const { plan, links } = state.value!;
  const leaves = state.value!.leaves.map((verdict, place) => {
    const { number } = plan.nodes[place]!;
    if (verdict !== open) return verdict;
    return number ? judgeNumber(state.text, number) : pass;
  });
  return endOnce(machine, state, { plan, leaves, links }, raw);
}

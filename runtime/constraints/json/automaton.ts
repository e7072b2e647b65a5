/**
 * JSON texts that satisfy a schema, byte by byte.
 *
 * One reader of JSON, and beside it every schema that applies to the value being written. A byte is
 * refused when the verdicts say that no valid text begins like this. See `plans.ts`
 * and `evaluate.ts`.
 */
import type { FreeText } from "../byte_constraint.ts";
import { Budget } from "../regex/budget.ts";
import { canGoOn, closeContainer, endValue } from "./closing.ts";
import { absent, leavesOf } from "./evaluate.ts";
import { dead, failing, type Frame, settle, type Value } from "./frames.ts";
import { plain } from "./lexer.ts";
import type { SchemaLimits } from "./limits.ts";
import { Matcher } from "./matchers.ts";
import {
  beforeItem,
  childOfIndex,
  failImpossible,
  type Machine,
  placesOf,
  viableChild,
} from "./members.ts";
import { endNumber, isWholeNumber, startNumber, stepNumber } from "./number_run.ts";
import { Plans } from "./plans.ts";
import { jsonType, type SchemaProgram } from "./program.ts";
import { frameState, type JsonState, StateKeys, valueState } from "./state.ts";
import { freeCharacters, freeText } from "./free_text.ts";
import { startName, startString, stepText } from "./text_run.ts";
import { fail, open, pass } from "./verdict.ts";

/** White space in a row. Unbounded, it would let a model fill its whole answer with it. */
const maxSpace = 64;

const isSpace = (byte: number) => byte === 0x20 || byte === 0x0a || byte === 0x0d || byte === 0x09;

/** The reader of one schema's texts. */
export class JsonAutomaton {
  readonly #machine: { -readonly [K in keyof Machine]: Machine[K] };
  readonly #keys = new StateKeys();
  readonly #maxSpace: number;

  constructor(program: SchemaProgram, limits: SchemaLimits, allowsSpace: boolean) {
    this.#maxSpace = allowsSpace ? maxSpace : 0;
    this.#machine = {
      plans: new Plans(program, limits.maxParallel),
      matchers: program.matchers.map((spec) => new Matcher(spec)),
      maxTextDepth: limits.maxTextDepth,
      budget: new Budget(limits.maxMaskSteps),
    };
    this.#root = program.root;
  }
  readonly #root: number;

  /** The beginning, or undefined if no text satisfies the schema as far as can be told there. */
  start(budget: Budget): JsonState | undefined {
    this.#machine.budget = budget;
    const plan = this.#machine.plans.of([this.#root]);
    const value = { plan, leaves: plan.initial, links: [] };
    const isViable = Object.values(jsonType).some((type) => {
      const presence = type === jsonType.object ? undefined : absent;
      return settle(undefined, { ...value, leaves: leavesOf(plan, type) }, presence) !== dead;
    });
    return isViable ? valueState(undefined, value, undefined, false) : undefined;
  }

  /** Equal for states from which the same texts follow. */
  key(state: JsonState): string {
    return this.#keys.key(state);
  }

  /** Whether the text may end here. */
  isAccepting(state: JsonState): boolean {
    if (state.mode === "done") return true;
    if (state.mode !== "number" || state.frame || !isWholeNumber(state)) return false;
    return endNumber(this.#machine, state, undefined) !== undefined;
  }

  /** Whether the place is between two characters. */
  isBoundary(state: JsonState): boolean {
    return state.lex.kind !== "utf8";
  }

  /** How many characters may come next, whichever they are: see `ByteAutomaton`. */
  freeCharacters(state: JsonState): number {
    return freeCharacters(this.#machine, state);
  }

  /** What any text that may come next changes: see `ByteAutomaton`. */
  freeText(state: JsonState): FreeText<JsonState> | undefined {
    return freeText(state);
  }

  /** The state after a byte, or null if no valid text goes on with it. */
  step(state: JsonState, byte: number, budget: Budget): JsonState | null {
    this.#machine.budget = budget;
    const { raw } = state;
    const next = this.#step(state, byte);
    // Where something ends or begins, the byte has been added already.
    if (!next || raw === undefined || next.raw !== raw) return next ?? null;
    return { ...next, raw: raw + String.fromCharCode(byte) };
  }

  #step(state: JsonState, byte: number): JsonState | undefined {
    switch (state.mode) {
      case "string":
      case "key":
        return stepText(this.#machine, state, byte);
      case "number":
        return this.#stepNumber(state, byte);
      case "literal":
        return this.#stepLiteral(state, byte);
      case "done":
        return undefined;
      default:
        return isSpace(byte) ? this.#stepSpace(state) : this.#stepStructure(state, byte);
    }
  }

  #stepSpace(state: JsonState): JsonState | undefined {
    return state.space >= this.#maxSpace ? undefined : { ...state, space: state.space + 1 };
  }

  #stepStructure(state: JsonState, byte: number): JsonState | undefined {
    const { mode, frame, raw } = state;
    if (mode === "value") return this.#startValue(state, byte);
    if (mode === "colon") {
      return byte === 0x3a ? valueState(frame, state.value, raw, false) : undefined;
    }
    if (mode === "name") {
      if (byte === 0x7d && state.isFresh) return this.#close(state);
      if (byte !== 0x22 || !canGoOn(this.#machine, frame!)) return undefined;
      return startName(this.#machine, state);
    }
    if (byte === (frame!.isObject ? 0x7d : 0x5d)) return this.#close(state);
    return byte === 0x2c ? this.#comma(frame!, raw) : undefined;
  }

  #close(state: JsonState): JsonState | undefined {
    const raw = state.raw === undefined
      ? undefined
      : state.raw + (state.frame!.isObject ? "}" : "]");
    return closeContainer(this.#machine, { ...state, raw });
  }

  #comma(frame: Frame, raw: string | undefined): JsonState | undefined {
    if (!canGoOn(this.#machine, frame)) return undefined;
    if (frame.isObject) return frameState("name", frame, raw);
    const text = raw === undefined ? undefined : `${raw},`;
    return this.#itemState(beforeItem(frame)!, text, false);
  }

  #itemState(frame: Frame, raw: string | undefined, isFresh: boolean): JsonState {
    const at = frame.items && raw !== undefined ? { ...frame, itemAt: raw.length } : frame;
    return valueState(
      at,
      viableChild(this.#machine, at, childOfIndex(this.#machine, at)),
      raw,
      isFresh,
    );
  }

  #startValue(state: JsonState, byte: number): JsonState | undefined {
    if (byte === 0x5d && state.isFresh) return this.#close(state);
    const { value } = state;
    if (!value) return undefined;
    if (byte === 0x22) return startString(this.#machine, state, value);
    if (byte === 0x7b) return this.#open(state, value, true);
    if (byte === 0x5b) return this.#open(state, value, false);
    if (byte === 0x2d || (byte >= 0x30 && byte <= 0x39)) {
      return startNumber(this.#machine, state, value, byte);
    }
    return this.#startLiteral(state, value, byte);
  }

  #open(state: JsonState, value: Value, isObject: boolean): JsonState | undefined {
    const { frame: parent, raw } = state;
    const depth = (parent?.depth ?? 0) + 1;
    if (depth > this.#machine.maxTextDepth) return undefined;
    const { plan, links } = value;
    const leaves = leavesOf(plan, isObject ? jsonType.object : jsonType.array);
    const settled = settle(parent, { plan, leaves, links }, isObject ? undefined : absent);
    if (settled === dead) return undefined;
    const isUnique = !isObject &&
      plan.nodes.some((node, place) => leaves[place] === open && node.array?.isUnique);
    const isCapturing = isUnique || (settled?.isCapturing ?? false);
    const frame: Frame = {
      plan,
      leaves,
      links,
      isObject,
      parent: settled,
      depth,
      keys: [],
      count: 0,
      contained: [],
      items: isUnique ? [] : undefined,
      isCapturing,
      itemAt: 0,
    };
    return this.#fresh(frame, isCapturing ? `${raw ?? ""}${isObject ? "{" : "["}` : undefined);
  }

  /** An empty container, if it can be closed or get a member. */
  #fresh(frame: Frame, raw: string | undefined): JsonState | undefined {
    const machine = this.#machine;
    if (frame.isObject) {
      const possible = failImpossible(machine, frame);
      if (possible === dead) return undefined;
      const state = { ...frameState("name", possible, raw), isFresh: true };
      return canGoOn(machine, possible) || this.#close(state) ? state : undefined;
    }
    const first = beforeItem(frame);
    const state = first
      ? this.#itemState(first, raw, true)
      : valueState(frame, undefined, raw, true);
    // What failed for a first item does not fail for none.
    return state.value || this.#close({ ...state, frame }) ? state : undefined;
  }

  #startLiteral(state: JsonState, value: Value, byte: number): JsonState | undefined {
    const word = byte === 0x74 ? "true" : byte === 0x66 ? "false" : byte === 0x6e ? "null" : "";
    if (word === "") return undefined;
    const type = word === "null" ? jsonType.null : jsonType.boolean;
    const bit = word === "null" ? 1 : word === "true" ? 2 : 4;
    const { plan, links } = value;
    const leaves = leavesOf(plan, type).map((verdict, place) =>
      verdict !== open ? verdict : (plan.nodes[place]!.literals & bit) !== 0 ? pass : fail
    );
    if (state.frame?.items?.includes(word)) {
      const hit = placesOf(state.frame, ({ array }) => array?.isUnique ?? false);
      const frame = { ...state.frame, leaves: failing(state.frame.leaves, hit) };
      if (settle(frame.parent, frame) === dead) return undefined;
    }
    const frame = settle(state.frame, { plan, leaves, links }, absent);
    if (frame === dead) return undefined;
    const next: JsonState = {
      ...state,
      mode: "literal",
      frame,
      value: { plan, leaves, links },
      text: word.slice(1),
      isFresh: false,
      space: 0,
      lex: plain,
    };
    // Only the end tells whether the container can go on.
    return this.#endLiteral(next, word) ? next : undefined;
  }

  #stepLiteral(state: JsonState, byte: number): JsonState | undefined {
    if (state.text.charCodeAt(0) !== byte) return undefined;
    if (state.text.length > 1) return { ...state, text: state.text.slice(1) };
    return this.#endLiteral(state, state.text);
  }

  #endLiteral(state: JsonState, rest: string): JsonState | undefined {
    const raw = state.raw === undefined ? undefined : state.raw + rest;
    return endValue(this.#machine, state.frame, state.value!, raw);
  }

  #stepNumber(state: JsonState, byte: number): JsonState | undefined {
    const next = stepNumber(this.#machine, state, byte);
    if (next !== undefined) return next ?? undefined;
    const after = endNumber(this.#machine, state, state.raw);
    if (!after || after.mode === "done") return undefined;
    return isSpace(byte) ? this.#stepSpace(after) : this.#stepStructure(after, byte);
  }
}

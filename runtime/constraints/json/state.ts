/** Where a text is: what the automaton knows between two bytes. */
import type { DfaState } from "../regex/dfa.ts";
import { keyOfLeaves } from "./evaluate.ts";
import type { Frame, Value } from "./frames.ts";
import { type Lex, plain } from "./lexer.ts";

/** What may come next. */
export type Mode =
  /** A value, or the end of an empty array. */
  | "value"
  /** A name, or the end of an empty object. */
  | "name"
  | "key"
  | "colon"
  | "string"
  | "number"
  | "literal"
  /** A comma or the end of the container. */
  | "after"
  | "done";

/** Never changed; every byte makes a new one, or keeps the old. */
export interface JsonState {
  readonly mode: Mode;
  readonly frame: Frame | undefined;
  /** The value that is being written or comes next; undefined where none may come. */
  readonly value: Value | undefined;
  /** Whether the container may end before its first member, and has none. */
  readonly isFresh: boolean;
  /** White space in a row. */
  readonly space: number;
  readonly lex: Lex;
  /** Matchers of the string or name that is being written. */
  readonly runs: readonly (DfaState | null)[];
  /** Characters of the string, or digits of this part of the number, as far as they matter. */
  readonly length: number;
  /**
   * What was written, where it matters: bytes of a name or string (one character each), the digits
   * of a number, the rest of a literal.
   */
  readonly text: string;
  /** Part of the number. */
  readonly phase: number;
  /** All bytes since the outermost open array whose items must differ. */
  readonly raw: string | undefined;
}

/** The beginning of a value in a container. */
export function valueState(
  frame: Frame | undefined,
  value: Value | undefined,
  raw: string | undefined,
  isFresh: boolean,
): JsonState {
  return { ...blank, mode: "value", frame, value, raw, isFresh };
}

/** A state about a container alone. */
export function frameState(
  mode: Mode,
  frame: Frame | undefined,
  raw: string | undefined,
): JsonState {
  return { ...blank, mode, frame, raw };
}

const blank: JsonState = {
  mode: "done",
  frame: undefined,
  value: undefined,
  isFresh: false,
  space: 0,
  lex: plain,
  runs: [],
  length: 0,
  text: "",
  phase: 0,
  raw: undefined,
};

/** Texts that are equal exactly where states are. Frames get numbers, so that keys stay short. */
export class StateKeys {
  readonly #frames = new WeakMap<Frame, number>();
  readonly #known = new Map<string, number>();
  readonly #states = new WeakMap<JsonState, string>();
  readonly #links = new WeakMap<Value["links"], number>();
  #next = 0;

  /** Frames kept before all are forgotten; their numbers are never used again. */
  static readonly #maxFrames = 20_000;

  key(state: JsonState): string {
    let key = this.#states.get(state);
    if (key === undefined) {
      const { mode, frame, value, isFresh, space, lex, runs, length, text, phase, raw } = state;
      const where = frame ? this.#frame(frame) : -1;
      const runKeys = runs.map((run) => run ? `${run.key.length}:${run.key}` : "-").join("");
      const lexKey = `${lex.kind}${lex.hex},${lex.high},${lex.need},${lex.lo},${lex.hi}`;
      key = `${mode}${isFresh ? "+" : ""}${where}|${value ? this.#value(value) : ""}|${space},` +
        `${length},${phase}|${lexKey}|${runKeys}|${raw === undefined ? "" : `r${raw}`}|${text}`;
      this.#states.set(state, key);
    }
    return key;
  }

  #value({ plan, leaves, links }: Value): string {
    let id = this.#links.get(links);
    if (id === undefined) this.#links.set(links, id = this.#next++);
    return `${plan.id}.${keyOfLeaves(leaves)}.${id}`;
  }

  #frame(frame: Frame): number {
    let id = this.#frames.get(frame);
    if (id !== undefined) return id;
    const parent = frame.parent ? this.#frame(frame.parent) : -1;
    const parts = [
      frame.isObject,
      parent,
      this.#value(frame),
      frame.keys,
      frame.count,
      frame.contained,
      frame.items ?? 0,
      frame.itemAt,
    ];
    const key = JSON.stringify(parts);
    id = this.#known.get(key);
    if (id === undefined) {
      if (this.#known.size >= StateKeys.#maxFrames) this.#known.clear();
      this.#known.set(key, id = this.#next++);
    }
    this.#frames.set(frame, id);
    return id;
  }
}

/** When a sequence ends, for strategies: see {@link StopCheck}. */
import { ClosedError, type TokenId, type Vocab } from "../runtime/mod.ts";
import {
  advanceStops,
  completedStop,
  startStops,
  type StopState,
  type StopStrings,
} from "./_stop_strings.ts";
import type { StopCheck } from "./strategy.ts";
import { bytesOf, textOf } from "./_utf8.ts";

/** What ends a sequence. */
export interface StopRules {
  readonly vocab: Vocab | undefined;
  readonly strings: StopStrings;
  /** Tokens that end it, those of the model included where they count. */
  readonly tokens: ReadonlySet<TokenId>;
}

/** Bytes so far, shared between forks: newest first. */
interface Tail {
  readonly bytes: Uint8Array;
  readonly before: Tail | undefined;
}

interface CheckState {
  readonly stops: StopState;
  readonly tail: Tail | undefined;
  /** Bytes at the end that belong to a stop string; undefined while the sequence goes on. */
  readonly cut: number | undefined;
}

/** A check for one new sequence. */
export function createStopCheck(rules: StopRules): StopCheck {
  return checkFrom(rules, { stops: startStops(rules.strings), tail: undefined, cut: undefined });
}

function checkFrom(rules: StopRules, start: CheckState): StopCheck {
  let state = start;
  return {
    push(piece) {
      if (state.cut !== undefined) throw new ClosedError("The sequence has ended already");
      state = next(rules, state, piece);
      return state.cut !== undefined;
    },
    text: () => textUpTo(state),
    fork: () => checkFrom(rules, state),
  };
}

function next(rules: StopRules, state: CheckState, piece: TokenId | string): CheckState {
  if (typeof piece === "number" && rules.tokens.has(piece)) return { ...state, cut: 0 };
  const bytes = typeof piece === "string" ? bytesOf(piece) : rules.vocab!.bytes(piece);
  const tail = { bytes, before: state.tail };
  let { stops } = state;
  for (let i = 0; i < bytes.length; i++) {
    stops = advanceStops(rules.strings, stops, bytes[i]!);
    const done = completedStop(rules.strings, stops);
    if (done) return { stops, tail, cut: bytes.length - i - 1 + done.bytes.length };
  }
  return { stops, tail, cut: undefined };
}

function textUpTo({ tail, cut }: CheckState): string {
  const parts: Uint8Array[] = [];
  for (let part = tail; part; part = part.before) parts.push(part.bytes);
  const bytes = parts.reverse().flatMap((part) => [...part]);
  return textOf(bytes.slice(0, bytes.length - (cut ?? 0)));
}

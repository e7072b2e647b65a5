/** Constraints that are functions of the text so far, from modules that the configuration names. */
import type { Constraint } from "../constraint.ts";
import type { Vocab } from "../model.ts";
import { ConstraintError } from "../errors.ts";
import { DeadlineError, type WithDeadline } from "./deadline_error.ts";
import { byteTrie } from "./regex/byte_trie.ts";

/** What a predicate module exports. Both are asked again and again: they must not keep state. */
export interface Predicate {
  /** Whether this is a whole valid text. */
  complete(text: string): boolean;
  /**
   * Whether a valid text may begin like this; may say true too often, never too seldom. Without it
   * every beginning is taken and only whole texts are judged.
   */
  prefix?(text: string): boolean;
}

/** Text so far; bytes of a character that is not complete yet are kept apart. */
export interface PredicateState {
  readonly text: string;
  readonly rest: readonly number[];
}

/** How a predicate is run. */
export interface PredicateOptions {
  /** Stops a call that takes too long. */
  readonly withDeadline: WithDeadline;
  /** Longest time of one call, in ms. */
  readonly limitMs: number;
}

/**
 * A constraint that asks a predicate about whole characters. It has no mask: who needs one asks
 * about token after token. Each call blocks the thread, for `limitMs` at most.
 *
 * @throws {ConstraintError} from `advance` and `accepting`, if the predicate throws, answers anything
 *   but true or false, or does not answer in time; the message says which, `cause` holds the rest
 */
export function predicateConstraint(
  name: string,
  predicate: Predicate,
  vocab: Vocab,
  { withDeadline, limitMs }: PredicateOptions,
): Constraint<PredicateState> {
  const { isText } = byteTrie(vocab);

  function ask(call: "prefix" | "complete", text: string): boolean {
    return askPredicate(name, predicate, call, text, { withDeadline, limitMs });
  }
  return {
    name,
    start: () => ({ text: "", rest: [] }),
    advance(state, token) {
      if (!isText[token]) return undefined;
      const next = append(state, vocab.bytes(token));
      if (!next || next.text === state.text) return next;
      return ask("prefix", next.text) ? next : undefined;
    },
    accepting: ({ text, rest }) => rest.length === 0 && ask("complete", text),
  };
}

/** One question to a predicate. @throws {ConstraintError} as {@link predicateConstraint} */
export function askPredicate(
  name: string,
  predicate: Predicate,
  call: "prefix" | "complete",
  text: string,
  { withDeadline, limitMs }: PredicateOptions,
): boolean {
  if (!predicate[call]) return true;
  let answer: unknown;
  try {
    answer = withDeadline(() => predicate[call]!(text), limitMs);
  } catch (cause) {
    const failure = cause instanceof DeadlineError
      ? `did not answer within ${cause.limitMs} ms and was stopped`
      : "threw an error";
    throw new ConstraintError(name, failure, { cause });
  }
  if (typeof answer === "boolean") return answer;
  throw new ConstraintError(name, `must answer true or false, not ${kindOf(answer)}`);
}

function kindOf(value: unknown): string {
  return value instanceof Promise ? "a promise" : value === null ? "null" : typeof value;
}

const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** The text with further bytes, or undefined if they are not UTF-8. */
function append({ text, rest }: PredicateState, bytes: Uint8Array): PredicateState | undefined {
  const all = [...rest, ...bytes];
  const tail = openBytes(all);
  try {
    const whole = Uint8Array.from(all.slice(0, all.length - tail));
    return { text: text + decoder.decode(whole), rest: all.slice(all.length - tail) };
  } catch {
    return undefined;
  }
}

/** How many bytes at the end begin a character that is not complete. */
function openBytes(bytes: readonly number[]): number {
  for (let back = 1; back <= Math.min(3, bytes.length); back++) {
    const byte = bytes[bytes.length - back]!;
    if (byte >= 0x80 && byte < 0xc0) continue;
    const length = byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : byte >= 0xc0 ? 2 : 1;
    return length > back ? back : 0;
  }
  return 0;
}

/** What is wrong with a module that should be a predicate, if anything is. */
export function predicateProblem(module: unknown): string | undefined {
  if (typeof module !== "object" || module === null) return "it exports nothing";
  const { complete, prefix } = module as Record<string, unknown>;
  if (typeof complete !== "function") return "it does not export a function complete";
  if (prefix !== undefined && typeof prefix !== "function") return "its prefix is no function";
  return undefined;
}

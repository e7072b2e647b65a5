/** Stretches of strings and names in which the characters do not matter. */
import type { FreeText } from "../byte_constraint.ts";
import { plain } from "./lexer.ts";
import { latin1, type Machine, nameOptions } from "./members.ts";
import type { JsonState } from "./state.ts";
import { isUnwatched, textPlan } from "./text_run.ts";
import { open } from "./verdict.ts";

/** How many characters may come next, whichever they are: see `ByteAutomaton`. */
export function freeCharacters(machine: Machine, state: JsonState): number {
  const { mode, frame, value, lex, length } = state;
  if (lex.kind !== "char") return 0;
  if (mode === "key") {
    const isFree = frame!.plan.nameMatchers.length === 0 && nameOptions(machine, frame!).isFree;
    return isFree ? Infinity : 0;
  }
  if (mode !== "string") return 0;
  let free = Infinity;
  for (const [place, rule] of textPlan(value!.plan).rules) {
    if (value!.leaves[place] !== open) continue;
    if (rule.matchers.length > 0) return 0;
    free = Math.min(free, rule.max - length);
  }
  return Math.max(0, free);
}

/** Up to the first character that is written as an escape. */
// deno-lint-ignore no-control-regex -- controls are escaped
const plainBeginning = /^[^"\\\x00-\x1f]*/;

/** What any text that may come next changes: see `ByteAutomaton`. */
export function freeText(state: JsonState): FreeText<JsonState> | undefined {
  const { mode, frame, text } = state;
  if (frame?.isCapturing) return undefined;
  if (mode === "string") return isUnwatched(state) ? { usual: state, exceptions: [] } : undefined;
  const { plan, keys } = frame!;
  if (plan.nodes.some(({ object }) => object?.names)) return undefined;
  // Only names that some schema knows or that are taken differ from the others.
  const special = [...plan.names, ...keys].map(latin1);
  let other = `${text}~`;
  while (special.some((name) => name.startsWith(other))) other += "~";
  return {
    usual: { ...state, lex: plain, text: other },
    exceptions: special.filter((name) => name.startsWith(text))
      .map((name) => plainBeginning.exec(name.slice(text.length))![0]),
  };
}

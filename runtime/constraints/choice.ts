/** The completion is one of a few texts. */
import type { Constraint } from "../constraint.ts";
import type { TokenId, Vocab } from "../model.ts";
import {
  compileTexts,
  type RegexLimits,
  type RegexProgram,
  regexProgramConstraint,
  type RegexState,
} from "./regex/mod.ts";

/** Place in the texts: which bytes may follow. */
export type ChoiceState = RegexState;

/** A constraint that can always give a mask. */
interface ChoiceConstraint extends Constraint<ChoiceState> {
  mask(state: ChoiceState, out: Uint32Array): void;
  forced(state: ChoiceState): readonly TokenId[];
}

/**
 * A constraint that allows exactly the given texts, however their bytes are cut into tokens. Control
 * tokens are never allowed; where a text ends, the completion may.
 *
 * @throws {RangeError} if there is no text, or the vocabulary cannot write one of them
 * @throws {ConstraintTooComplexError} above a limit
 */
export function choiceConstraint(
  vocab: Vocab,
  texts: readonly string[],
  limits: Partial<RegexLimits> = {},
): ChoiceConstraint {
  return choiceProgramConstraint(vocab, texts, compileChoice(texts, limits), limits);
}

/** What can be done before a vocabulary is known. @throws as {@link choiceConstraint} */
export function compileChoice(
  texts: readonly string[],
  limits: Partial<RegexLimits> = {},
): RegexProgram {
  if (texts.length === 0) throw new RangeError("A choice needs at least one text");
  const broken = texts.find((text) => !text.isWellFormed());
  if (broken !== undefined) throw new RangeError("A text has a lone surrogate");
  return compileTexts(texts, limits);
}

/** The constraint of texts that were compiled before. @throws as {@link choiceConstraint} */
export function choiceProgramConstraint(
  vocab: Vocab,
  texts: readonly string[],
  program: RegexProgram,
  limits: Partial<RegexLimits> = {},
): ChoiceConstraint {
  for (const text of texts) requireWritable(text, vocab);
  return regexProgramConstraint(program, vocab, limits, "choice");
}

/** A text that could never come out is a mistake in the request. */
function requireWritable(text: string, vocab: Vocab): void {
  if (vocab.decode(vocab.encode(text)) !== text) {
    throw new RangeError(`The vocabulary cannot write ${JSON.stringify(text)}`);
  }
}

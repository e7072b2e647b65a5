/** The completion is a JSON text that satisfies a JSON Schema. */
import { FormatError } from "../../errors.ts";
import type { Vocab } from "../../model.ts";
import { byteConstraint, type MaskedConstraint } from "../byte_constraint.ts";
import { canWriteAnything, canWriteAscii } from "../tries.ts";
import { Budget } from "../regex/budget.ts";
import { JsonAutomaton } from "./automaton.ts";
import { compileSchema } from "./compile.ts";
import { resolveSchemaLimits, type SchemaLimits } from "./limits.ts";
import type { SchemaProgram } from "./program.ts";
import type { JsonState } from "./state.ts";

export { compileSchema } from "./compile.ts";
export { requireCheckable } from "./in_place.ts";
export { formatPatterns } from "./formats.ts";
export { type Draft, draftOf } from "./resources.ts";
export { resolveSchemaLimits, type SchemaLimits, schemaLimits } from "./limits.ts";
export type { SchemaProgram } from "./program.ts";

/** Place in the text. */
export type { JsonState } from "./state.ts";

/** How texts may be written. */
export interface JsonOptions extends Partial<SchemaLimits> {
  /** Whether white space may stand between the parts of the text, 64 in a row at most. @default true */
  readonly allowsSpace?: boolean;
}

/**
 * A constraint that allows the JSON texts of a schema and no others, however their bytes are cut
 * into tokens. Names of properties come in any order, none twice.
 *
 * Texts left out, so that what is written can be judged at once: numbers of more than 24 digits
 * before or behind the point or an exponent of three digits; where the schema looks at the number,
 * exponents and more digits than a double keeps; other spellings than \" \\ \b \f \n \r \t and \u00XX of characters in names and in strings
 * the schema looks at, lone surrogates, and containers more than 64 deep.
 *
 * @throws {FormatError} for a schema that is malformed, contradictory or not supported, with the place
 * @throws {ConstraintTooComplexError} above a limit, also from `mask` and `advance`
 * @throws {RangeError} if the vocabulary cannot write JSON
 */
export function jsonSchemaConstraint(
  schema: unknown,
  vocab: Vocab,
  options: JsonOptions = {},
): MaskedConstraint<JsonState> {
  const limits = resolveSchemaLimits(limitsOf(options));
  return jsonProgramConstraint(compileSchema(schema, limits), vocab, options);
}

/** The same for a schema that was compiled before. */
export function jsonProgramConstraint(
  program: SchemaProgram,
  vocab: Vocab,
  options: JsonOptions = {},
): MaskedConstraint<JsonState> {
  const limits = resolveSchemaLimits(limitsOf(options));
  const isAscii = !program.matchers.some(({ values }) =>
    values?.some((value) => /[^\0-\x7f]/.test(value))
  );
  if (!canWriteAscii(vocab) || (!isAscii && !canWriteAnything(vocab))) {
    throw new RangeError("The vocabulary cannot write all JSON texts of this schema");
  }
  const automaton = new JsonAutomaton(program, limits, options.allowsSpace ?? true);
  const start = automaton.start(new Budget(limits.maxMaskSteps));
  if (!start) {
    throw new FormatError("it contradicts itself: no value satisfies it", {
      source: "JSON schema",
    });
  }
  const constraint = byteConstraint("json_schema", automaton, start, vocab, limits);
  const bits = new Uint32Array(Math.ceil(vocab.size / 32));
  constraint.mask(start, bits);
  if (bits.every((word) => word === 0)) {
    throw new FormatError("it contradicts itself: no value satisfies it", {
      source: "JSON schema",
    });
  }
  return constraint;
}

function limitsOf({ allowsSpace: _, ...limits }: JsonOptions): Partial<SchemaLimits> {
  return limits;
}

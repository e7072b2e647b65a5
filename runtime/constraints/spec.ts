/** Constraints as requests name them, and as they are once compiled: plain data both. */
import { choiceProgramConstraint, compileChoice } from "./choice.ts";
import type { Constraint } from "../constraint.ts";
import type { ConstraintSpec } from "../constraint_spec.ts";
import type { Vocab } from "../model.ts";
import { compileGrammar, type GrammarProgram, grammarProgramConstraint } from "./grammar/mod.ts";
import {
  compileSchema,
  jsonProgramConstraint,
  requireCheckable,
  resolveSchemaLimits,
  type SchemaLimits,
  type SchemaProgram,
} from "./json/mod.ts";
import {
  compileRegex,
  ConstraintTooComplexError,
  type RegexLimits,
  type RegexProgram,
  regexProgramConstraint,
} from "./regex/mod.ts";

export type { ConstraintSpec } from "../constraint_spec.ts";

/** Bounds of every kind of constraint. */
export interface ConstraintLimits {
  readonly schema: Partial<SchemaLimits>;
  readonly regex: Partial<RegexLimits>;
  /** Bytes of a grammar, and of all texts of a choice. @default 65,536 */
  readonly maxBytes: number;
  /** Texts of a choice. @default 1000 */
  readonly maxChoices: number;
}

/** The defaults. */
export const constraintLimits: ConstraintLimits = {
  // A mask is made in the thread of HTTP: a million steps are about a fifth of a second.
  schema: { cachedMaskBytes: 4 << 20, maxMaskSteps: 1_000_000 },
  regex: { cachedMaskBytes: 4 << 20, maxMaskSteps: 3_000_000 },
  maxBytes: 65_536,
  maxChoices: 1000,
};

/** A constraint that has been read and awaits a vocabulary. */
export type CompiledConstraint =
  & { readonly spec: ConstraintSpec }
  & (
    | { readonly kind: "json_schema"; readonly program: SchemaProgram }
    | { readonly kind: "regex" | "choice"; readonly program: RegexProgram }
    | { readonly kind: "grammar"; readonly program: GrammarProgram }
  );

/**
 * The part of the work that needs no vocabulary. Its result can be sent between threads.
 *
 * @throws {FormatError} for what is malformed, contradictory or not supported
 * @throws {ConstraintTooComplexError} above a limit
 * @throws {RangeError} for an empty choice
 */
export function compileConstraint(
  spec: ConstraintSpec,
  limits: ConstraintLimits = constraintLimits,
): CompiledConstraint {
  switch (spec.kind) {
    case "json_schema": {
      const program = compileSchema(spec.schema, resolveSchemaLimits(limits.schema));
      requireCheckable(program.nodes);
      return { spec, kind: spec.kind, program };
    }
    case "regex":
      return { spec, kind: spec.kind, program: compileRegex(spec.pattern, limits.regex) };
    case "choice": {
      requireSize(spec.choices.length, limits.maxChoices, "texts to choose from");
      requireSize(utf8Length(spec.choices.join("")), limits.maxBytes, "bytes in the choice");
      return { spec, kind: spec.kind, program: compileChoice(spec.choices, limits.regex) };
    }
    case "grammar":
      requireSize(utf8Length(spec.grammar), limits.maxBytes, "bytes in the grammar");
      return { spec, kind: spec.kind, program: compileGrammar(spec.grammar) };
  }
}

function requireSize(size: number, limit: number, what: string): void {
  if (size > limit) throw new ConstraintTooComplexError(what, limit);
}

function utf8Length(text: string): number {
  return new TextEncoder().encode(text).length;
}

/**
 * The constraint over a vocabulary; its first mask is made at once.
 *
 * @throws {FormatError} if no text satisfies it
 * @throws {ConstraintTooComplexError} above a limit
 * @throws {RangeError} if the vocabulary cannot write its texts
 */
export function bindConstraint(
  compiled: CompiledConstraint,
  vocab: Vocab,
  limits: ConstraintLimits = constraintLimits,
): Constraint {
  const { spec } = compiled;
  switch (compiled.kind) {
    case "json_schema":
      return erase(jsonProgramConstraint(compiled.program, vocab, {
        ...limits.schema,
        allowsSpace: spec.kind === "json_schema" && spec.allowsSpace,
      }));
    case "regex":
      return erase(regexProgramConstraint(compiled.program, vocab, limits.regex));
    case "choice":
      return erase(
        choiceProgramConstraint(
          vocab,
          spec.kind === "choice" ? spec.choices : [],
          compiled.program,
          limits.regex,
        ),
      );
    case "grammar":
      return erase(grammarProgramConstraint(compiled.program, vocab));
  }
}

/** Strategies hand states back unread, so their type is nobody's business. */
function erase<S>(constraint: Constraint<S>): Constraint {
  const { mask, forced } = constraint;
  return {
    name: constraint.name,
    start: () => constraint.start(),
    advance: (state, token) => constraint.advance(state as S, token),
    accepting: (state) => constraint.accepting(state as S),
    ...mask ? { mask: (state, out) => mask(state as S, out) } : {},
    ...forced ? { forced: (state) => forced(state as S) } : {},
  };
}

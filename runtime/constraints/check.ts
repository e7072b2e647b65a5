/** A second look at a finished text, by other means than the ones that wrote it. */
import { Validator } from "@cfworker/json-schema";
import type { Vocab } from "../model.ts";
import { draftOf, formatPatterns } from "./json/mod.ts";
import {
  bindConstraint,
  compileConstraint,
  type ConstraintLimits,
  type ConstraintSpec,
} from "./spec.ts";

/** Says whether a whole text satisfies a constraint. */
export type TextCheck = (text: string) => boolean;

/**
 * The check of a constraint that compiles. JSON goes through a reader and a validator that know
 * nothing of our automata (`@cfworker/json-schema`, which interprets schemas and needs no `eval`);
 * the other kinds are read again from the beginning, byte by byte.
 *
 * @throws {FormatError} | {ConstraintTooComplexError} as `compileConstraint`
 */
export function createTextCheck(spec: ConstraintSpec, limits?: ConstraintLimits): TextCheck {
  if (spec.kind === "json_schema") return schemaCheck(spec.schema);
  if (spec.kind === "choice") return (text) => spec.choices.includes(text);
  const constraint = bindConstraint(compileConstraint(spec, limits), bytesVocab(), limits);
  return (text) => {
    let state: unknown = constraint.start();
    for (const byte of new TextEncoder().encode(text)) {
      state = constraint.advance(state, byte);
      if (state === undefined) return false;
    }
    return constraint.accepting(state);
  };
}

function schemaCheck(schema: unknown): TextCheck {
  const validator = validatorOf(schema);
  return (text) => {
    let value: unknown;
    try {
      value = JSON.parse(text);
    } catch {
      return false;
    }
    return validator.validate(value).valid;
  };
}

/** It marks the schemas it has seen, so it gets a copy, with what it checks as we check it. */
function validatorOf(schema: unknown): Validator {
  type Schema = ConstructorParameters<typeof Validator>[0];
  const draft = draftOf(schema);
  try {
    return new Validator(adapted(schema, false) as Schema, draft, true);
  } catch {
    // Two identifiers that are one to it, mostly properties called "id" of old drafts.
    return new Validator(adapted(schema, true) as Schema, draft, true);
  }
}

const values = new Set(["enum", "const", "default", "examples"]);

/**
 * A copy without formats that are annotations here, without multiples of fractions, which it judges
 * with rounded numbers, and, on request, without inner identifiers.
 */
function adapted(schema: unknown, dropsIds: boolean, isRoot = true): unknown {
  if (Array.isArray(schema)) return schema.map((item) => adapted(item, dropsIds, false));
  if (typeof schema !== "object" || schema === null) return schema;
  const kept = Object.entries(schema).filter(([key, value]) => {
    if (key === "multipleOf") return Number.isInteger(value);
    if (typeof value !== "string") return true;
    if (key === "format") return formatPatterns.has(value);
    return isRoot || !dropsIds || (key !== "id" && key !== "$id");
  });
  return Object.fromEntries(
    kept.map(([key, value]) => [
      key,
      values.has(key) ? structuredClone(value) : adapted(value, dropsIds, false),
    ]),
  );
}

/** The 256 bytes as tokens. */
function bytesVocab(): Vocab {
  const bytes = Array.from({ length: 256 }, (_, byte) => Uint8Array.of(byte));
  return {
    size: 256,
    fingerprint: "bytes",
    bos: undefined,
    stopTokens: new Set(),
    isSpecial: () => false,
    bytes: (token) => bytes[token]!,
    piece: (token) => `<0x${token.toString(16).padStart(2, "0")}>`,
    encode: (text) => [...new TextEncoder().encode(text)],
    decode: (tokens) => new TextDecoder().decode(Uint8Array.from(tokens)),
    chat: undefined,
  };
}

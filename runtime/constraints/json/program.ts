/** A compiled JSON Schema: plain data, so that it can be made in a Worker and sent over. */
import type { Nfa } from "../regex/nfa.ts";
import type { Decimal } from "./decimal.ts";

/** JSON types as bits. */
export const jsonType = {
  null: 1,
  boolean: 2,
  number: 4,
  string: 8,
  array: 16,
  object: 32,
} as const;

/** Every type. */
export const anyType = 63;

/** One schema. Numbers that name other schemas are indices into {@link SchemaProgram.nodes}. */
export interface SchemaNode {
  readonly id: number;
  /** Allowed types, bits of {@link jsonType}; 0 for the schema `false`. */
  readonly types: number;
  /** Allowed literals: bit 0 null, bit 1 true, bit 2 false. */
  readonly literals: number;
  readonly number: NumberRule | undefined;
  readonly string: StringRule | undefined;
  readonly array: ArrayRule | undefined;
  readonly object: ObjectRule | undefined;
  readonly allOf: readonly number[];
  /** Each group needs at least one. */
  readonly anyOf: readonly (readonly number[])[];
  /** Each group needs exactly one. */
  readonly oneOf: readonly (readonly number[])[];
  readonly not: readonly number[];
  readonly conditions: readonly Condition[];
  /** A schema for the whole object that applies when it has the property. */
  readonly dependentSchemas: readonly (readonly [string, number])[];
}

/** `if`, `then` and `else`; -1 for one that is absent. */
export interface Condition {
  readonly test: number;
  readonly then: number;
  readonly otherwise: number;
}

/** Bounds are inclusive or exclusive. */
export interface NumberRule {
  readonly min: Decimal | undefined;
  readonly minIsExclusive: boolean;
  readonly max: Decimal | undefined;
  readonly maxIsExclusive: boolean;
  /** Positive divisors of the value; 1 for integers. */
  readonly multiples: readonly Decimal[];
  /** The only values allowed. */
  readonly values: readonly Decimal[] | undefined;
  /** Draft 4 counts 1.0 as no integer. */
  readonly hasNoPoint: boolean;
}

/** All matchers must match; lengths count code points. */
export interface StringRule {
  readonly matchers: readonly number[];
  readonly min: number;
  readonly max: number;
}

export interface ArrayRule {
  readonly prefix: readonly number[];
  /** Schema of the items behind the prefix. */
  readonly rest: number | undefined;
  readonly min: number;
  readonly max: number;
  readonly contains:
    | { readonly node: number; readonly min: number; readonly max: number }
    | undefined;
  readonly isUnique: boolean;
}

export interface ObjectRule {
  readonly properties: ReadonlyMap<string, number>;
  /** Matcher of the name, schema of the value. */
  readonly patterns: readonly (readonly [number, number])[];
  /** Schema of properties that are in none of `known` and match none of `knownPatterns`. */
  readonly additional: number | undefined;
  readonly known: ReadonlySet<string>;
  readonly knownPatterns: readonly number[];
  readonly required: readonly string[];
  readonly min: number;
  readonly max: number;
  readonly names: StringRule | undefined;
  readonly dependentRequired: readonly (readonly [string, readonly string[]])[];
}

/** What a string must match, over the UTF-8 bytes of the decoded string. */
export interface MatcherSpec {
  readonly nfa: Nfa;
  /** One per state of the automaton: whether the end can be reached, */
  readonly alive: Uint8Array;
  /** the least number of characters until the end, */
  readonly least: Float64Array;
  /** and the greatest, Infinity if there is none. */
  readonly most: Float64Array;
  /** The strings, where it is a list. */
  readonly values: readonly string[] | undefined;
}

/** A whole schema. */
export interface SchemaProgram {
  readonly nodes: readonly SchemaNode[];
  readonly root: number;
  readonly matchers: readonly MatcherSpec[];
  /** Keywords that a reader may take for checks and that are none here: formats without a pattern. */
  readonly notes: readonly string[];
}

/** Bounds of one JSON Schema. */
import { ConstraintTooComplexError } from "../regex/budget.ts";

/** All are whole numbers above zero. Above one, the schema is refused, never cut. */
export interface SchemaLimits {
  /** UTF-8 bytes of the schema as compact JSON. @default 65,536 */
  readonly maxBytes: number;
  /** Schemas inside schemas, as written. @default 32 */
  readonly maxDepth: number;
  /** Properties declared in all objects together. @default 1000 */
  readonly maxProperties: number;
  /** Values of all enumerations together. @default 1000 */
  readonly maxEnumValues: number;
  /** References followed while compiling. @default 1000 */
  readonly maxReferences: number;
  /** UTF-8 bytes of one pattern. @default 4096 */
  readonly maxPatternBytes: number;
  /** Largest number in a counted repetition of a pattern. @default 1000 */
  readonly maxRepeat: number;
  /** Automaton states of all patterns and enumerations together. @default 60,000 */
  readonly maxStates: number;
  /** Counted work of compiling. @default 4,000,000 */
  readonly maxCompileSteps: number;
  /** Schemas that apply to one value at once. @default 1000 */
  readonly maxParallel: number;
  /** Steps for one mask or one token. @default 3,000,000 */
  readonly maxMaskSteps: number;
  /** Arrays and objects inside each other in the text. @default 64 */
  readonly maxTextDepth: number;
  /** Bytes of masks kept. @default 16 MiB */
  readonly cachedMaskBytes: number;
}

/** The defaults: section 10 of the wire contract where it has one. */
export const schemaLimits: SchemaLimits = {
  maxBytes: 65_536,
  maxDepth: 32,
  maxProperties: 1000,
  maxEnumValues: 1000,
  maxReferences: 1000,
  maxPatternBytes: 4096,
  maxRepeat: 1000,
  maxStates: 60_000,
  maxCompileSteps: 4_000_000,
  maxParallel: 1000,
  maxMaskSteps: 3_000_000,
  maxTextDepth: 64,
  cachedMaskBytes: 16 << 20,
};

/** Limits with the defaults filled in. @throws {RangeError} naming a limit out of range */
export function resolveSchemaLimits(limits: Partial<SchemaLimits>): SchemaLimits {
  const all = { ...schemaLimits, ...limits };
  for (const [name, value] of Object.entries(all)) {
    if (!Number.isSafeInteger(value) || value < 1) {
      throw new RangeError(`${name} is ${value}: it must be a whole number above 0`);
    }
  }
  return all;
}

/** Counts towards one limit. */
export class Tally {
  #count = 0;
  constructor(readonly what: string, readonly limit: number) {}

  /** @throws {ConstraintTooComplexError} above the limit */
  add(count = 1): void {
    this.#count += count;
    if (this.#count > this.limit) throw new ConstraintTooComplexError(this.what, this.limit);
  }
}

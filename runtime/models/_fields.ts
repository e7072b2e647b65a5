/** Reads one field at a time from a parsed config, each with its range. */
import { FormatError } from "../errors.ts";

/** Where a number may lie; whole numbers unless `real`. */
export interface NumberRange {
  readonly min?: number;
  readonly max?: number;
  readonly real?: boolean;
}

/** Values of a config by name. Every method throws a FormatError that names the field. */
export interface Fields {
  has(name: string): boolean;
  /** Absent and null count as undefined. */
  optionalNumber(name: string, range: NumberRange): number | undefined;
  number(name: string, range: NumberRange): number;
  boolean(name: string, absent: boolean): boolean;
  optionalString(name: string): string | undefined;
}

/** @param get value of a field, undefined where it is absent */
export function createFields(get: (name: string) => unknown, source: string): Fields {
  const value = (name: string) => get(name) ?? undefined;
  const fail = (name: string, expected: string): never => {
    const found = JSON.stringify(value(name), (_, x) => typeof x === "bigint" ? `${x}` : x);
    throw new FormatError(`${name} must be ${expected}, is ${found ?? "missing"}`, { source });
  };
  const optionalNumber = (name: string, range: NumberRange): number | undefined => {
    const found = value(name);
    if (found === undefined) return undefined;
    const { min = 1, max = Number.MAX_SAFE_INTEGER, real = false } = range;
    const isRight = typeof found === "number" && (real ? Number.isFinite : Number.isSafeInteger)(
      found,
    ) && found >= min && found <= max;
    return isRight ? found : fail(name, `a ${real ? "" : "whole "}number from ${min} to ${max}`);
  };
  return {
    has: (name) => value(name) !== undefined,
    optionalNumber,
    number: (name, range) => optionalNumber(name, range) ?? fail(name, "given"),
    boolean(name, absent) {
      const found = value(name) ?? absent;
      return typeof found === "boolean" ? found : fail(name, "true or false");
    },
    optionalString(name) {
      const found = value(name);
      return found === undefined || typeof found === "string" ? found : fail(name, "a string");
    },
  };
}

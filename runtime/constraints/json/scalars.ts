/** Keywords about types, numbers, strings and enumerations, and the ones that are refused. */
import type { Compiling } from "./compiling.ts";
import { type Decimal, decimalOf } from "./decimal.ts";
import { formatLengths, formatPatterns } from "./formats.ts";
import { jsonType, type NumberRule, type StringRule } from "./program.ts";
import { type Draft, isObject, type JsonObject, type Place, schemaError } from "./resources.ts";

const typeBits: ReadonlyMap<unknown, number> = new Map(Object.entries(jsonType));

/** `type`: allowed types, and whether numbers must be integers. */
export function readTypes(
  { type }: JsonObject,
  { at }: Place,
): { readonly types: number; readonly isInteger: boolean } {
  if (type === undefined) return { types: 63, isInteger: false };
  const names: readonly unknown[] = Array.isArray(type) ? type : [type];
  let types = 0;
  for (const name of names) {
    const bit = name === "integer" ? jsonType.number : typeBits.get(name);
    if (bit === undefined) throw schemaError(`"type" has an unknown value`, at);
    types |= bit;
  }
  return { types, isInteger: names.includes("integer") && !names.includes("number") };
}

/** What `enum` and `const` allow, by type. */
interface Values {
  readonly types: number;
  readonly literals: number;
  readonly numbers: readonly Decimal[];
  readonly strings: readonly string[];
  /** Where lists or objects are among the values: schemas of which one must hold. */
  readonly compounds: readonly number[] | undefined;
}

/** @throws {FormatError} | {ConstraintTooComplexError} */
export function readValues(
  schema: JsonObject,
  place: Place,
  compiling: Compiling,
): Values | undefined {
  const lists: (readonly unknown[])[] = [];
  if (schema.enum !== undefined) {
    if (!Array.isArray(schema.enum)) throw schemaError(`"enum" must be a list`, place.at);
    lists.push(schema.enum);
  }
  if (Object.hasOwn(schema, "const") && schema.const !== undefined && compiling.draft !== "4") {
    lists.push([schema.const]);
  }
  if (lists.length === 0) return undefined;
  let values = lists[0]!;
  if (lists[1]) values = values.filter((v) => JSON.stringify(v) === JSON.stringify(lists[1]![0]));
  compiling.tallies.values.add(values.length);
  return sortValues(values, place, compiling);
}

function sortValues(values: readonly unknown[], place: Place, compiling: Compiling): Values {
  let types = 0;
  let literals = 0;
  const numbers: Decimal[] = [];
  const strings: string[] = [];
  const compounds: number[] = [];
  for (const [i, value] of values.entries()) {
    if (value === null) [types, literals] = [types | jsonType.null, literals | 1];
    else if (typeof value === "boolean") {
      [types, literals] = [types | jsonType.boolean, literals | (value ? 2 : 4)];
    } else if (typeof value === "number") {
      types |= jsonType.number;
      numbers.push(decimalOf(String(value)));
    } else if (typeof value === "string") {
      if (!value.isWellFormed()) throw schemaError("a string has a lone surrogate", place.at);
      types |= jsonType.string;
      strings.push(value);
    } else {
      types |= Array.isArray(value) ? jsonType.array : jsonType.object;
      compounds.push(compiling.child(place, `enum/${i}`, schemaOfValue(value)));
    }
  }
  if (compounds.length === 0) return { types, literals, numbers, strings, compounds: undefined };
  const scalars = values.filter((v) => typeof v !== "object" || v === null);
  // An object as a value: the schema that only it satisfies, beside one for the plain values.
  const plain = scalars.length === 0 ? [] : [compiling.child(place, "enum", { enum: scalars })];
  return { types, literals, numbers, strings, compounds: [...plain, ...compounds] };
}

/** The schema that a value alone satisfies. */
function schemaOfValue(value: unknown): unknown {
  if (Array.isArray(value)) {
    return {
      type: "array",
      prefixItems: value.map(schemaOfValue),
      items: false,
      minItems: value.length,
      maxItems: value.length,
    };
  }
  if (!isObject(value)) return { enum: [value] };
  const properties = Object.fromEntries(
    Object.entries(value).map(([key, member]) => [key, schemaOfValue(member)]),
  );
  return {
    type: "object",
    properties,
    required: Object.keys(value),
    additionalProperties: false,
  };
}

/** Bounds, multiples and listed values; undefined where every number is fine. */
export function readNumberRule(
  schema: JsonObject,
  { at }: Place,
  isInteger: boolean,
  values: readonly Decimal[] | undefined,
  draft: Draft,
): NumberRule | undefined {
  const read = (key: string): Decimal | undefined => {
    const value = schema[key];
    if (value === undefined || typeof value === "boolean") return undefined;
    if (typeof value !== "number" || !Number.isFinite(value)) {
      throw schemaError(`"${key}" must be a number`, at);
    }
    return boundOf(key, value);
  };
  const multipleOf = read("multipleOf");
  if (multipleOf && multipleOf.digits <= 0n) throw schemaError(`"multipleOf" must be above 0`, at);
  const lower = bound(
    read("minimum"),
    read("exclusiveMinimum"),
    schema.exclusiveMinimum === true,
    1,
  );
  const upper = bound(
    read("maximum"),
    read("exclusiveMaximum"),
    schema.exclusiveMaximum === true,
    -1,
  );
  const multiples = [...multipleOf ? [multipleOf] : [], ...isInteger ? [decimalOf("1")] : []];
  if (!lower.value && !upper.value && multiples.length === 0 && !values) return undefined;
  return {
    min: lower.value,
    minIsExclusive: lower.isExclusive,
    max: upper.value,
    maxIsExclusive: upper.isExclusive,
    multiples,
    values,
    hasNoPoint: isInteger && draft === "4",
  };
}

/**
 * A bound as an exact number. Beyond 2^53 a reader of JSON may have rounded it outwards, so the
 * nearest double inside is taken: the texts that are allowed satisfy the bound as it was written.
 */
function boundOf(key: string, value: number): Decimal {
  const isBound = key !== "multipleOf" && Math.abs(value) > Number.MAX_SAFE_INTEGER;
  if (!isBound) return decimalOf(String(value));
  const inwards = key.toLowerCase().endsWith("maximum") ? -1 : 1;
  const bits = new BigInt64Array(Float64Array.of(value).buffer);
  // Doubles of one sign are ordered as their bits are.
  bits[0]! += BigInt(inwards * Math.sign(value));
  return decimalOf(BigInt(new Float64Array(bits.buffer)[0]!).toString());
}

/** The tighter of an inclusive and an exclusive bound; draft 4 says exclusive by a flag. */
function bound(
  inclusive: Decimal | undefined,
  exclusive: Decimal | undefined,
  flag: boolean,
  sign: 1 | -1,
) {
  if (!inclusive) return { value: exclusive, isExclusive: exclusive !== undefined };
  if (!exclusive) return { value: inclusive, isExclusive: flag };
  const scale = Math.max(inclusive.scale, exclusive.scale);
  const at = ({ digits, scale: own }: Decimal) => digits * 10n ** BigInt(scale - own);
  const isTighter = sign * Number(at(exclusive) - at(inclusive)) >= 0;
  return { value: isTighter ? exclusive : inclusive, isExclusive: isTighter };
}

/** Length, patterns and listed values; undefined where every string is fine. */
export function readStringRule(
  schema: JsonObject,
  { at }: Place,
  compiling: Compiling,
  values: readonly string[] | undefined,
): StringRule | undefined {
  const matchers: number[] = [];
  let max = Infinity;
  if (schema.pattern !== undefined) {
    if (typeof schema.pattern !== "string") throw schemaError(`"pattern" must be a string`, at);
    matchers.push(compiling.pattern(schema.pattern, at));
  }
  if (schema.format !== undefined) {
    if (typeof schema.format !== "string") throw schemaError(`"format" must be a string`, at);
    const pattern = formatPatterns.get(schema.format);
    if (pattern !== undefined) {
      matchers.push(compiling.pattern(pattern, at));
      max = formatLengths.get(schema.format) ?? max;
    } else compiling.note(`format ${schema.format.slice(0, 64)}`);
  }
  if (values) matchers.push(compiling.list(values));
  const min = readCount(schema, "minLength", at) ?? 0;
  max = Math.min(max, readCount(schema, "maxLength", at) ?? Infinity);
  return matchers.length === 0 && min === 0 && max === Infinity
    ? undefined
    : { matchers, min, max };
}

/** A keyword whose value is a count. @throws {FormatError} */
export function readCount(schema: JsonObject, key: string, at: string): number | undefined {
  const value = schema[key];
  if (value === undefined) return undefined;
  if (typeof value === "number" && Number.isInteger(value) && value >= 0) return value;
  throw schemaError(`"${key}" must be a whole number, at least 0`, at);
}

/** Keywords that say something about validity and that are not enforced while the text is written. */
const refused = ["$dynamicRef", "$recursiveRef", "unevaluatedItems", "propertyDependencies"];

/** @throws {FormatError} naming the first keyword that cannot be enforced */
export function requireSupported(schema: JsonObject, { at }: Place, { draft }: Compiling): void {
  for (const key of refused) {
    const value = schema[key];
    if (value === undefined || value === true) continue;
    if (isObject(value) && Object.keys(value).length === 0) continue;
    throw schemaError(`the keyword "${key}" is not supported`, at);
  }
  for (const key of ["contentEncoding", "contentMediaType", "contentSchema"]) {
    if (schema[key] !== undefined && draft === "7") {
      throw schemaError(`the keyword "${key}" is not supported`, at);
    }
  }
}

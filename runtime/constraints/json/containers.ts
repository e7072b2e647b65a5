/** Keywords about lists and objects. */
import type { Compiling } from "./compiling.ts";
import type { ArrayRule, ObjectRule, StringRule } from "./program.ts";
import { escapeStep, isObject, type JsonObject, type Place, schemaError } from "./resources.ts";
import { readCount } from "./scalars.ts";

/** Undefined where every list is fine. */
export function readArrayRule(
  schema: JsonObject,
  place: Place,
  compiling: Compiling,
): ArrayRule | undefined {
  const { at } = place;
  const items = Array.isArray(schema.items) ? undefined : schema.items;
  const tuple = Array.isArray(schema.items) ? schema.items : schema.prefixItems;
  if (tuple !== undefined && !Array.isArray(tuple)) {
    throw schemaError(`"prefixItems" must be a list`, at);
  }
  const tupleKey = Array.isArray(schema.items) ? "items" : "prefixItems";
  const prefix = (tuple ?? []).map((child, i) => compiling.child(place, `${tupleKey}/${i}`, child));
  const behind = Array.isArray(schema.items) ? schema.additionalItems : items;
  const rest = behind === undefined ? undefined : compiling.child(place, "items", behind);
  const contains = readContains(schema, place, compiling);
  const isUnique = schema.uniqueItems === true;
  const min = readCount(schema, "minItems", at) ?? 0;
  const max = Math.min(
    readCount(schema, "maxItems", at) ?? Infinity,
    isUnique && prefix.length === 0 ? numberOfValues(items) : Infinity,
  );
  const isFree = prefix.length === 0 && rest === undefined && !contains && !isUnique && min === 0;
  return isFree && max === Infinity ? undefined : { prefix, rest, min, max, contains, isUnique };
}

function readContains(
  schema: JsonObject,
  place: Place,
  compiling: Compiling,
): ArrayRule["contains"] {
  if (schema.contains === undefined || compiling.draft === "4") return undefined;
  const counts = compiling.draft !== "7";
  return {
    node: compiling.child(place, "contains", schema.contains),
    min: (counts ? readCount(schema, "minContains", place.at) : undefined) ?? 1,
    max: (counts ? readCount(schema, "maxContains", place.at) : undefined) ?? Infinity,
  };
}

/** How many different values a schema allows at most, where that is easy to tell. */
function numberOfValues(schema: unknown): number {
  if (!isObject(schema)) return Infinity;
  if (Array.isArray(schema.enum)) return new Set(schema.enum.map((v) => JSON.stringify(v))).size;
  if (Object.hasOwn(schema, "const")) return 1;
  return schema.type === "boolean" ? 2 : schema.type === "null" ? 1 : Infinity;
}

/** Undefined where every object is fine. */
export function readObjectRule(
  schema: JsonObject,
  place: Place,
  compiling: Compiling,
): ObjectRule | undefined {
  const { at } = place;
  const properties = mapOf(schema, "properties", at);
  compiling.tallies.properties.add(properties.length);
  const patterns = mapOf(schema, "patternProperties", at);
  compiling.tallies.properties.add(patterns.length);
  const patternNodes = patterns.map(([source, child]): [number, number] => [
    compiling.pattern(source, at),
    compiling.child(place, `patternProperties/${escapeStep(source)}`, child),
  ]);
  const { extra, known } = readAdditional(schema, place, compiling);
  const rule: ObjectRule = {
    properties: new Map(
      properties.map(([name, child]) => [
        name,
        compiling.child(place, `properties/${escapeStep(name)}`, child),
      ]),
    ),
    patterns: patternNodes,
    additional: extra,
    known: new Set([...properties.map(([name]) => name), ...known.names]),
    knownPatterns: [...patternNodes.map(([matcher]) => matcher), ...known.patterns],
    required: readRequired(schema, at),
    min: readCount(schema, "minProperties", at) ?? 0,
    max: readCount(schema, "maxProperties", at) ?? Infinity,
    names: readNames(schema, place, compiling),
    dependentRequired: readDependentRequired(schema, at),
  };
  return isFree(rule) ? undefined : rule;
}

function isFree(rule: ObjectRule): boolean {
  return rule.properties.size === 0 && rule.patterns.length === 0 &&
    rule.additional === undefined && rule.required.length === 0 && rule.min === 0 &&
    rule.max === Infinity && !rule.names && rule.dependentRequired.length === 0;
}

function mapOf(schema: JsonObject, key: string, at: string): [string, unknown][] {
  const value = schema[key];
  if (value === undefined) return [];
  if (!isObject(value)) throw schemaError(`"${key}" must be an object`, at);
  return Object.entries(value);
}

function readRequired({ required }: JsonObject, at: string): readonly string[] {
  if (required === undefined || typeof required === "boolean") return [];
  const isList = Array.isArray(required) && required.every((name) => typeof name === "string");
  if (!isList) throw schemaError(`"required" must be a list of names`, at);
  return [...new Set(required as string[])];
}

/** `propertyNames`, as far as it is about the text of the name alone. */
function readNames(
  schema: JsonObject,
  place: Place,
  compiling: Compiling,
): StringRule | undefined {
  const { propertyNames: names } = schema;
  if (names === undefined || names === true || compiling.draft === "4") return undefined;
  const at = `${place.at}/propertyNames`;
  if (names === false) return { matchers: [], min: 0, max: -1 };
  if (!isObject(names)) throw schemaError("a schema must be an object, true or false", at);
  const known = ["type", "pattern", "enum", "const", "minLength", "maxLength"];
  const notes = ["description", "title", "$comment", "examples", "default"];
  const other = Object.keys(names).find((key) => !known.includes(key) && !notes.includes(key));
  if (other !== undefined) throw schemaError(`"${other}" is not supported for names`, at);
  if (names.type !== undefined && names.type !== "string") return { matchers: [], min: 0, max: -1 };
  const matchers: number[] = [];
  if (typeof names.pattern === "string") matchers.push(compiling.pattern(names.pattern, at));
  for (const list of [names.enum, Object.hasOwn(names, "const") ? [names.const] : undefined]) {
    if (!Array.isArray(list)) continue;
    compiling.tallies.values.add(list.length);
    matchers.push(compiling.list(list.filter((value) => typeof value === "string")));
  }
  return {
    matchers,
    min: readCount(names, "minLength", at) ?? 0,
    max: readCount(names, "maxLength", at) ?? Infinity,
  };
}

function readDependentRequired(
  schema: JsonObject,
  at: string,
): (readonly [string, readonly string[]])[] {
  const out: (readonly [string, readonly string[]])[] = [];
  for (const key of ["dependentRequired", "dependencies"]) {
    for (const [name, needed] of mapOf(schema, key, at)) {
      if (Array.isArray(needed)) out.push([name, readRequired({ required: needed }, at)]);
    }
  }
  return out;
}

/** `additionalProperties`, or `unevaluatedProperties` where it comes to the same. */
function readAdditional(schema: JsonObject, place: Place, compiling: Compiling) {
  const known = { names: [] as string[], patterns: [] as number[] };
  if (schema.additionalProperties !== undefined) {
    const extra = compiling.child(place, "additionalProperties", schema.additionalProperties);
    return { extra, known };
  }
  const value = schema.unevaluatedProperties;
  if (value === undefined || value === true) return { extra: undefined, known };
  collectEvaluated(place, compiling, known, 16);
  return { extra: compiling.child(place, "unevaluatedProperties", value), known };
}

/**
 * Properties that `allOf` and `$ref` evaluate: those always apply, so what they know is known.
 *
 * @throws {FormatError} for applicators that may or may not apply
 */
function collectEvaluated(
  place: Place,
  compiling: Compiling,
  known: { readonly names: string[]; readonly patterns: number[] },
  depth: number,
): void {
  const { schema, at } = place;
  if (!isObject(schema)) return;
  compiling.spend(1000);
  const unsure = ["anyOf", "oneOf", "if", "dependentSchemas", "dependencies"];
  const key = unsure.find((name) => schema[name] !== undefined);
  if (key !== undefined || depth === 0) {
    throw schemaError(`"unevaluatedProperties" beside "${key ?? "$ref"}" is not supported`, at);
  }
  known.names.push(...mapOf(schema, "properties", at).map(([name]) => name));
  for (const [source] of mapOf(schema, "patternProperties", at)) {
    known.patterns.push(compiling.pattern(source, at));
  }
  const inner: Place[] = [];
  if (typeof schema.$ref === "string") inner.push(compiling.resources.follow(schema.$ref, place));
  if (Array.isArray(schema.allOf)) {
    inner.push(...schema.allOf.map((child) => ({ ...place, schema: child })));
  }
  for (const child of inner) {
    const beyond = isObject(child.schema) &&
      (child.schema.additionalProperties ?? child.schema.unevaluatedProperties);
    if (beyond !== undefined && beyond !== false) {
      throw schemaError(
        `"unevaluatedProperties" around other additional ones is not supported`,
        at,
      );
    }
    collectEvaluated(child, compiling, known, depth - 1);
  }
}

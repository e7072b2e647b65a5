/** From one schema to its node: what its keywords say together, and which schemas apply beside it. */
import type { Compiling, MutableNode } from "./compiling.ts";
import { readArrayRule, readObjectRule } from "./containers.ts";
import { compareDecimals } from "./decimal.ts";
import { anyType, jsonType, type NumberRule, type SchemaNode } from "./program.ts";
import { isObject, type JsonObject, type Place, schemaError } from "./resources.ts";
import {
  readNumberRule,
  readStringRule,
  readTypes,
  readValues,
  requireSupported,
} from "./scalars.ts";

/** Fills in the node of the schema written at a place. @throws {FormatError} */
export function fillNode(node: MutableNode, place: Place, compiling: Compiling): void {
  const { schema, at } = place;
  if (schema === true) return;
  if (schema === false) {
    node.types = 0;
    return;
  }
  if (!isObject(schema)) throw schemaError("a schema must be an object, true or false", at);
  const { draft, resources, tallies } = compiling;
  if (typeof schema.$ref === "string") {
    tallies.references.add();
    node.allOf = [compiling.node(resources.follow(schema.$ref, place))];
    if (draft === "4" || draft === "7") return;
  } else if (schema.$ref !== undefined) {
    throw schemaError(`"$ref" must be a string`, at);
  }
  requireSupported(schema, place, compiling);
  fillScalars(node, schema, place, compiling);
  fillApplicators(node, schema, place, compiling);
  node.array = readArrayRule(schema, place, compiling);
  node.object = readObjectRule(schema, place, compiling);
  node.types &= ~impossibleTypes(node);
}

/** Types whose own bounds leave no value: what contradicts itself is refused at once where it can be seen. */
function impossibleTypes({ number, string, array, object }: SchemaNode): number {
  const isCrossed = (rule: { readonly min: number; readonly max: number } | undefined) =>
    rule !== undefined && rule.min > rule.max;
  return (number && hasCrossedBounds(number) ? jsonType.number : 0) |
    (isCrossed(string) ? jsonType.string : 0) |
    (isCrossed(array) ? jsonType.array : 0) |
    (isCrossed(object) ? jsonType.object : 0);
}

function hasCrossedBounds({ min, max, minIsExclusive, maxIsExclusive }: NumberRule): boolean {
  if (!min || !max) return false;
  const order = compareDecimals(min, max);
  return order > 0 || (order === 0 && (minIsExclusive || maxIsExclusive));
}

function fillScalars(
  node: MutableNode,
  schema: JsonObject,
  place: Place,
  compiling: Compiling,
): void {
  const { types, isInteger } = readTypes(schema, place);
  const values = readValues(schema, place, compiling);
  node.types = types & (values?.types ?? anyType);
  node.literals = values?.literals ?? 7;
  node.number = readNumberRule(schema, place, isInteger, values?.numbers, compiling.draft);
  node.string = readStringRule(schema, place, compiling, values?.strings);
  if (values?.compounds) node.anyOf = [...node.anyOf, values.compounds];
}

function fillApplicators(
  node: MutableNode,
  schema: JsonObject,
  place: Place,
  compiling: Compiling,
): void {
  const list = (key: string): number[] | undefined => {
    const value = schema[key];
    if (value === undefined) return undefined;
    if (!Array.isArray(value) || value.length === 0) {
      throw schemaError(`"${key}" must be a list of at least one schema`, place.at);
    }
    return value.map((child, i) => compiling.child(place, `${key}/${i}`, child));
  };
  const one = (key: string) =>
    schema[key] === undefined ? -1 : compiling.child(place, key, schema[key]);
  node.allOf = [...node.allOf, ...list("allOf") ?? []];
  const anyOf = list("anyOf");
  if (anyOf) node.anyOf = [...node.anyOf, anyOf];
  const oneOf = list("oneOf");
  if (oneOf) node.oneOf = [oneOf];
  if (schema.not !== undefined) node.not = [one("not")];
  if (schema.if !== undefined && compiling.draft !== "4") {
    node.conditions = [{ test: one("if"), then: one("then"), otherwise: one("else") }];
  }
  node.dependentSchemas = readDependentSchemas(schema, place, compiling);
}

function readDependentSchemas(
  schema: JsonObject,
  place: Place,
  compiling: Compiling,
): (readonly [string, number])[] {
  const out: (readonly [string, number])[] = [];
  for (const key of ["dependentSchemas", "dependencies"]) {
    const value = schema[key];
    if (value === undefined) continue;
    if (!isObject(value)) throw schemaError(`"${key}" must be an object`, place.at);
    for (const [name, child] of Object.entries(value)) {
      if (Array.isArray(child)) continue;
      out.push([name, compiling.child(place, `${key}/${name}`, child)]);
    }
  }
  return out;
}

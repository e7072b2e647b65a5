/** Typed look-up in parsed JSON, with errors that say which field is wrong. */
import { FormatError } from "../errors.ts";
import { isJsonObject, type Json, type JsonObject, quote } from "../formats/json.ts";

/** The fields of one JSON object. Absent and null are the same: undefined. */
export interface Fields {
  /** Where the object stands, e.g. "model" or "added_tokens[3]". */
  readonly where: string;
  has(key: string): boolean;
  json(key: string): Json | undefined;
  string(key: string): string | undefined;
  number(key: string): number | undefined;
  boolean(key: string): boolean | undefined;
  object(key: string): Fields | undefined;
  map(key: string): JsonObject | undefined;
  list(key: string): readonly Json[] | undefined;
  objects(key: string): readonly Fields[];
  /** An error about this object. */
  error(message: string): FormatError;
}

/** @throws {FormatError} if the value is not an object; the methods throw it for wrong types */
export function fieldsOf(value: Json | undefined, where: string, source: string): Fields {
  const fail = (place: string, message: string) =>
    new FormatError(place === "" ? message : `${place}: ${message}`, { source });
  if (!isJsonObject(value)) throw fail(where, "expected an object");
  const at = (key: string) => where === "" ? key : `${where}.${key}`;
  const json = (key: string) => value.get(key) ?? undefined;
  const typed = <T extends Json>(key: string, is: (v: Json) => v is T, name: string) => {
    const found = json(key);
    if (found === undefined || is(found)) return found;
    throw fail(at(key), `expected ${name}`);
  };
  const list = (key: string) => typed(key, isList, "a list");
  return {
    where,
    has: (key) => json(key) !== undefined,
    json,
    string: (key) => typed(key, (v) => typeof v === "string", "a string"),
    number: (key) => typed(key, (v) => typeof v === "number", "a number"),
    boolean: (key) => typed(key, (v) => typeof v === "boolean", "true or false"),
    object: (key) => json(key) === undefined ? undefined : fieldsOf(json(key), at(key), source),
    map: (key) => typed(key, isJsonObject, "an object"),
    list,
    objects: (key) =>
      (list(key) ?? []).map((item, i) => fieldsOf(item, `${at(key)}[${i}]`, source)),
    error: (message) => fail(where, message),
  };
}

function isList(value: Json): value is readonly Json[] {
  return Array.isArray(value);
}

export { quote };

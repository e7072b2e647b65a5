/** Where references of a schema lead: identifiers, anchors and pointers. */
import { FormatError } from "../../errors.ts";
import { ConstraintTooComplexError } from "../regex/budget.ts";
import type { Tally } from "./limits.ts";

/** The drafts that differ in what we read. */
export type Draft = "4" | "7" | "2019-09" | "2020-12";

export type JsonObject = Readonly<Record<string, unknown>>;

/** Whether a value is an object and no array. */
export function isObject(value: unknown): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** What to throw for a schema that cannot be used. `at` is a pointer into it. */
export function schemaError(message: string, at: string): FormatError {
  return new FormatError(`${message} (at ${at === "" ? "the root" : at})`, {
    source: "JSON schema",
  });
}

/** A schema as written, and where. */
export interface Place {
  readonly schema: unknown;
  readonly base: string;
  readonly at: string;
}

const here = "schema:/";

/** The draft that `$schema` names; without one, the newest. @throws {FormatError} for other ones */
export function draftOf(schema: unknown): Draft {
  const name = isObject(schema) ? schema.$schema : undefined;
  if (typeof name !== "string") return "2020-12";
  if (/draft-0?[34]\b/.test(name)) return "4";
  if (/draft-0?[67]\b/.test(name)) return "7";
  if (name.includes("2019-09")) return "2019-09";
  return "2020-12";
}

const listsOfSchemas = ["allOf", "anyOf", "oneOf", "prefixItems", "items"];
const mapsOfSchemas = [
  "properties",
  "patternProperties",
  "$defs",
  "definitions",
  "dependentSchemas",
  "dependencies",
];
const schemas = [
  "additionalProperties",
  "unevaluatedProperties",
  "additionalItems",
  "unevaluatedItems",
  "propertyNames",
  "contains",
  "items",
  "not",
  "if",
  "then",
  "else",
];

/** Follows references inside one schema. Nothing is ever fetched. */
export class Resources {
  readonly root: Place;
  readonly #byUri = new Map<string, Place>();
  readonly #maxDepth: number;

  constructor(schema: unknown, readonly draft: Draft, maxDepth: number, work: Tally) {
    this.#maxDepth = maxDepth;
    this.root = { schema, base: this.baseOf(schema, here), at: "" };
    this.#byUri.set(here, this.root);
    this.#index(this.root, maxDepth, work);
  }

  /** The base that a schema's references are relative to. */
  baseOf(schema: unknown, base: string): string {
    if (!isObject(schema)) return base;
    if (this.#refHidesSiblings(schema)) return base;
    const id = this.draft === "4" ? schema.id ?? schema.$id : schema.$id;
    if (typeof id !== "string" || id.startsWith("#")) return base;
    return resolveUri(id.replace(/#$/, ""), base) ?? base;
  }

  #refHidesSiblings(schema: JsonObject): boolean {
    return (this.draft === "4" || this.draft === "7") && typeof schema.$ref === "string";
  }

  #index(place: Place, depth: number, work: Tally): void {
    const { schema, base, at } = place;
    if (!isObject(schema)) return;
    work.add();
    if (depth === 0) {
      throw new ConstraintTooComplexError("schemas inside each other", this.#maxDepth);
    }
    if (!this.#byUri.has(base)) this.#byUri.set(base, place);
    if (!this.#refHidesSiblings(schema)) this.#addAnchors(place, schema);
    for (const [child, path] of childSchemas(schema)) {
      const inner = this.baseOf(child, base);
      this.#index({ schema: child, base: inner, at: `${at}/${path}` }, depth - 1, work);
    }
  }

  #addAnchors(place: Place, schema: JsonObject): void {
    const plain = [schema.$anchor, schema.$dynamicAnchor].filter((a) => typeof a === "string");
    for (const id of [schema.$id, schema.id]) {
      if (typeof id === "string" && id.startsWith("#") && id.length > 1) plain.push(id.slice(1));
    }
    for (const name of plain) this.#byUri.set(`${place.base}#${name}`, place);
  }

  /** What a reference at a place leads to. @throws {FormatError} if nothing here */
  follow(reference: string, { base, at }: Place): Place {
    const uri = resolveUri(reference, base);
    if (uri === undefined) throw schemaError(`"$ref" is no URI reference`, at);
    const [document = "", fragment = ""] = uri.split("#");
    const known = fragment === "" ? this.#byUri.get(document) : this.#byUri.get(uri);
    if (known) return known;
    const start = this.#byUri.get(document);
    if (!start) throw schemaError(`"$ref" leads outside the schema, which is not supported`, at);
    return this.#walk(start, fragment, at);
  }

  #walk(start: Place, fragment: string, at: string): Place {
    let pointer: string;
    try {
      pointer = decodeURIComponent(fragment);
    } catch {
      throw schemaError(`"$ref" has a damaged fragment`, at);
    }
    if (!pointer.startsWith("/")) throw schemaError(`"$ref" names an unknown anchor`, at);
    let { schema, base } = start;
    for (const step of pointer.slice(1).split("/")) {
      const key = step.replaceAll("~1", "/").replaceAll("~0", "~");
      const isThere = typeof schema === "object" && schema !== null && Object.hasOwn(schema, key);
      if (!isThere) throw schemaError(`"$ref" leads nowhere`, at);
      schema = (schema as Record<string, unknown>)[key];
      base = this.baseOf(schema, base);
    }
    return { schema, base, at: `${start.at}${pointer}` };
  }
}

function* childSchemas(schema: JsonObject): Generator<[unknown, string]> {
  for (const key of schemas) {
    const value = schema[key];
    if (isObject(value)) yield [value, key];
  }
  for (const key of listsOfSchemas) {
    const value = schema[key];
    if (Array.isArray(value)) {
      for (const [i, child] of value.entries()) yield [child, `${key}/${i}`];
    }
  }
  for (const key of mapsOfSchemas) {
    const value = schema[key];
    if (!isObject(value)) continue;
    for (const [name, child] of Object.entries(value)) yield [child, `${key}/${escapeStep(name)}`];
  }
}

/** A key as a step of a JSON pointer. */
export function escapeStep(key: string): string {
  return key.replaceAll("~", "~0").replaceAll("/", "~1");
}

function resolveUri(reference: string, base: string): string | undefined {
  if (reference.startsWith("#")) return `${base.split("#")[0]}${reference}`;
  return URL.canParse(reference, base) ? new URL(reference, base).href : undefined;
}

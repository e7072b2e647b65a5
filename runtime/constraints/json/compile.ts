/**
 * JSON Schemas as programs.
 *
 * Source: JSON Schema 2020-12, core and validation; drafts 4, 6, 7 and 2019-09 by `$schema`.
 * Differs: what cannot be enforced while the text is written is refused by name, with its place.
 */
import { Budget, ConstraintTooComplexError } from "../regex/budget.ts";
import { compareDecimals } from "./decimal.ts";
import { formatLengths, formatPatterns } from "./formats.ts";
import { type SchemaLimits, Tally } from "./limits.ts";
import { requireProgress } from "./in_place.ts";
import { readArrayRule, readObjectRule } from "./containers.ts";
import { listMatcher, patternMatcher } from "./matchers.ts";
import {
  anyType,
  jsonType,
  type MatcherSpec,
  type NumberRule,
  type SchemaNode,
  type SchemaProgram,
} from "./program.ts";
import {
  type Draft,
  draftOf,
  isObject,
  type JsonObject,
  type Place,
  Resources,
  schemaError,
} from "./resources.ts";
import { readNumberRule, readTypes, readValues, requireSupported } from "./scalars.ts";

/** What the readers of single keywords need. */
export interface Compiling {
  readonly draft: Draft;
  readonly limits: SchemaLimits;
  readonly resources: Resources;
  readonly tallies: { readonly properties: Tally; readonly values: Tally };
  /** Index of the node of a schema written at this place. */
  node(place: Place): number;
  /** The node of the schema under a key of this one. */
  child(place: Place, key: string, schema: unknown): number;
  /** Index of the matcher of a pattern. */
  pattern(source: string, at: string): number;
  /** Index of the matcher of a list of strings. */
  list(values: readonly string[]): number;
  note(text: string): void;
  /** Counts work. @throws {ConstraintTooComplexError} */
  spend(steps: number): void;
}

type MutableNode = { -readonly [K in keyof SchemaNode]: SchemaNode[K] };

/**
 * @throws {FormatError} naming the keyword and its place, for what is malformed or not supported
 * @throws {ConstraintTooComplexError} above a limit
 */
export function compileSchema(schema: unknown, limits: SchemaLimits): SchemaProgram {
  requireDepth(schema, 4 * limits.maxDepth);
  const bytes = new TextEncoder().encode(JSON.stringify(schema) ?? "").length;
  if (bytes > limits.maxBytes) {
    throw new ConstraintTooComplexError("bytes in the schema", limits.maxBytes);
  }
  const nodes: MutableNode[] = [];
  const { compiling, matchers, notes, drain } = createCompiling(schema, limits, nodes);
  const root = compiling.node(compiling.resources.root);
  drain();
  requireProgress(nodes);
  return { nodes, root, matchers, notes: [...notes] };
}

/** Depth is checked with a counter before anything recurses. */
function requireDepth(schema: unknown, max: number): void {
  let level: unknown[] = [schema];
  for (let depth = 0; level.length > 0; depth++) {
    if (depth > max) throw new ConstraintTooComplexError("levels in the schema", max);
    level = level.flatMap((value) =>
      typeof value === "object" && value !== null ? Object.values(value) : []
    );
  }
}

function createCompiling(schema: unknown, limits: SchemaLimits, nodes: MutableNode[]) {
  const draft = draftOf(schema);
  const work = new Tally("schemas", 20_000);
  const budget = new Budget(limits.maxCompileSteps);
  const references = new Tally("references", limits.maxReferences);
  const resources = new Resources(schema, draft, limits.maxDepth, work);
  const known = new Map<unknown, number>();
  const matchers: MatcherSpec[] = [];
  const matcherIds = new Map<string, number>();
  const states = new Tally("automaton states", limits.maxStates);
  const notes = new Set<string>();
  /** Schemas whose nodes are numbered but not filled in: a queue, so that nothing recurses. */
  const todo: { readonly node: MutableNode; readonly place: Place }[] = [];

  function addMatcher(key: string, make: () => MatcherSpec): number {
    let id = matcherIds.get(key);
    if (id === undefined) {
      const matcher = make();
      states.add(matcher.nfa.size);
      id = matchers.push(matcher) - 1;
      matcherIds.set(key, id);
    }
    return id;
  }
  const compiling: Compiling = {
    draft,
    limits,
    resources,
    tallies: {
      properties: new Tally("properties", limits.maxProperties),
      values: new Tally("enumerated values", limits.maxEnumValues),
    },
    node(place) {
      const isShared = typeof place.schema === "boolean" || isObject(place.schema);
      const id = isShared ? known.get(place.schema) : undefined;
      if (id !== undefined) return id;
      work.add();
      const node = emptyNode(nodes.length);
      nodes.push(node);
      known.set(place.schema, node.id);
      todo.push({ node, place });
      return node.id;
    },
    child(place, key, child) {
      const at = `${place.at}/${key}`;
      return compiling.node({ schema: child, base: baseOf(resources, child, place), at });
    },
    pattern(source, at) {
      return addMatcher(`p${source}`, () => {
        try {
          return patternMatcher(source, limits, budget);
        } catch (error) {
          if (!(error instanceof SyntaxError)) throw error;
          throw schemaError(`pattern ${JSON.stringify(source)}: ${error.message}`, at);
        }
      });
    },
    list: (values) =>
      addMatcher(`l${JSON.stringify(values)}`, () => listMatcher(values, limits, budget)),
    note: (text) => void notes.add(text),
    spend: (steps) => budget.spend(steps),
  };
  function drain(): void {
    for (let next = todo.pop(); next; next = todo.pop()) {
      fillNode(next.node, next.place, compiling, references);
    }
  }
  return { compiling, matchers, notes, drain };
}

function baseOf(resources: Resources, schema: unknown, place: Place): string {
  return resources.baseOf(schema, place.base);
}

function emptyNode(id: number): MutableNode {
  return {
    id,
    types: anyType,
    literals: 7,
    number: undefined,
    string: undefined,
    array: undefined,
    object: undefined,
    allOf: [],
    anyOf: [],
    oneOf: [],
    not: [],
    conditions: [],
    dependentSchemas: [],
  };
}

function fillNode(
  node: MutableNode,
  place: Place,
  compiling: Compiling,
  references: Tally,
): void {
  const { schema, at } = place;
  if (schema === true) return;
  if (schema === false) {
    node.types = 0;
    return;
  }
  if (!isObject(schema)) throw schemaError("a schema must be an object, true or false", at);
  const { draft, resources } = compiling;
  if (typeof schema.$ref === "string") {
    references.add();
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

function readStringRule(
  schema: JsonObject,
  { at }: Place,
  compiling: Compiling,
  values: readonly string[] | undefined,
): SchemaNode["string"] {
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

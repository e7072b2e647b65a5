/** What compiling a document keeps: the nodes and matchers there are, what is to do, and what was spent. */
import { Budget } from "../regex/budget.ts";
import { type SchemaLimits, Tally } from "./limits.ts";
import { listMatcher, patternMatcher } from "./matchers.ts";
import { anyType, type MatcherSpec, type SchemaNode } from "./program.ts";
import { type Draft, draftOf, isObject, type Place, Resources, schemaError } from "./resources.ts";

/** What the readers of single keywords need. */
export interface Compiling {
  readonly draft: Draft;
  readonly limits: SchemaLimits;
  readonly resources: Resources;
  readonly tallies: {
    readonly properties: Tally;
    readonly values: Tally;
    readonly references: Tally;
  };
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

/** A node that is being filled in. */
export type MutableNode = { -readonly [K in keyof SchemaNode]: SchemaNode[K] };

/** Numbers schemas and matchers of a document in the order they are met, and counts them. */
export function createCompiling(schema: unknown, limits: SchemaLimits) {
  const draft = draftOf(schema);
  const work = new Tally("schemas", 20_000);
  const budget = new Budget(limits.maxCompileSteps);
  const resources = new Resources(schema, draft, limits.maxDepth, work);
  const nodes: MutableNode[] = [];
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
      references: new Tally("references", limits.maxReferences),
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
      return compiling.node({ schema: child, base: resources.baseOf(child, place.base), at });
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
  /** Fills in all nodes, those of the schemas met on the way too. */
  function drain(fill: (node: MutableNode, place: Place, compiling: Compiling) => void): void {
    for (let next = todo.pop(); next; next = todo.pop()) fill(next.node, next.place, compiling);
  }
  return { compiling, nodes, matchers, notes, drain };
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
